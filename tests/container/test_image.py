"""The container image, run for real without a container engine: ``tests/container/run.sh``.

The Dockerfile's steps make root file systems from Debian's packages, and its entrypoint runs in the last of
them as process 1 of its own namespaces, as a user without capabilities, on a read-only root.

Skipped unless SERVABLE_TEST_CONTAINER=1. Variables: SERVABLE_WHEEL, the wheel to install (else the newest in
build/wheels); SERVABLE_CONTAINER_FOLDER, a folder that keeps debootstrap's results for the next run;
SERVABLE_BUILD_ARGUMENTS, the Dockerfile's, as ``NAME=VALUE NAME=VALUE``; with ``ENGINES=onnx``, for example,
the image of that engine runs the same model in its format.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from check_images import export_photo_model, photo, write_ir, write_onnx
from containers import Container
from dockerfile import PROJECT, stages
from rootfs import Builder, Image

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("SERVABLE_TEST_CONTAINER") != "1",
        reason="makes a root file system from Debian's packages, as root: run tests/container/run.sh",
    ),
    pytest.mark.timeout(1800),
]

READY = "Exporting HTTP/REST API"
"""The line that tensorflow/serving's own image tests wait for."""

REST = "http://localhost:8501/v1/models"
BODY = '{"instances": [1.0, 2.0, 5.0]}'
ANSWER = '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
ARGUMENTS = dict(pair.split("=", 1) for pair in os.environ.get("SERVABLE_BUILD_ARGUMENTS", "").split())
ENGINES = ARGUMENTS.get("ENGINES", "tensorflow").split(",")
BYTES_AT_MOST = 900_000_000 if "tensorflow" in ENGINES else 300_000_000

Run = Callable[..., Container]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("image")
    given = folder / "wheel"
    (given / "wheels").mkdir(parents=True)
    shutil.copy(wheel(), given / "wheels")
    kept = os.environ.get("SERVABLE_CONTAINER_FOLDER")
    yield Builder(folder, {"wheel": given}, ARGUMENTS, Path(kept) if kept else folder).build(
        stages(arguments=ARGUMENTS)
    )
    shutil.rmtree(folder)


def wheel() -> Path:
    named = os.environ.get("SERVABLE_WHEEL")
    wheels = sorted((PROJECT / "build/wheels").glob("servable-*.whl"), key=lambda path: path.stat().st_mtime)
    assert named or wheels, "no wheel in build/wheels: make wheel"
    return Path(named) if named else wheels[-1]


