"""Processes as KServe starts them: its runtime for TensorFlow Serving with our program, and our runtimes.

/mnt/models is another folder here; `make test-kubernetes` has it where KServe has it.
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from conftest import ROOT
from servers import DROP_IN, FRIENDLY, MODELS, put_version, run_to_its_end, serving

yaml = pytest.importorskip("yaml")

pytestmark = pytest.mark.needs_tensorflow

THEIRS = ROOT / "tests" / "kubernetes" / "kserve" / "kserve-tensorflow-serving.yaml"
OURS = ROOT / "deploy" / "kserve" / "runtimes"
PROGRAMS = {"/usr/bin/tensorflow_model_server": DROP_IN, "/usr/bin/servable": FRIENDLY[:-3]}
HALF = {"instances": [1.0, 2.0, 5.0]}
PAIR = {"instances": [{"a": 1.0, "b": 2}]}
HALF_V2 = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1.0, 2.0, 5.0]}]}


def free_port() -> int:
    """Returns a port that is free now: to TensorFlow Serving, port 0 is none."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def predictor(runtime: Path, models: Path, *further: str, **environment: str) -> Iterator[str]:
    """Runs a runtime's container as the predictor ``flowers``; yields the address of its REST API."""
    (container,) = yaml.safe_load(runtime.read_text())["spec"]["containers"]
    (command,) = container["command"]
    port = free_port()
    arguments = [argument(word, models) for word in container["args"]]
    # The later of two equal flags wins.
    arguments += [f"--port={free_port()}", f"--rest_api_port={port}"]
    variables = {"INFERENCE_SERVICE_NAME": "flowers", **environment}
    with serving(*arguments, *further, command=PROGRAMS[command], environment=variables):
        yield f"http://127.0.0.1:{port}"


def argument(word: str, models: Path) -> str:
    """Returns an argument of a runtime as it is here: KServe's placeholder replaced, folders elsewhere."""
    for there, here in (
        ("{{.Name}}", "flowers"),
        ("/mnt/models", str(models)),
        ("/cache", str(models.parent / "cache")),
        ("--drain_delay_seconds=5", "--drain_delay_seconds=0"),
    ):
        word = word.replace(there, here)
    return word


def answers(url: str) -> dict[str, object]:
    """Asks by protocols v1 and v2, and returns what they say of three numbers."""
    first = requests.post(f"{url}/v1/models/flowers:predict", json=HALF, timeout=30)
    second = requests.post(f"{url}/v2/models/flowers/infer", json=HALF_V2, timeout=30)
    found = second.json()["outputs"][0]["data"] if second.ok else second.status_code
    return {"v1": first.json().get("predictions"), "v2": found}


BOTH = {"v1": [2.5, 3.0, 4.5], "v2": [2.5, 3.0, 4.5]}


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """What the storage initializer makes of a folder with versions."""
    put_version("half_plus_two", tmp_path / "models", 7)
    return tmp_path / "models"


def test_their_runtime_with_our_program(versions: Path) -> None:
    with predictor(THEIRS, versions) as url:
        # As with TensorFlow Serving, protocol v2 is not there.
        assert answers(url) == {**BOTH, "v2": 404}
        status = requests.get(f"{url}/v1/models/flowers", timeout=30).json()
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
        assert requests.get(f"{url}/v1/models/flowers/metadata", timeout=30).ok


def test_their_runtime_with_an_argument_more_has_both_protocols(versions: Path) -> None:
    # An InferenceService's arguments come behind the runtime's.
    with predictor(THEIRS, versions, "--open_inference_protocol") as url:
        assert answers(url) == BOTH


@pytest.mark.parametrize("layout", ["versions", "alone"])
def test_our_runtime(versions: Path, layout: str) -> None:
    models = versions if layout == "versions" else (versions / "7").rename(versions.with_name("alone"))
    with predictor(OURS / "tensorflow.yaml", models) as url:
        assert answers(url) == BOTH
        assert requests.get(f"{url}/v2/models/flowers/ready", timeout=30).ok


def test_a_modelcar_links_the_model_while_the_server_starts(versions: Path, tmp_path: Path) -> None:
    link = tmp_path / "mnt" / "models"
    link.parent.mkdir()
    late = threading.Timer(1.0, lambda: link.symlink_to(versions))
    late.start()
    try:
        with predictor(OURS / "tensorflow.yaml", link, MODEL_INIT_MODE="async") as url:
            assert answers(url) == BOTH
    finally:
        late.join()


def test_a_model_that_cannot_be_served_ends_the_container(tmp_path: Path) -> None:
    (tmp_path / "models" / "1").mkdir(parents=True)
    (tmp_path / "models" / "1" / "saved_model.pb").write_bytes(b"no graph")
    (container,) = yaml.safe_load((OURS / "tensorflow.yaml").read_text())["spec"]["containers"]
    arguments = [argument(word, tmp_path / "models") for word in container["args"]]
    more = ("--port=off", "--rest_api_port=0")
    ended = run_to_its_end(*arguments, *more, command=PROGRAMS["/usr/bin/servable"])
    assert ended.returncode == 1 and "is not a SavedModel" in ended.stderr


@pytest.mark.parametrize(
    ("format", "model", "file"),
    [("onnx", "onnx_pair", "model.onnx"), ("tflite", "tflite_pair", "model.tflite")],
)
def test_runtimes_of_other_formats_take_a_single_file(
    tmp_path: Path, format: str, model: str, file: str
) -> None:
    """As the storage initializer leaves it, for a URI that names a file."""
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(MODELS / model / "1" / file, models / f"flowers{Path(file).suffix}")
    with predictor(OURS / f"{format}.yaml", models) as url:
        answer = requests.post(f"{url}/v1/models/flowers:predict", json=PAIR, timeout=30)
        assert answer.json() == {"predictions": [{"sum": 3.0, "twice": 4}]}
        assert requests.get(f"{url}/v2/models/flowers", timeout=30).json()["name"] == "flowers"
