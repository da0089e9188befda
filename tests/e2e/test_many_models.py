"""Models that are loaded once they are asked for, within a budget of memory, and found in a folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from clients import Stub, answer, await_versions, version_states
from conftest import Served
from model_configs import config_file, entry
from servers import ADMIN, MODELS, WITH_GRPC, admin_url, put_version, serving, until
from tfrecord import WARM_UP, write
from wire import Wire, ask, message, predict

from servable.messages import message_class

pytestmark = pytest.mark.needs_tensorflow

MODEL = "half_plus_two"
LAZY = "--lazy_load"
METRICS = "--metrics_path=/metrics"
STEP_MICROS = 10
"""About what an iteration of the model ``loop`` takes."""


def linked(folder: Path, *names: str, model: str = MODEL) -> Path:
    """Makes models of these names in a folder, all of the same files; returns the folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).symlink_to(MODELS / model, target_is_directory=True)
    return folder


def slow(base: Path, milliseconds: int) -> Path:
    """Makes a model whose load takes about so long: its warm-up runs a loop."""
    version = base / "1"
    shutil.copytree(MODELS / "loop" / "1", version)
    record: Any = message_class("tensorflow.serving.PredictionLog")()
    request = record.predict_log.request
    request.model_spec.name = "loop"
    tensor = request.inputs["steps"]
    tensor.dtype = 9
    tensor.tensor_shape.SetInParent()
    tensor.int64_val.append(milliseconds * 1000 // STEP_MICROS)
    write(version / WARM_UP, [record.SerializeToString()])
    return base


def broken(base: Path) -> Path:
    """Makes a model whose load fails."""
    (base / "1").mkdir(parents=True)
    (base / "1" / "saved_model.pb").write_bytes(b"not a model")
    return base


def admin(served: Served, path: str, method: str = "GET", body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{admin_url(served)}{path}", content, method=method)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def state(served: Served, name: str) -> str:
    """Returns the real state of version 1 of a model."""
    versions = admin(served, f"/admin/models/{name}")["versions"]
    return str(next(one["state"] for one in versions if one["version"] == 1))


def loaded(served: Served) -> set[str]:
    """Returns the models that are in memory."""
    models = admin(served, "/admin/models")["models"]
    return {one["name"] for one in models if any(v["state"] == "AVAILABLE" for v in one["versions"])}


def metrics(served: Served) -> dict[str, float]:
    text = ask(served, "GET", "/metrics").body.decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Served]:
    """Serves ``a`` and ``b`` on demand, over both protocols."""
    folder = linked(tmp_path / "models", "a", "b")
    with serving(f"--models_dir={folder}", LAZY, ADMIN, METRICS, WITH_GRPC) as served:
        yield served


# ---- loads on demand


def test_the_first_request_has_a_model_loaded(two: Served) -> None:
    assert "ready: 2 of 2 models" in two.log
    assert "loaded a version 1" not in two.log
    # Clients are told that it answers; operators, that it is not loaded.
    assert version_states(two, "a") == {1: "AVAILABLE"}
    assert admin(two, "/admin/models/a")["standing"] == "on_demand"
    assert (state(two, "a"), state(two, "b")) == ("START", "START")
    assert ask(two, "GET", "/readyz").status == ask(two, "GET", "/readyz/a").status == 200
    assert answer(two, "a") == 3.0
    assert (state(two, "a"), state(two, "b")) == ("AVAILABLE", "START")
    with Stub(two) as stub:
        assert stub.states("b") == {1: 30}
        assert stub.predict("b", version=1) == 3.0
    seen = metrics(two)
    assert seen['servable_versions{state="AVAILABLE"}'] == 2
    assert seen["servable_load_waits_total"] == 2
    assert seen['servable_model_memory_bytes{model="a",version="1"}'] > 0


def test_metadata_are_told_of_models_that_are_not_loaded(two: Served) -> None:
    reply = ask(two, "GET", "/v1/models/a/metadata")
    assert (reply.status, "signature_def" in json.loads(reply.body)["metadata"]) == (200, True)
    reply = ask(two, "GET", "/v2/models/b")
    assert (reply.status, json.loads(reply.body)["versions"]) == (200, ["1"])
    assert loaded(two) == {"a", "b"}
    assert ask(two, "GET", "/v1/models/none/metadata").status == 404


def test_many_who_wait_for_one_model_are_answered_by_one_load(tmp_path: Path) -> None:
    with (
        serving(f"slow={slow(tmp_path / 'slow', 1000)}", LAZY, METRICS, ADMIN) as served,
        ThreadPoolExecutor(100) as pool,
    ):
        body = {"inputs": 3}
        replies = list(pool.map(lambda _: predict(served, "slow", body).status, range(100)))
        assert replies == [200] * 100
        assert served.log.count("loaded slow version 1") == 1
        assert metrics(served)['servable_model_loads_total{model="slow",outcome="OK"}'] == 1


def test_who_does_not_wait_for_the_end_of_a_load_is_told_and_others_go_on(tmp_path: Path) -> None:
    folder = linked(tmp_path / "models", "good")
    slow(folder / "slow", 6000)
    flags = (LAZY, ADMIN, WITH_GRPC, "--rest_api_timeout_in_ms=1000", "--pinned_models=good")
    with serving(f"--models_dir={folder}", *flags) as served:
        assert answer(served, "good") == 3.0
        reply = predict(served, "slow", {"inputs": 3})
        assert (reply.status, "Timed out" in reply.error) == (504, True)
        with Wire(served) as wire:
            wire.send(message("POST", "/v1/models/slow:predict", '{"inputs": 3}'))
            assert answer(served, "good") == 3.0
        assert state(served, "slow") in ("LOADING", "AVAILABLE")
        with Stub(served) as stub, pytest.raises(grpc.RpcError) as late:
            stub.predict("slow", timeout=0.1)
        assert late.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT)
        assert until(lambda: state(served, "slow") == "AVAILABLE", 60), "the load goes on for the next one"


