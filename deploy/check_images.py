"""Builds the container images with Docker and runs each as TensorFlow Serving's tutorial runs its own.

    python deploy/check_images.py [--no_build] [--build_option=OPTION]... [IMAGE...]

An image is named by its engines, as in the build argument ENGINES; without names, all of `IMAGES` are built.
Needs a Docker daemon, and the development environment (`make dev`), which makes the models. --no_build checks
the images built before; --build_option is passed to `docker build`, as in --build_option=--network=host.

For each image: `docker build`; its size; `docker run -t -p … -v … -e MODEL_NAME=…` with a model of each
engine, asked over the published port; the same with --read-only and a user unknown to the image; the health
check, which turns healthy; `docker stop` while clients ask: no request may fail, the status must be 0; the
certificates of authorities. Containers have to be reachable by their addresses, as with Docker on Linux.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLE = PROJECT / "examples" / "mobilenet_v2"
MODELS = PROJECT / "build" / "container"
IMAGES = ("tensorflow", "tensorflow,openvino", "openvino", "onnx", "tflite", "keras")
MB = 1_000_000
LARGEST = {"keras": 1500 * MB, "tensorflow": 1000 * MB, "": 300 * MB}
"""Most bytes of an image: by the first of these that is in the name of it."""

CLIENTS = 4
LOAD_SECONDS = 1.0
START_SECONDS = 60.0
ANOTHER_USER = "1000680000:0"


class CheckError(Exception):
    """What was wrong with an image."""


@dataclass(frozen=True)
class Model:
    """A base folder, and a question with its answer."""

    name: str
    make: Callable[[Path], object]  # writes the version folder
    body: Callable[[], bytes]
    is_right: Callable[[Any], bool]
    beside_read_only: tuple[str, ...] = ()  # what `docker run --read-only` needs

    def folder(self) -> Path:
        """Returns the base folder, made unless it exists; readable by every user."""
        version = MODELS / self.name / "1"
        if not version.is_dir():
            making = MODELS / f"{self.name}.part"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
            self.make(making)
            version.parent.mkdir(exist_ok=True)
            making.rename(version)
        return version.parent


def export_photo_model(version: Path) -> None:
    """Exports the photo model of the examples."""
    subprocess.run([sys.executable, EXAMPLE / "export.py", version], check=True)


def photo() -> bytes:
    """Returns the request with the photo."""
    picture = b64encode((EXAMPLE / "panda.jpg").read_bytes()).decode()
    return json.dumps({"inputs": [{"b64": picture}]}).encode()


def pixels() -> bytes:
    """Returns the request with the photo's pixels."""
    command = [sys.executable, EXAMPLE / "pixels.py", EXAMPLE / "panda.jpg"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def copy_int8_file(version: Path) -> None:
    """Copies the int8 file, which is a model by itself."""
    (file,) = (EXAMPLE / "weights").glob("*.tflite")
    shutil.copyfile(file, version / "model.tflite")


def write_onnx(version: Path) -> None:
    """Writes y = 0.5 * x + 2."""
    import onnx
    from onnx import helper

    def number(name: str, value: float) -> onnx.TensorProto:
        return helper.make_tensor(name, onnx.TensorProto.FLOAT, [], [value])

    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch"]) for name in "xy")
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["product"]),
        helper.make_node("Add", ["product", "two"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "half_plus_two", [x], [y], [number("half", 0.5), number("two", 2.0)])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), version / "model.onnx")


def write_ir(version: Path) -> None:
    """Writes y = 0.5 * x + 2 in OpenVINO's format."""
    import openvino

    write_onnx(version)
    openvino.save_model(openvino.convert_model(version / "model.onnx"), version / "model.xml")
    (version / "model.onnx").unlink()


def save_keras(version: Path) -> None:
    """Saves y = 0.5 * x + 2 as Keras does; x is a row of one number."""
    import keras

    row = keras.Input((1,), name="x")
    model = keras.Model(row, keras.layers.Rescaling(0.5, offset=2.0, name="y")(row))
    model.save(version / "model.keras")


