"""Models from a store by KServe's own storage initializer, before our runtimes; the store is moto's S3."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from control_plane import ControlPlane
from kserve_pods import downloaded
from node_agent import Place, node
from releases import CHART, namespace, started
from servers import MODELS

pytest.importorskip("moto", reason="moto is not installed: S3 is not tried")

from moto.server import ThreadedMotoServer

RUNTIMES = CHART.parents[1] / "kserve" / "runtimes"
ADDRESS = "10.77.0.1"
"""This machine's, on the bridge of the pods."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a store with a SavedModel in a folder of versions, and files of other formats."""
    server = ThreadedMotoServer(ip_address=ADDRESS, port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    try:
        requests.put(f"{url}/bucket", timeout=30).raise_for_status()
        model = MODELS / "half_plus_two"
        for file in model.rglob("*"):
            if file.is_file():
                put(url, f"flowers/{file.relative_to(model)}", file)
        put(url, "resnet.onnx", MODELS / "onnx_pair" / "1" / "model.onnx")
        put(url, "gestures.tflite", MODELS / "tflite_pair" / "1" / "model.tflite")
        make = [sys.executable, str(MODELS / "make_keras.py"), str(tmp_path_factory.mktemp("keras"))]
        subprocess.run(make, check=True, capture_output=True)
        put(url, "digits.keras", Path(make[-1]) / "sum.keras")
        yield url
    finally:
        server.stop()


@pytest.fixture(scope="module")
def place(plane: ControlPlane, run_folder: Path, layer: Path) -> Place:
    return Place(plane.api, run_folder / "store", layer)


def put(url: str, key: str, file: Path) -> None:
    requests.put(f"{url}/bucket/{key}", file.read_bytes(), timeout=30).raise_for_status()


@pytest.mark.parametrize(
    ("format", "key", "pair"),
    [
        ("tensorflow", "flowers", (1.0, 2.5)),
        ("onnx", "resnet.onnx", ({"a": 1.0, "b": 2}, {"sum": 3.0, "twice": 4})),
        ("tflite", "gestures.tflite", ({"a": 1.0, "b": 2}, {"sum": 3.0, "twice": 4})),
        ("keras", "digits.keras", ([1.0, 1.0], [6.0])),
    ],
)
def test_a_model_is_downloaded_and_served(
    plane: ControlPlane, place: Place, store: str, format: str, key: str, pair: tuple[object, object]
) -> None:
    asked, answered = pair
    where = namespace(plane, f"store-{format}")
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    variables = {"AWS_ENDPOINT_URL": store, "AWS_DEFAULT_REGION": "us-east-1", **credentials}
    runtime = yaml.safe_load((RUNTIMES / f"{format}.yaml").read_text())
    pod = downloaded(runtime, "m", f"s3://bucket/{key}", variables)
    pod["spec"]["nodeName"] = f"store-{format}"
    with node(place, f"store-{format}"):
        url = f"http://{started(plane, where, pod)}:8080"
        answer = requests.post(f"{url}/v1/models/m:predict", json={"instances": [asked]}, timeout=10)
        assert answer.json() == {"predictions": [answered]}
