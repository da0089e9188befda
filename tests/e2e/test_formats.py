"""Models of other formats, each by its engine: both APIs, files by themselves, faults, without TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clients import Stub, available, await_versions, version_states
from conftest import Served
from engines import ANSWER, BODY, FILES, Engine, engine_or_skip, only
from model_configs import config_file, entry
from prometheus import monitoring, samples
from servers import MODELS, ONE_TRY, WITH_GRPC, put_version, run_to_its_end, serving, until
from stubs import own_message
from wire import ask, predict

ENGINES = sorted(FILES)
ALL = {"modelVersionPolicy": {"all": {}}}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine that is installed; without one, the test is skipped with the reason."""
    return engine_or_skip(request.param)


def answered(served: Served, model: str) -> Any:
    """Returns the answer to ``BODY``, or the error's text."""
    reply = predict(served, model, BODY)
    return json.loads(reply.body) if reply.status == 200 else reply.error


def state(served: Served, model: str) -> dict[str, Any]:
    """Returns the status API's report on the only version."""
    (status,) = json.loads(ask(served, "GET", f"/v1/models/{model}").body)["model_version_status"]
    return {"state": status["state"], **status["status"]}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command of ``servable`` to its end."""
    command = [sys.executable, "-m", "servable", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


# ---- a folder of versions


def test_both_apis(engine: Engine) -> None:
    with serving(engine.folder.parent, WITH_GRPC) as served, Stub(served) as stub:
        name = engine.folder.parent.name
        signature = "serving_default(a: float[-1], b: int32[-1]) -> (sum: float[-1], twice: int32[-1])"
        assert f"loaded {name} version 1 from {engine.folder} in " in served.log
        assert signature in served.log
        assert answered(served, name) == ANSWER
        columns = predict(served, name, {"inputs": {"a": [1.0], "b": [2]}})
        assert json.loads(columns.body) == {"outputs": {"sum": [3.0], "twice": [4]}}

        request = own_message("PredictRequest")()
        request.model_spec.name = name
        for alias, dtype, values in (("a", 1, [1.0, 3.0]), ("b", 3, [2, 4])):
            tensor = request.inputs[alias]
            tensor.dtype = dtype
            tensor.tensor_shape.dim.add(size=2)
            (tensor.float_val if dtype == 1 else tensor.int_val).extend(values)
        outputs = stub.call("Predict", request).outputs
        assert list(outputs["sum"].float_val) == [3.0, 7.0]
        assert list(outputs["twice"].int_val) == [4, 8]
        assert stub.states(name) == {1: 30}
        assert version_states(served, name) == {1: "AVAILABLE"}


def test_metadata(engine: Engine) -> None:
    name = engine.folder.parent.name
    with serving(engine.folder.parent, WITH_GRPC) as served, Stub(served) as stub:
        reply = json.loads(ask(served, "GET", f"/v1/models/{name}/metadata").body)
        (signature,) = reply["metadata"]["signature_def"]["signature_def"].values()
        assert {alias: one["dtype"] for alias, one in signature["inputs"].items()} == {
            "a": "DT_FLOAT",
            "b": "DT_INT32",
        }
        assert set(signature["outputs"]) == {"sum", "twice"}
        request = own_message("GetModelMetadataRequest")(metadata_field=["signature_def"])
        request.model_spec.name = name
        described = stub.call("GetModelMetadata", request).metadata["signature_def"]
        assert b"serving_default" in described.value


def test_wrong_requests_are_answered_as_for_saved_models(engine: Engine) -> None:
    name = engine.folder.parent.name
    with serving(engine.folder.parent) as served:
        assert "a" in predict(served, name, {"instances": [{"b": 1}]}).error
        assert predict(served, name, {"instances": [{"a": "text", "b": 1}]}).status == 400
        assert predict(served, name, {"signature_name": "none", **BODY}).status in (400, 404)
        unequal = predict(served, name, {"inputs": {"a": [1.0, 2.0, 3.0], "b": [1, 2]}})
        assert unequal.status >= 400
        assert answered(served, name) == ANSWER


@pytest.mark.needs_tensorflow
def test_versions_of_several_formats(engine: Engine, tmp_path: Path) -> None:
    base = tmp_path / "m"
    put_version("pair", base, 1)
    engine.put(base / "2")
    with serving(f"--model_config_file={config_file(tmp_path, entry('m', base, **ALL))}") as served:
        await_versions(served, "m", 1, 2)
        assert [answered(served, f"m/versions/{version}") for version in (1, 2)] == [ANSWER, ANSWER]


def test_new_versions_are_picked_up(engine: Engine, tmp_path: Path) -> None:
    engine.put(tmp_path / "m" / "1")
    with serving(tmp_path / "m", "--file_system_poll_wait_seconds=1") as served:
        engine.put(tmp_path / "m" / "copying").parent.rename(tmp_path / "m" / "2")
        await_versions(served, "m", 2)
        assert answered(served, "m") == ANSWER


# ---- a file by itself


def test_a_file_is_served_and_followed(engine: Engine, tmp_path: Path) -> None:
    file = engine.put(tmp_path, "net")
    with serving(file, f"mine={file}", "--file_system_poll_wait_seconds=1", ONE_TRY) as served:
        assert [answered(served, name) for name in ("net", "mine")] == [ANSWER, ANSWER]

        fresh = engine.put(tmp_path / "fresh", "net")
        os.replace(fresh, file)
        assert until(lambda: served_loads(served, "net") >= 2), served.log
        assert answered(served, "net") == ANSWER

        fresh.write_bytes(engine.graph[: len(engine.graph) // 2])
        os.replace(fresh, file)
        assert until(lambda: "could not load net version 1" in served.log), served.log
        assert answered(served, "net") == ANSWER

        file.unlink()
        assert until(lambda: available(served, "net") == []), served.log
        assert predict(served, "net", BODY).status == 404
        engine.put(tmp_path, "net")
        await_versions(served, "net", 1)
        assert answered(served, "net") == ANSWER


def served_loads(served: Served, model: str) -> int:
    """Returns how often a version of ``model`` was loaded, according to the log."""
    return sum(f"loaded {model} version 1 from" in line for line in list(served.lines))


def test_a_file_that_is_cut_in_place_ends_nothing(engine: Engine, tmp_path: Path) -> None:
    """What an engine has mapped into memory must not be taken from under it."""
    file = engine.put(tmp_path, "net")
    with serving(file, "--file_system_poll_wait_seconds=1", ONE_TRY) as served:
        for one in [tmp_path / f"net{copy.suffix}" for copy in engine.files]:
            os.truncate(one, 0)
        assert answered(served, "net") == ANSWER
        assert until(lambda: "could not load net version 1" in served.log), served.log
        assert answered(served, "net") == ANSWER


def test_a_file_is_named_by_its_stem_or_its_folder(engine: Engine, tmp_path: Path) -> None:
    files = [
        engine.put(tmp_path / "first"),
        engine.put(tmp_path / "second" / "7"),
        engine.put(tmp_path, "third"),
    ]
    with serving(*files) as served:
        assert [available(served, name) for name in ("first", "second", "third")] == [[1], [7], [1]]


def test_a_file_as_base_path_of_a_config(engine: Engine, tmp_path: Path) -> None:
    file = engine.put(tmp_path, "net")
    later = tmp_path / "later" / file.name
    later.parent.mkdir()
    config = config_file(tmp_path, entry("m", file), entry("later", later))
    with serving(f"--model_config_file={config}", "--file_system_poll_wait_seconds=1") as served:
        assert answered(served, "m") == ANSWER
        assert f"The file of servable later is gone: {later}" in served.log
        engine.put(later.parent, "net")
        await_versions(served, "later", 1)


# ---- what cannot be served


def cut(engine: Engine) -> bytes:
    return engine.graph[: len(engine.graph) // 2]


def foreign(engine: Engine) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


def empty(engine: Engine) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, foreign, empty])
def test_a_bad_file_fails_its_own_version(
    engine: Engine, tmp_path: Path, damage: Callable[[Engine], bytes]
) -> None:
    bad = engine.put(tmp_path / "bad" / "1")
    bad.write_bytes(damage(engine))
    with serving(engine.folder.parent, tmp_path / "bad", ONE_TRY) as served:
        failed = state(served, "bad")
        assert failed["state"] == "END"
        # An engine may not tell a damaged file from one that is beyond it.
        assert failed["error_code"] in ("INVALID_ARGUMENT", "DATA_LOSS", "UNIMPLEMENTED")
        assert bad.name in failed["error_message"] or str(bad.parent) in failed["error_message"]
        assert "could not load bad version 1" in served.log
        assert answered(served, engine.folder.parent.name) == ANSWER
        inspected = run("inspect", bad.parent)
        assert (inspected.returncode, inspected.stdout) == (1, "")
        assert f"servable: {failed['error_code']}: " in inspected.stderr


def test_a_library_that_cannot_be_opened_fails_its_own_models(engine: Engine, tmp_path: Path) -> None:
    other = next((name for name in ENGINES if name != engine.name), "")
    good = engine_or_skip(other)
    library = tmp_path / "of_another_platform.so"
    library.write_bytes(b"\x7fELF of another platform")
    environment = {f"SERVABLE_{engine.name.upper()}_LIBRARY": str(library)}
    models = (engine.folder.parent, good.folder.parent, ONE_TRY)
    with serving(*models, environment=environment) as served:
        failed = state(served, engine.folder.parent.name)
        assert failed["state"] == "END"
        assert str(library) in failed["error_message"]
        assert answered(served, good.folder.parent.name) == ANSWER


# ---- without TensorFlow


def test_a_server_without_tensorflow(engine: Engine, tmp_path: Path) -> None:
    command, environment = only(tmp_path / "site", engine.name)
    base = tmp_path / "unknown" / "1"
    base.mkdir(parents=True)
    (base / "weights").touch()
    models = (engine.folder.parent, MODELS / "half_plus_two", tmp_path / "unknown", ONE_TRY)
    with serving(*models, command=command, environment=environment) as served:
        assert "ready: 1 of 3 models available" in served.log
        assert answered(served, engine.folder.parent.name) == ANSWER
        failed = state(served, "half_plus_two")
        assert failed["error_code"] == "FAILED_PRECONDITION"
        assert 'pip install "servable[cpu]"' in failed["error_message"]
        unknown = state(served, "unknown")
        assert unknown["error_code"] == "NOT_FOUND"
        assert "model.onnx, model.tflite, model.xml" in unknown["error_message"]
        assert f"{base} holds weights; expected saved_model.pb" in served.log


def test_an_engine_that_is_missing_is_named(engine: Engine, tmp_path: Path) -> None:
    other = engine_or_skip(next(name for name in ENGINES if name != engine.name))
    command, environment = only(tmp_path / "site", other.name)
    models = (engine.folder.parent, other.folder.parent, ONE_TRY)
    with serving(*models, command=command, environment=environment) as served:
        failed = state(served, engine.folder.parent.name)
        assert failed["error_code"] == "FAILED_PRECONDITION"
        assert f'pip install "servable[{engine.name}]"' in failed["error_message"]
        assert answered(served, other.folder.parent.name) == ANSWER


@pytest.mark.parametrize("preferred", [True, False])
def test_a_tensorflow_lite_model_beside_a_saved_model(tmp_path: Path, preferred: bool) -> None:
    """Without TensorFlow, so that what is loaded shows."""
    lite = engine_or_skip("tflite")
    put_version("pair", tmp_path / "m", 1)
    lite.put(tmp_path / "m" / "1")
    command, environment = only(tmp_path / "site", "tflite")
    arguments = (tmp_path / "m", f"--prefer_tflite_model={str(preferred).lower()}", ONE_TRY)
    if not preferred:
        ended = run_to_its_end(*arguments, command=command, environment=environment)
        assert ended.returncode == 1 and "TensorFlow not found" in ended.stdout
        return
    with serving(*arguments, command=command, environment=environment) as served:
        assert available(served, "m") == [1]
        assert answered(served, "m") == ANSWER


# ---- everything else works as for SavedModels


def many(served: Served, model: str, count: int) -> list[Any]:
    """Returns the answers to so many requests at once."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: answered(served, model), range(count)))


