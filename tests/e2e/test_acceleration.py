"""SavedModels that move to a faster engine: the same answers, from outside; and those that may not move."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import SHARED, Served
from servers import ADMIN, DROP_IN, MODELS, WITH_GRPC, admin_url, serving, until

pytestmark = [
    pytest.mark.needs_tensorflow,
    pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed"),
]

MOBILENET = SHARED / "mobilenet" / "mobilenet_v2_float"
PHOTOS = SHARED / "mobilenet" / "mobilenet_v2"
DECIDED = ("moved", "stays")
SECONDS = 60.0
FROM_MEASURING = ("--engine_tolerance=1e-4",)
"""Another tolerance than others': its decisions are not in the cache of these tests."""


def engines(served: Served, model: str) -> dict[str, Any]:
    """Returns what runs each signature of a model, by the administration."""
    answer = requests.get(f"{admin_url(served)}/admin/models/{model}", timeout=30).json()
    found = answer["versions"][0].get("engines", {})
    assert isinstance(found, dict)
    return found


def decided(served: Served, model: str) -> dict[str, Any]:
    """Returns the same, once everything is decided."""

    def is_decided() -> bool:
        found = engines(served, model)
        return bool(found) and all(one["progress"] in DECIDED for one in found.values())

    assert until(is_decided, SECONDS), f"{engines(served, model)}\n{served.log}"
    return engines(served, model)


def picture(shade: float) -> list[Any]:
    """Returns a picture of 224 by 224 points, in one colour with a pattern."""
    return [
        [[shade, (row % 16) / 16 - 0.5, (column % 8) / 8 - 0.5] for column in range(224)]
        for row in range(224)
    ]


def predict(served: Served, model: str, body: object) -> requests.Response:
    return requests.post(f"{served.rest}/v1/models/{model}:predict", json=body, timeout=60)


@pytest.fixture(scope="module")
def accelerated() -> Iterator[Served]:
    with serving(f"m={MOBILENET}", f"photo={PHOTOS}", ADMIN, WITH_GRPC, "--engine=auto") as served:
        yield served


@pytest.mark.needs_shared
def test_a_model_moves_and_answers_the_same(accelerated: Served) -> None:
    body = {"instances": [picture(0.1), picture(-0.7)]}
    moved = decided(accelerated, "m")["serving_default"]
    assert moved["progress"] == "moved", moved
    with serving(f"m={MOBILENET}", "--engine=tensorflow") as reference:
        expected = predict(reference, "m", body).json()["predictions"]
    got = predict(accelerated, "m", body).json()["predictions"]
    for one, other in zip(expected, got, strict=True):
        assert one.index(max(one)) == other.index(max(other))
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 1e-5 * max(one)
    assert engines(accelerated, "m")["serving_default"].get("runs_refused", 0) == 0


@pytest.mark.needs_shared
def test_errors_are_tensorflows_on_either_engine(accelerated: Served) -> None:
    decided(accelerated, "m")
    with serving(f"m={MOBILENET}", "--engine=tensorflow") as reference:
        for body in ({"instances": [[1.0]]}, {"instances": [[[[1.0]]]]}, {"instances": "x"}, {"inputs": {}}):
            expected, got = predict(reference, "m", body), predict(accelerated, "m", body)
            assert (got.status_code, got.text) == (expected.status_code, expected.text)
    empty = predict(accelerated, "m", {"inputs": {"images": []}})
    assert empty.status_code < 500
    assert engines(accelerated, "m")["serving_default"]["progress"] == "moved"


@pytest.mark.needs_shared
@pytest.mark.parametrize("onednn", ["on", "off"])
def test_inputs_of_too_few_dimensions_end_no_process(onednn: str) -> None:
    """oneDNN's convolutions take them for a fault of the program, and TensorFlow's own for the client's."""
    flags = ["--engine=tensorflow", f"--tensorflow_onednn={onednn}"]
    with serving(f"m={MOBILENET}", *flags) as served:
        for few in ([1.0], [[1.0]], [[[1.0]]], []):
            refused = predict(served, "m", {"inputs": few})
            assert refused.status_code == 400 and "4" in refused.json()["error"], refused.text
        assert predict(served, "m", {"instances": [picture(0.1)]}).status_code == 200