@pytest.fixture(scope="module")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder with version 1, readable by every user."""
    folder = tmp_path_factory.mktemp("models")
    folder.chmod(0o755)
    model = folder / "half_plus_two"
    (model / "1").mkdir(parents=True)
    WRITE[ENGINES[0]](model / "1")
    return model


def write_saved_model(version: Path) -> None:
    subprocess.run([sys.executable, PROJECT / "examples/half_plus_two/export.py", version], check=True)


def write_tflite(version: Path) -> None:
    import tensorflow as tf

    write_saved_model(version / "saved_model")
    (version / "model.tflite").write_bytes(
        tf.lite.TFLiteConverter.from_saved_model(str(version / "saved_model")).convert()
    )
    shutil.rmtree(version / "saved_model")


WRITE = {"tensorflow": write_saved_model, "onnx": write_onnx, "openvino": write_ir, "tflite": write_tflite}


@pytest.fixture
def run(image: Image, tmp_path: Path) -> Iterator[Run]:
    """``docker run IMAGE arguments...``; at most one container per test."""
    started: list[Container] = []

    def start(*arguments: str, **options: object) -> Container:
        started.append(Container(image, tmp_path / "scratch", *arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for container in started:
        container.kill()


def test_files_of_the_contract(image: Image) -> None:
    for command in (
        "usr/bin/tf_serving_entrypoint.sh",
        "usr/bin/tensorflow_model_server",
        "usr/bin/servable",
    ):
        assert (image.root / command).is_symlink() or os.access(image.root / command, os.X_OK), command
    assert (image.root / "models").is_dir()


def test_small(image: Image) -> None:
    used = subprocess.run(["du", "-s", "-B1", image.root], check=True, capture_output=True, text=True).stdout
    size = int(used.split()[0])
    print(f"root file system: {size / 1e6:.0f} MB")
    assert size < BYTES_AT_MOST


# The image's own user, and one unknown to the image, such as OpenShift assigns.
@pytest.mark.parametrize("user", ["", "1000680000:0"])
def test_the_model_that_the_environment_names(run: Run, half_plus_two: Path, user: str) -> None:
    volumes = {half_plus_two: "/models/half_plus_two"}
    container = run(environment={"MODEL_NAME": "half_plus_two"}, volumes=volumes, user=user)
    container.wait_for(READY)
    assert container.ask(f"{REST}/half_plus_two:predict", BODY) == ANSWER
    assert (
        json.loads(container.ask(f"{REST}/half_plus_two"))["model_version_status"][0]["state"] == "AVAILABLE"
    )
    assert container.health() == (0, "healthy\n")
    assert container.stop() == 0, container.log


def test_grpc(run: Run, half_plus_two: Path) -> None:
    volumes = {half_plus_two: "/models/half_plus_two"}
    container = run(environment={"MODEL_NAME": "half_plus_two"}, volumes=volumes)
    container.wait_for("Running gRPC ModelServer at 0.0.0.0:8500")
    name = b"half_plus_two"
    spec = bytes([0x0A, len(name)]) + name  # ModelSpec.name
    request = bytes([0x0A, len(spec)]) + spec  # GetModelStatusRequest.model_spec
    reply = container.call("localhost:8500", "/tensorflow.serving.ModelService/GetModelStatus", request)
    assert bytes([0x08, 1, 0x10, 30]) in reply  # version 1, state AVAILABLE


def test_another_base_path(run: Run, half_plus_two: Path) -> None:
    volumes = {half_plus_two: "/srv/my models/half"}
    container = run(environment={"MODEL_BASE_PATH": "/srv/my models", "MODEL_NAME": "half"}, volumes=volumes)
    container.wait_for(READY)
    assert container.ask(f"{REST}/half:predict", BODY) == ANSWER


def test_without_a_model_it_waits_and_stops_when_told(run: Run) -> None:
    container = run()
    container.wait_for("/models/model")
    status, said = container.health()
    assert status == 1 and "8501" in said
    assert container.running(), container.log
    assert container.stop() == 0, container.log


def test_a_model_that_comes_later_is_served(run: Run, half_plus_two: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    base = tmp_path / "model"
    base.mkdir()
    container = run(volumes={base: "/models/model"})
    container.wait_for("/models/model")
    shutil.copytree(half_plus_two / "1", tmp_path / "1")
    (tmp_path / "1").rename(base / "1")
    container.wait_for(READY)
    assert container.ask(f"{REST}/model:predict", BODY) == ANSWER


def test_later_duplicates_of_a_flag_win(run: Run, half_plus_two: Path) -> None:
    volumes = {half_plus_two: "/models/half_plus_two"}
    flags = ("--rest_api_port=9001", "--model_name=renamed")
    container = run(*flags, environment={"MODEL_NAME": "half_plus_two"}, volumes=volumes)
    container.wait_for(READY)
    assert container.ask("http://localhost:9001/v1/models/renamed:predict", BODY) == ANSWER
    assert container.health() == (0, "healthy\n")


def test_a_config_file_replaces_the_single_model(run: Run, half_plus_two: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    config = tmp_path / "models.config"
    entry = '{{ name: "{0}" base_path: "/models/h" model_platform: "tensorflow" }}'
    config.write_text("model_config_list { config " + " config ".join(map(entry.format, "ab")) + " }")
    volumes = {half_plus_two: "/models/h", config: "/models/models.config"}
    container = run("--model_config_file=/models/models.config", volumes=volumes)
    container.wait_for(READY)
    for name in "ab":
        assert container.ask(f"{REST}/{name}:predict", BODY) == ANSWER
    assert container.ask(f"{REST}/model").startswith("404 ")
    assert container.health() == (0, "healthy\n")
    assert container.stop(signal.SIGINT) == 0, container.log


def test_the_servers_exit_status_is_the_containers(run: Run) -> None:
    container = run("--port=0")
    assert container.wait() == 255
    assert (
        "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
        in container.log
    )


def test_versions(run: Run) -> None:
    container = run("--version")
    assert container.wait() == 0
    library = "2." if "tensorflow" in ENGINES else "none"
    assert "TensorFlow ModelServer: " in container.log
    assert f"TensorFlow Library: {library}" in container.log


@pytest.mark.skipif("tensorflow" not in ENGINES, reason="the model decodes the photo with TensorFlow")
def test_a_photo(run: Run, tmp_path: Path) -> None:
    """The command of the tutorial that this project started from."""
    tmp_path.chmod(0o755)
    export_photo_model(tmp_path / "model/1")
    volumes = {tmp_path / "model": "/models/mobilenet_v2_test"}
    container = run(environment={"MODEL_NAME": "mobilenet_v2_test"}, volumes=volumes)
    container.wait_for(READY)
    answer = container.ask(f"{REST}/mobilenet_v2_test:predict", photo().decode())
    assert answer == '{\n    "outputs": [\n        "giant panda"\n    ]\n}'