def test_a_model_that_is_removed_while_it_loads_is_not_ready_any_more(tmp_path: Path) -> None:
    folder = linked(tmp_path / "models", "good")
    slow(folder / "slow", 6000)
    with serving(f"--models_dir={folder}", LAZY, ADMIN) as served, Wire(served) as wire:
        assert version_states(served, "slow") == {1: "AVAILABLE"}
        wire.send(message("POST", "/v1/models/slow:predict", '{"inputs": 3}'))
        assert until(lambda: state(served, "slow") == "LOADING")
        admin(served, "/admin/models/slow", "DELETE")
        assert wire.reply().status == 404
        assert version_states(served, "slow") == {1: "LOADING"}
        assert ask(served, "GET", "/readyz/slow").status == 503


def test_a_model_that_is_removed_before_its_load_has_not_failed(tmp_path: Path) -> None:
    folder = linked(tmp_path / "models", "good", "gone")
    with serving(f"--models_dir={folder}", LAZY, ADMIN, METRICS) as served:
        admin(served, "/admin/models/gone", "DELETE")
        assert until(lambda: version_states(served, "gone") in ({}, {1: "END"}))
        page = ask(served, "GET", "/metrics").text
        assert 'servable_versions{state="FAILED"} 0\n' in page and 'model="gone"' not in page


def test_a_load_that_fails_is_told_and_is_not_tried_by_each_request(tmp_path: Path) -> None:
    folder = linked(tmp_path / "models", "good")
    broken(folder / "broken")
    with serving(f"--models_dir={folder}", LAZY, ADMIN, METRICS) as served:
        replies = [predict(served, "broken", {"instances": [1.0]}) for _ in range(50)]
        assert {reply.status for reply in replies} == {503}
        assert "Model broken version 1 could not be loaded: " in replies[0].error
        assert served.log.count("could not load broken version 1") <= 3
        assert version_states(served, "broken") == {1: "END"}
        assert answer(served, "good") == 3.0
        # Mended, it is there for the next request.
        shutil.rmtree(folder / "broken" / "1")
        put_version(MODEL, folder / "broken", 1)
        assert until(lambda: answer(served, "broken") == 3.0, 60)


def test_a_server_stops_while_requests_wait_for_loads(tmp_path: Path) -> None:
    slow(tmp_path / "slow", 2000)
    with serving(f"slow={tmp_path / 'slow'}", LAZY, ADMIN, may_end=True) as served, Wire(served) as wire:
        wire.send(message("POST", "/v1/models/slow:predict", '{"inputs": 3}'))
        assert until(lambda: state(served, "slow") == "LOADING")
        served.process.terminate()
        reply = wire.reply()
        assert reply.status in (200, 503)
        assert served.process.wait(60) == 0