@pytest.mark.needs_shared
def test_a_model_that_decodes_pictures_is_cut(accelerated: Served) -> None:
    found = decided(accelerated, "photo")
    assert found["serving_default"]["engine"] == "tensorflow + openvino", found
    panda = base64.b64encode((SHARED / "mobilenet" / "photos" / "panda.jpg").read_bytes()).decode()
    answer = predict(accelerated, "photo", {"instances": [{"b64": panda}]})
    assert answer.json() == {"predictions": ["giant panda"]}
    refused = predict(accelerated, "photo", {"instances": [{"b64": "AAAA"}]})
    assert refused.status_code == 400, refused.text
    assert decided(accelerated, "photo")["serving_default"]["progress"] == "moved"


@pytest.mark.needs_shared
def test_no_request_is_lost_while_a_model_moves(tmp_path: Path) -> None:
    with serving(f"m={MOBILENET}", ADMIN, "--engine=auto", *FROM_MEASURING) as served:
        body, done = {"instances": [picture(0.3)]}, threading.Event()

        def ask() -> list[int]:
            statuses = []
            while not done.is_set():
                statuses.append(predict(served, "m", body).status_code)
            return statuses

        with ThreadPoolExecutor(2) as clients:
            asked = [clients.submit(ask) for _ in range(2)]
            try:
                moved = decided(served, "m")["serving_default"]
                statuses = [predict(served, "m", body).status_code]
            finally:
                done.set()
            statuses += [status for one in asked for status in one.result()]
        assert moved["progress"] == "moved", moved
        assert set(statuses) == {200}


@pytest.mark.needs_shared
def test_what_a_model_takes_in_another_engine_counts(tmp_path: Path) -> None:
    """Within a budget of memory: what the move has taken is measured, told, and leaves less for others."""
    for name in ("first", "m"):
        (tmp_path / name).symlink_to(MODELS / "half_plus_two" if name == "first" else MOBILENET)
    flags = (ADMIN, "--engine=openvino", "--lazy_load", "--memory_budget=4GiB", "--pinned_models=first")
    with serving(f"--models_dir={tmp_path}", *flags, "--metrics_path=/metrics") as served:

        def taken() -> int:
            answer = requests.get(f"{admin_url(served)}/admin/models/m", timeout=30).json()
            return int(answer["versions"][0]["memory_bytes_measured"])

        assert predict(served, "m", {"instances": [picture(0.2)]}).status_code == 200
        loaded = taken()
        assert decided(served, "m")["serving_default"]["progress"] == "moved"
        served.wait_for_line("m version 1 takes .* since its runs moved to another engine")
        assert until(lambda: taken() != loaded)
        page = requests.get(f"{served.rest}/metrics", timeout=30).text
        line = f'servable_model_memory_bytes{{model="m",version="1"}} {taken()}'
        assert line in page.splitlines()


def test_what_another_engine_answers_wrongly_stays(tmp_path: Path) -> None:
    """Small models of every kind that OpenVINO would get wrong: none moves, even where it is forced."""
    names = [one.name for one in MODELS.iterdir() if (one / "1" / "saved_model.pb").is_file()]
    # The first two cannot be loaded as they are, and the last one may never end.
    served_here = sorted(set(names) - {"unknown_op", "tf1_lookup", "normalise"})
    paths = [f"{name}={MODELS / name}" for name in served_here]
    with serving(*paths, ADMIN, "--engine=auto") as served:
        for name in served_here:
            for signature, found in decided(served, name).items():
                assert found["progress"] == "stays", (name, signature, found)


def test_the_drop_in_stays_with_tensorflow(tmp_path: Path) -> None:
    with serving(
        f"--grpc_socket_path={tmp_path / 'socket'}",
        "--port=0",
        f"--model_base_path={MODELS / 'half_plus_two'}",
        "--model_name=m",
        ADMIN,
        command=DROP_IN,
        ready="Running gRPC ModelServer",
    ) as served:
        assert engines(served, "m") == {}


