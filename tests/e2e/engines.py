"""The engines beside TensorFlow: a model for each, and servers that find only some of the engines."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from servers import MODELS

import servable
from servable.engines import libraries

PACKAGES = {one.engine: one for one in libraries.PACKAGES}
FILES = {"onnx": ("model.onnx",), "tflite": ("model.tflite",), "openvino": ("model.xml", "model.bin")}
"""The files of the model ``pair`` by engine, the graph first: a float [n], b int32 [n] -> sum float [n],
twice int32 [n]."""
BODY = {"instances": [{"a": 1.0, "b": 2}, {"a": 3.0, "b": 4}]}
ANSWER = {"predictions": [{"sum": 3.0, "twice": 4}, {"sum": 7.0, "twice": 8}]}


@dataclass(frozen=True)
class Engine:
    """An engine that is installed, with its model."""

    name: str
    folder: Path

    @property
    def title(self) -> str:
        """The engine's own name."""
        return PACKAGES[self.name].title

    @property
    def files(self) -> list[Path]:
        """The model's files, the graph first."""
        return [self.folder / name for name in FILES[self.name]]

    @property
    def graph(self) -> bytes:
        """The content of the first file."""
        return self.files[0].read_bytes()

    def put(self, folder: Path, stem: str = "model") -> Path:
        """Copies the model into ``folder``, which is created if missing; returns the path of the graph."""
        folder.mkdir(parents=True, exist_ok=True)
        copies = [folder / f"{stem}{file.suffix}" for file in self.files]
        for file, copy in zip(self.files, copies, strict=True):
            shutil.copyfile(file, copy)
        return copies[0]


@cache
def found() -> libraries.Libraries:
    """Returns the libraries that a server would find here."""
    return libraries.find_all("", os.environ)


def engine_or_skip(name: str) -> Engine:
    """Returns an engine; skips the test if it cannot run here."""
    pytest.importorskip("servable._core", reason="the core is not built")
    if name not in found().found:
        pytest.skip(found().missing[name])
    folder = MODELS / f"{name}_pair" / "1"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return Engine(name, folder)


def only(folder: Path, *engines: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Returns command and environment of ``servable serve`` where only these engines are installed.

    Python is started without its packages; ``folder`` gets links to those that the server needs.
    """
    site = Path(found().found[engines[0]].rpartition(f"/{PACKAGES[engines[0]].folder}/")[0])
    hidden = {"tensorflow", *(one.folder for one in PACKAGES.values() if one.engine not in engines)}
    folder.mkdir()
    for entry in site.iterdir():
        if entry.name not in hidden and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    sources = Path(servable.__file__).parent.parent
    if not (folder / "servable").exists():
        (folder / "servable").symlink_to(sources / "servable")
    command = (sys.executable, "-S", "-m", "servable", "serve", "--port=off", "--rest_api_port=0")
    without = {"SERVABLE_TENSORFLOW_LIBRARY": "", **{one.variable: "" for one in PACKAGES.values()}}
    return command, {"PYTHONPATH": str(folder), **without}