def is_giant_panda(answer: Any) -> bool:
    """Returns whether the photo was recognised."""
    return bool(answer == {"outputs": ["giant panda"]})


def scores_giant_panda(answer: Any) -> bool:
    """Returns whether the giant panda, class 389 of the int8 file, has the highest score."""
    (scores,) = answer["predictions"]
    return int(scores.index(max(scores))) == 389


def is_half_plus_two(answer: Any) -> bool:
    """Returns whether the numbers are right."""
    return bool(answer == {"predictions": [2.5, 3.0, 4.5]})


def are_rows_right(answer: Any) -> bool:
    """Returns whether the rows are right."""
    return bool(answer == {"predictions": [[2.5], [3.0]]})


def rows() -> bytes:
    """Returns the request to it where x is a row."""
    return b'{"instances": [[1.0], [2.0]]}'


def numbers() -> bytes:
    """Returns the request to y = 0.5 * x + 2."""
    return b'{"instances": [1.0, 2.0, 5.0]}'


MODEL_OF = {
    "tensorflow": Model("mobilenet_v2_test", export_photo_model, photo, is_giant_panda),
    "openvino": Model("half_plus_two_ir", write_ir, numbers, is_half_plus_two),
    "onnx": Model("half_plus_two_onnx", write_onnx, numbers, is_half_plus_two),
    "tflite": Model("int8", copy_int8_file, pixels, scores_giant_panda),
    "keras": Model(
        "half_plus_two_keras",
        save_keras,
        rows,
        are_rows_right,
        beside_read_only=("--tmpfs", "/var/cache/servable:mode=1777", "--tmpfs", "/tmp"),
    ),
}


def docker(*words: str | Path) -> str:
    """Returns the output of a docker command."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise CheckError(f"docker {words[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


class Running:
    """A container: where it answers, and what `docker inspect` says of it."""

    def __init__(self, number: str) -> None:
        self.number = number

    def published(self) -> tuple[str, int]:
        """Returns the address at which its REST port is published on this machine."""
        return "localhost", int(docker("port", self.number, "8501/tcp").splitlines()[0].rpartition(":")[2])

    def own(self) -> tuple[str, int]:
        """Returns the address of its REST port in Docker's network, without the proxy of a published port."""
        return self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"), 8501

    def inspect(self, template: str) -> str:
        """Returns one thing about it."""
        return docker("inspect", "--format", template, self.number)


@contextmanager
def running(image: str, model: Model, *options: str) -> Iterator[Running]:
    """`docker run` of the tutorial, in the background, on a free port; waits until the model is served.

    It is removed at the end of the context and not by Docker, so that its log and status can be read.
    """
    mount = f"{model.folder()}:/models/{model.name}"
    words = ["-t", "-p", "8501", "-v", mount, "-e", f"MODEL_NAME={model.name}", *options]
    container = Running(docker("run", "--detach", *words, image))
    try:
        wait_until(f"{model.name} is served", lambda: state_of(container, model) == "AVAILABLE")
        yield container
    except CheckError as error:
        raise CheckError(f"{error}\n{docker('logs', container.number)}") from error
    finally:
        subprocess.run(["docker", "rm", "--force", container.number], capture_output=True)


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    """Returns once it is so; raises CheckError after a minute."""
    until = time.monotonic() + START_SECONDS
    while not is_so():
        if time.monotonic() > until:
            raise CheckError(f"not within {START_SECONDS:.0f} s: {what}")
        time.sleep(0.1)


def state_of(container: Running, model: Model) -> str:
    """Returns the state of the model's version; "" while nothing answers."""
    connection = http.client.HTTPConnection(*container.published(), timeout=10)
    try:
        connection.request("GET", f"/v1/models/{model.name}")
        answer = json.load(connection.getresponse())
        return str(answer["model_version_status"][0]["state"])
    except (OSError, http.client.HTTPException, KeyError):
        return ""
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, model: Model, body: bytes) -> bool:
    """Asks the model once, and returns whether the server goes on with the connection."""
    connection.request("POST", f"/v1/models/{model.name}:predict", body)
    reply = connection.getresponse()
    text = reply.read()
    if reply.status != 200 or not model.is_right(json.loads(text)):
        raise CheckError(f"{model.name} answered {reply.status}: {text[:300]!r}")
    return not reply.will_close