@pytest.mark.parametrize("how", ["auto", "parameters", "of the version"])
def test_batching(engine: Engine, tmp_path: Path, how: str) -> None:
    parameters = "max_batch_size { value: 8 } batch_timeout_micros { value: 20000 }"
    engine.put(tmp_path / "m" / "1")
    file = tmp_path / "batching.config"
    file.write_text(parameters)
    flags = {
        "auto": ["--batching=auto"],
        "parameters": ["--enable_batching", f"--batching_parameters_file={file}"],
        "of the version": ["--enable_batching", "--enable_per_model_batching_parameters"],
    }[how]
    (tmp_path / "m" / "1" / "batching_params.pbtxt").write_text(parameters)
    with serving(tmp_path / "m", *flags, monitoring(tmp_path)) as served:
        assert many(served, "m", 64) == [ANSWER] * 64
        found = samples(served)
        if how != "auto":
            (batches,) = [
                int(value)
                for name, value in found.items()
                if name.startswith(":tensorflow:serving:batching_session:processed_batch_size_count")
            ]
            assert 0 < batches <= 64


def test_metrics(engine: Engine, tmp_path: Path) -> None:
    name = engine.folder.parent.name
    with serving(engine.folder.parent, monitoring(tmp_path)) as served:
        for _ in range(3):
            assert answered(served, name) == ANSWER
        found = samples(served)
        assert found[f':tensorflow:serving:request_count{{model_name="{name}",status="OK"}}'] == "3"
        loads = [key for key in found if "load_attempt_count" in key and str(engine.folder) in key]
        assert loads, sorted(found)