# ---- versions and labels


def test_versions_and_labels_of_models_that_are_not_loaded(tmp_path: Path) -> None:
    base = tmp_path / "m"
    put_version(MODEL, base, 1)
    put_version(MODEL, base, 2)
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" '
        'model_version_policy { all {} } version_labels { key: "old" value: 1 } } }'
    )
    with serving(f"--model_config_file={config}", LAZY, WITH_GRPC) as served, Stub(served) as stub:
        assert version_states(served, "m") == {1: "AVAILABLE", 2: "AVAILABLE"}
        assert stub.predict("m", label="old") == 3.0
        served.wait_for_line("loaded m version 1")
        assert "loaded m version 2" not in served.log
        assert stub.predict("m") == 3.0, "the latest version, though another one is loaded"
        served.wait_for_line("loaded m version 2")
        put_version(MODEL, base, 3)
        served.wait_for_line("loaded m version 3")
        with pytest.raises(grpc.RpcError) as gone:
            stub.predict("m", version=7)
        assert gone.value.details() == "Servable not found for request: Specific(m, 7)"


def test_a_model_changes_versions_while_it_is_not_loaded(tmp_path: Path) -> None:
    base = tmp_path / "m"
    put_version(MODEL, base, 1)
    with serving(f"m={base}", LAZY) as served:
        put_version(MODEL, base, 2)
        await_versions(served, "m", 2)
        assert "loaded m" not in served.log
        assert answer(served, "m") == 3.0
        served.wait_for_line("loaded m version 2")


def test_a_model_is_pinned_in_its_configuration(tmp_path: Path) -> None:
    folder = linked(tmp_path / "models", "a", "b")
    config = config_file(tmp_path, entry("a", folder / "a", pinned=True), entry("b", folder / "b"))
    with serving(f"--model_config_file={config}", LAZY, ADMIN, "--pinned_models=c,b2") as served:
        assert loaded(served) == {"a"}
        assert admin(served, "/admin/models/a")["pinned"] is True
        assert "pinned" not in admin(served, "/admin/models/b")
        assert "--pinned_models names b2, c, which this server does not have" in served.log
        # By the administration; what is not said stays as it is.
        admin(served, "/admin/models/b", "PUT", {"base_path": str(folder / "b"), "pinned": True})
        assert until(lambda: loaded(served) == {"a", "b"}, 60)
        admin(served, "/admin/models/b", "PUT", {"base_path": str(folder / "b")})
        assert admin(served, "/admin/models/b")["pinned"] is True
        entries = admin(served, "/admin/config")["model_config_list"]["config"]
        assert [one.get("pinned") for one in entries] == [True, True]


def test_a_model_that_is_pinned_while_it_is_broken_is_loaded_once_it_is_mended(tmp_path: Path) -> None:
    base = broken(tmp_path / "m")
    with serving(f"m={base}", LAZY, ADMIN) as served:
        admin(served, "/admin/models/m", "PUT", {"base_path": str(base), "pinned": True})
        served.wait_for_line("could not load m version 1")
        shutil.rmtree(base / "1")
        put_version(MODEL, base, 1)
        served.wait_for_line("loaded m version 1")
        assert loaded(served) == {"m"}


# ---- the budget


def taken(folder: Path, *names: str) -> dict[str, int]:
    """Returns what each load takes, as measured by a server that has loaded another model before."""
    with serving(f"--models_dir={folder}", LAZY, METRICS) as served:
        for name in ("first", *names):
            assert predict(served, name, {"inputs": 1 if name == "loop" else [1.0]}).status == 200
        seen = metrics(served)
    return {name: int(seen[f'servable_model_memory_bytes{{model="{name}",version="1"}}']) for name in names}