def check_answer(image: str, model: Model, *options: str) -> None:
    """Runs the image and asks the model over the published port."""
    with running(image, model, *options) as container:
        ask(http.client.HTTPConnection(*container.published(), timeout=60), model, model.body())


def check_health(image: str, model: Model) -> None:
    """Runs the image until its health check says healthy; it is run more often than by default."""
    with running(image, model, "--health-interval=1s") as container:
        wait_until("healthy", lambda: container.inspect("{{.State.Health.Status}}") == "healthy")


def check_stop(image: str, model: Model) -> int:
    """Stops the container while clients ask; returns how many requests were answered."""
    answered: list[int] = []
    failed: list[Exception] = []

    def client(address: tuple[str, int], body: bytes) -> None:
        """Asks until the server takes its leave: a reply with `Connection: close`."""
        connection = http.client.HTTPConnection(*address, timeout=60)
        count = 1
        try:
            while ask(connection, model, body):
                count += 1
        except (OSError, http.client.HTTPException, CheckError) as error:
            failed.append(error)
        answered.append(count)

    with running(image, model) as container:
        work = (container.own(), model.body())
        clients = [threading.Thread(target=client, args=work) for _ in range(CLIENTS)]
        for one in clients:
            one.start()
        time.sleep(LOAD_SECONDS)  # of load before the end
        docker("stop", container.number)
        status = container.inspect("{{.State.ExitCode}}")
        for one in clients:
            one.join()
    if failed or status != "0":
        raise CheckError(f"docker stop under load: status {status}, failed requests: {failed}")
    return sum(answered)


def check_authorities(image: str) -> None:
    """Looks for the certificates by which those of stores and collectors are verified."""
    docker("run", "--rm", "--entrypoint", "test", image, "-s", "/etc/ssl/certs/ca-certificates.crt")


def build(image: str, engines: str, options: Sequence[str]) -> None:
    """Builds an image; Docker's output is shown."""
    chosen = ["--build-arg", f"ENGINES={engines}", "--tag", image]
    subprocess.run(["docker", "build", *options, *chosen, PROJECT], check=True)


def check(image: str, engines: str) -> str:
    """Checks one image; returns a line about it."""
    size = int(docker("image", "inspect", "--format", "{{.Size}}", image))
    if size > next(most for engine, most in LARGEST.items() if engine in engines):
        raise CheckError(f"the image has {size / MB:.0f} MB")
    models = [MODEL_OF[engine] for engine in engines.split(",")]
    for model in models:
        check_answer(image, model)
    check_answer(image, models[0], "--read-only", *models[0].beside_read_only, "--user", ANOTHER_USER)
    check_authorities(image)
    check_health(image, models[0])
    answered = check_stop(image, models[0])
    return f"{size / MB:5.0f} MB   right answers; none of {answered} requests failed while it was stopped"


def main() -> int:
    """Returns the exit status: 1 if something is wrong with an image."""
    parser = argparse.ArgumentParser(description="Build the container images with Docker and run them.")
    parser.add_argument("images", nargs="*", default=IMAGES, help=f"engines; default: {' '.join(IMAGES)}")
    parser.add_argument("--no_build", action="store_true", help="check the images built before")
    parser.add_argument("--build_option", action="append", default=[], help="for docker build")
    args = parser.parse_args()
    lines = []
    for engines in args.images:
        image = f"servable-check:{engines.replace(',', '-')}"
        try:
            if not args.no_build:
                build(image, engines, args.build_option)
            lines.append(f"{engines:20} {check(image, engines)}")
        except (CheckError, OSError, http.client.HTTPException, subprocess.CalledProcessError) as error:
            lines.append(f"{engines:20} wrong: {error}")
    print("\n".join(lines))
    return int(any("wrong:" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