def test_a_warm_up_file_is_made_and_replayed(engine: Engine, tmp_path: Path) -> None:
    engine.put(tmp_path / "m" / "1")
    body = json.dumps(BODY)
    made = run("warmup", "make", tmp_path / "m", "--request", body)
    assert made.returncode == 0, made.stderr
    assert made.stdout.endswith("tf_serving_warmup_requests: 1 requests\n")
    by_itself = run("warmup", "make", tmp_path / "m", "--append")
    assert by_itself.returncode == 0, by_itself.stderr
    with serving(tmp_path / "m") as served:
        assert "Number of warmup records read: 2." in served.log
        assert answered(served, "m") == ANSWER
    file = engine.put(tmp_path, "net")
    refused = run("warmup", "make", file)
    assert refused.returncode == 1
    assert "is a file, and a warm-up file lies in a version's folder" in refused.stderr


def test_inspect_shows_what_serving_shows(engine: Engine, tmp_path: Path) -> None:
    inspected = run("inspect", engine.folder.parent)
    assert inspected.returncode == 0, inspected.stderr
    for expected in (engine.title, "serving_default", "sum", "nothing is wrong with it"):
        assert expected in inspected.stdout
    file = engine.put(tmp_path, "net")
    fields = json.loads(run("inspect", file, "--json").stdout)
    assert fields["path"] == str(file)
    assert fields["bytes"] == sum(len(one.read_bytes()) for one in engine.files)
    assert fields["engine"].startswith(f"{engine.title} ")
    assert fields["signatures"]["serving_default"]["inputs"] == {
        "a": {"dtype": "float", "shape": "[-1]"},
        "b": {"dtype": "int32", "shape": "[-1]"},
    }


def test_the_command_that_predicts(engine: Engine) -> None:
    name = engine.folder.parent.name
    with serving(engine.folder.parent) as served:
        inputs = ("--inputs", "a=[1.0, 3.0]", "--inputs", "b=[2, 4]")
        asked = run("predict", name, *inputs, f"--server={served.rest}", "--format=json")
        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout) == {"sum": [3.0, 7.0], "twice": [4, 8]}
