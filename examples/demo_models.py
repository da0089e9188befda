"""Makes the demo's three models below build/demo/models, each by its export script in a process of its own.

Existing models are kept. Each is written elsewhere first and moved into place when complete, so that an
interrupted run leaves nothing that looks ready.

The picture model is the first of these that is available:
1. a ready SavedModel of MobileNetV2 beside the checkout, in ../shared/mobilenet/mobilenet_v2;
2. MobileNetV2 with the ImageNet weights that Keras downloads;
3. a classifier of drawn shapes that is trained on the spot, which needs no network.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
ROOT = EXAMPLES.parent
BUILD = ROOT / "build" / "demo"
READY_MOBILENET = ROOT.parent / "shared" / "mobilenet" / "mobilenet_v2"
NO_WEIGHTS = 3  # exit status of mobilenet_v2/export.py
NO_WEIGHTS_TEXT = """mobilenet_v2: its weights cannot be downloaded here.
A small classifier of drawn shapes takes its place, with the same signatures, trained now, in a minute."""
SHOWN_LOG_LINES = 20
PLAIN_PROGRESS_SECONDS = 15


class DemoError(Exception):
    """A failed step; the text says which, and what to do."""


class ExportError(DemoError):
    """An export script failed with `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Model:
    """A base folder to serve; for a picture model, also a picture and its expected label."""

    name: str
    picture: Path | None = None
    label: str = ""

    @property
    def folder(self) -> Path:
        """The base folder, which holds the version folder `1`."""
        return BUILD / "models" / self.name

    def is_there(self) -> bool:
        """Returns whether the model and, for a picture model, its picture exist."""
        picture_is_there = self.picture is None or self.picture.is_file()
        return picture_is_there and (self.folder / "1" / "saved_model.pb").is_file()


MOBILENET = Model("mobilenet_v2", EXAMPLES / "mobilenet_v2" / "panda.jpg", "giant panda")
DRAWN_SHAPES = Model("drawn_shapes", BUILD / "samples" / "star.jpg", "star")


def make_models() -> list[Model]:
    """Makes the models to serve, the picture model last."""
    return [make(Model("half_plus_two")), make(Model("add_two")), make_picture_model()]


def make(model: Model, *options: str) -> Model:
    """Runs the model's export script unless the model exists."""
    if model.is_there():
        print(f"{model.name}: there already", flush=True)
        return model
    making = fresh_folder(model)
    script = EXAMPLES / model.name / "export.py"
    export([sys.executable, str(script), str(making / "1"), *options], model.name)
    return put_in_place(model, making)


def make_picture_model() -> Model:
    """Makes MobileNetV2 if its weights are available, otherwise the drawn shapes."""
    if MOBILENET.is_there():
        return make(MOBILENET)
    if (READY_MOBILENET / "1" / "saved_model.pb").is_file():
        print(f"mobilenet_v2: copied from {READY_MOBILENET}", flush=True)
        return put_in_place(MOBILENET, copy_files(READY_MOBILENET, fresh_folder(MOBILENET)))
    if DRAWN_SHAPES.is_there():
        again = os.path.relpath(DRAWN_SHAPES.folder)
        print(f"mobilenet_v2: left out as before (remove {again} to try its download again)", flush=True)
        return make(DRAWN_SHAPES)
    try:
        return make(MOBILENET)
    except ExportError as error:
        if error.status != NO_WEIGHTS:
            raise
        print(NO_WEIGHTS_TEXT, flush=True)
        make(DRAWN_SHAPES, "--samples", str(BUILD / "samples"))
        print(f"drawn_shapes: {log_of(DRAWN_SHAPES.name).read_text().splitlines()[-1]}", flush=True)
        return DRAWN_SHAPES


def fresh_folder(model: Model) -> Path:
    """Creates an empty folder for writing the model, on the same disk as its final place."""
    making = BUILD / "making" / model.name
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    return making


def copy_files(source: Path, target: Path) -> Path:
    """Copies the content of files, but not their permissions."""
    for file in source.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return target


def put_in_place(model: Model, making: Path) -> Model:
    """Moves the finished model to the folder it is served from."""
    shutil.rmtree(model.folder, ignore_errors=True)
    model.folder.parent.mkdir(parents=True, exist_ok=True)
    making.rename(model.folder)
    return model


def log_of(name: str) -> Path:
    """Returns the log file of a model's export script."""
    return BUILD / f"{name}.log"


def export(command: Sequence[str], name: str) -> None:
    """Runs an export script, showing progress and logging its output; raises ExportError if it fails."""
    log = log_of(name)
    started = time.monotonic()
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            show_progress(process, name, log)
        except BaseException:
            process.kill()
            raise
    seconds = time.monotonic() - started
    lines = log.read_text(errors="replace").splitlines()
    if process.returncode == NO_WEIGHTS:
        raise ExportError(NO_WEIGHTS, f"{name}: no weights; see {log}")
    if process.returncode != 0:
        end = "\n".join(f"  {line}" for line in lines[-SHOWN_LOG_LINES:])
        raise ExportError(process.returncode, f"{name}: the export failed; the end of {log}:\n{end}")
    print(f"{name}: made in {seconds:.0f} s", flush=True)


def show_progress(process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Waits for the process and shows the time: every second on a terminal, otherwise rarely."""
    on_terminal = sys.stdout.isatty()
    print(f"{name}: making it with TensorFlow (its output: {os.path.relpath(log)})", flush=True)
    started = time.monotonic()
    while True:
        try:
            process.wait(timeout=1 if on_terminal else PLAIN_PROGRESS_SECONDS)
            break
        except subprocess.TimeoutExpired:
            elapsed = f"{name}: {time.monotonic() - started:.0f} s"
            print(f"\r{elapsed}" if on_terminal else elapsed, end="" if on_terminal else "\n", flush=True)
    if on_terminal:
        print("\r\033[K", end="", flush=True)