def test_the_budget_holds_and_what_is_used_least_leaves(tmp_path: Path) -> None:
    names = [f"m{number:02}" for number in range(20)]
    folder = linked(tmp_path / "models", "first", "pinned", *names)
    budget = max(8 * max(taken(folder, *names[:3]).values()), 1 << 20)
    flags = (LAZY, f"--memory_budget={budget}", "--pinned_models=first,pinned", ADMIN, METRICS)
    with serving(f"--models_dir={folder}", *flags) as served:
        assert loaded(served) == {"first", "pinned"}
        for name in names * 2:
            assert answer(served, name) == 3.0
            assert answer(served, "m00") == 3.0
        seen = metrics(served)
        there = loaded(served)
        each = {name: seen[f'servable_model_memory_bytes{{model="{name}",version="1"}}'] for name in there}
        # Both of these are loaded at the start, in any order. What the first one takes is TensorFlow's, too,
        # which the budget does not count.
        assert sum(each.values()) - max(each["first"], each["pinned"]) <= budget, each
        assert seen["servable_memory_budget_bytes"] == budget
        assert seen["servable_model_rests_total"] > 0
        assert there >= {"first", "pinned", "m00"}, "what is used all the time stays"
        assert len(there) < len(names)


def test_a_model_with_a_request_in_flight_does_not_make_room(tmp_path: Path) -> None:
    names = ("x", "y", "z")
    folder = linked(tmp_path / "models", "first", *names)
    linked(folder, "loop", model="loop")
    sizes = taken(folder, *names, "loop")
    budget = max(sizes["loop"] + 2 * max(sizes[name] for name in names), 1 << 20)
    flags = (LAZY, f"--memory_budget={budget}", "--pinned_models=first", METRICS)
    with serving(f"--models_dir={folder}", *flags) as served:

        def is_in_flight() -> bool:
            name = 'servable_requests_in_flight{model="loop",version="1"'
            return any(value == 1 and key.startswith(name) for key, value in metrics(served).items())

        def stays_meanwhile(seconds: int) -> bool:
            """Returns whether the model was in use, for about so long, for all of the others' loads."""
            assert predict(served, "loop", {"inputs": 1}).status == 200
            before = served.log.count("unloaded loop")
            with Wire(served) as wire:
                body = json.dumps({"inputs": seconds * 1_000_000 // STEP_MICROS})
                wire.send(message("POST", "/v1/models/loop:predict", body))
                assert until(is_in_flight)
                for name in names * 3:
                    assert answer(served, name) == 3.0
                unloads = served.log.count("unloaded loop") - before
                was_long_enough = is_in_flight()
                assert not was_long_enough or unloads == 0
                assert wire.reply().status == 200
            return was_long_enough

        # Nobody knows how fast the machine is.
        assert any(stays_meanwhile(seconds) for seconds in (2, 8, 32))


# ---- folders of models


def test_a_folder_of_models_is_followed(tmp_path: Path) -> None:
    folder = linked(tmp_path / "models", "a")
    with serving(f"--models_dir={folder}", LAZY, ADMIN) as served:
        assert answer(served, "a") == 3.0
        linked(folder, "b")
        assert until(lambda: answer(served, "b") == 3.0, 60)
        (folder / "a").unlink()
        assert until(lambda: predict(served, "a", {"instances": [1]}).status == 404, 60)
        assert loaded(served) == {"b"}


def test_models_are_loaded_by_a_hint(two: Served) -> None:
    address = admin_url(two)
    command = [sys.executable, "-m", "servable", "models", "prefetch", "a", "b", f"--admin_address={address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["a", "1", "AVAILABLE"],
        ["b", "1", "AVAILABLE"],
    ]
    assert loaded(two) == {"a", "b"}
    assert admin(two, "/admin/models/a")["versions"][0]["memory_bytes_measured"] > 0


def test_a_thousand_models_are_known_at_once(tmp_path: Path) -> None:
    names = [f"m{number:03}" for number in range(1000)]
    folder = linked(tmp_path / "models", *names)
    with serving(f"--models_dir={folder}", LAZY, ADMIN, METRICS) as served:
        assert "ready: 1000 of 1000 models" in served.log
        assert metrics(served)['servable_versions{state="START"}'] == 1000
        for name in names[::250]:
            assert answer(served, name) == 3.0
        assert len(loaded(served)) == 4


def test_a_model_that_leaves_and_comes_back_answers_all(tmp_path: Path) -> None:
    """Many different models at once, within a budget that holds few: each request is answered."""
    names = [f"m{number}" for number in range(12)]
    folder = linked(tmp_path / "models", *names)
    flags = (LAZY, "--memory_budget=4MiB", "--pinned_models=m0", "--rest_api_timeout_in_ms=0")
    with serving(f"--models_dir={folder}", *flags) as served, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda name: answer(served, name), names * 4))
        odd = [one for one in answers if one != 3.0]
        assert odd == []