@pytest.mark.needs_shared
def test_optimizing_ahead_prints_the_table_and_the_next_server_measures_nothing(tmp_path: Path) -> None:
    cache = f"--model_cache_dir={tmp_path / 'cache'}"
    command = [sys.executable, "-m", "servable", "optimize", str(MOBILENET), cache]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["mobilenet_v2_float"]["serving_default"]
    assert found["progress"] == "moved"
    with serving(f"mobilenet_v2_float={MOBILENET}", ADMIN, "--engine=auto", cache) as served:
        again = decided(served, "mobilenet_v2_float")["serving_default"]
    # The same times: they are those of the first process.
    assert again["candidates"][-1]["milliseconds"] == found["candidates"][-1]["milliseconds"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    assert "serving_default runs in openvino" in text and "ONE CALLER" in text


@pytest.mark.needs_shared
def test_what_was_prepared_and_is_damaged_is_prepared_again(tmp_path: Path) -> None:
    cache = f"--model_cache_dir={tmp_path / 'cache'}"
    command = [sys.executable, "-m", "servable", "optimize", str(MOBILENET), cache]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    blobs = sorted(tmp_path.glob("cache/engines/*/*.blob"))
    assert blobs
    for blob in blobs:
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 0x40
        blob.write_bytes(content)
    with serving(f"m={MOBILENET}", ADMIN, "--engine=auto", cache) as served:
        assert decided(served, "m")["serving_default"]["progress"] == "moved", served.log
    told = [served.log.count(f"{blob} is damaged: it is removed") for blob in blobs]
    assert told == [1] * len(blobs), served.log
    with serving(f"m={MOBILENET}", ADMIN, "--engine=auto", cache) as served:
        assert decided(served, "m")["serving_default"]["progress"] == "moved", served.log
    assert "is damaged" not in served.log


@pytest.mark.needs_shared
def test_versions_that_go_while_they_are_prepared_do_no_harm(tmp_path: Path) -> None:
    poll = "--file_system_poll_wait_seconds=1"
    put(tmp_path, 1)
    with serving(f"m={tmp_path}", ADMIN, poll, "--engine=auto", *FROM_MEASURING) as served:
        for version in (2, 3):
            put(tmp_path, version)
            served.wait_for_line(rf"loaded m version {version} ")
        assert decided(served, "m")["serving_default"]["progress"] == "moved"


def put(base: Path, version: int) -> None:
    """Copies the model to ``base/VERSION``, which appears atomically."""
    shutil.copytree(MOBILENET / "1", base / "copying")
    (base / "copying").rename(base / str(version))


GOES, COMES = "TensorFlow's session, which no run needs, is let go", "session was loaded again for a run"
RESTING = "--engine_reference_idle_seconds=0.1"


def assert_alike(got: list[list[float]], expected: list[list[float]]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 2e-5 * max(other)


def pictures(count: int) -> dict[str, Any]:
    return {"instances": [picture(0.1 * at) for at in range(count)]}


@pytest.mark.needs_shared
def test_tensorflows_session_goes_and_comes_back_for_a_run(tmp_path: Path) -> None:
    put(tmp_path, 1)
    once = "--file_system_poll_wait_seconds=0"
    with serving(f"m={tmp_path}", ADMIN, once, "--engine=auto", RESTING) as served:
        assert decided(served, "m")["serving_default"]["progress"] == "moved"
        served.wait_for_line(GOES)
        # Racing: each of these shapes is new, and the session may go at any time between two of them.
        with ThreadPoolExecutor(3) as clients:
            answers = list(clients.map(lambda count: predict(served, "m", pictures(count)), range(3, 6)))
        assert [answer.status_code for answer in answers] == [200] * 3
        rows = answers[-1].json()["predictions"]
        for count, answer in enumerate(answers, 3):
            assert_alike(answer.json()["predictions"], rows[:count])
        served.wait_for_line(COMES)
        # It may have come more than once.
        assert until(lambda: served.log.rfind(GOES) > served.log.rfind(COMES)), served.log
        shutil.rmtree(tmp_path / "1")
        for count in (6, 7):
            refused = predict(served, "m", pictures(count))
            assert refused.status_code == 503 and "have gone or changed" in refused.text, refused.text
        # Two rows were compared before it moved.
        assert_alike(predict(served, "m", pictures(2)).json()["predictions"], rows[:2])
        assert served.log.count("session cannot be loaded again") == 1, served.log
        assert engines(served, "m")["serving_default"]["progress"] == "moved"


@pytest.mark.needs_shared
def test_a_version_is_replaced_while_its_session_rests(tmp_path: Path) -> None:
    put(tmp_path, 1)
    poll = "--file_system_poll_wait_seconds=1"
    with serving(f"m={tmp_path}", ADMIN, poll, "--engine=auto", RESTING) as served:
        decided(served, "m")
        served.wait_for_line(GOES)
        put(tmp_path, 2)
        served.wait_for_line(r"unloaded m version 1\b")
        assert predict(served, "m", pictures(2)).status_code == 200
        served.wait_for_line(GOES)
    assert served.process.returncode == 0, served.log
