"""What the exporting process makes of failures, without Keras and TensorFlow."""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from servable.engines import keras_export


@pytest.mark.parametrize(
    ("error", "code", "words", "advice"),
    [
        (OSError(errno.ENOSPC, "no"), "RESOURCE_EXHAUSTED", "the disk is full", ""),
        (OSError(errno.EDQUOT, "no"), "RESOURCE_EXHAUSTED", "the disk is full", ""),
        (
            RuntimeError("… ; No space left on device [Op:SaveV2]"),
            "RESOURCE_EXHAUSTED",
            "the disk is full",
            "",
        ),
        (MemoryError(), "RESOURCE_EXHAUSTED", "not enough memory", ""),
        (
            ValueError("No model config found in the file at m.h5."),
            "FAILED_PRECONDITION",
            "weights alone",
            "load_weights",
        ),
        (
            ValueError("The model has not yet been built."),
            "FAILED_PRECONDITION",
            "no input shape",
            "keras.Input",
        ),
        (
            ValueError("Unknown layer: 'My'. Please"),
            "FAILED_PRECONDITION",
            "needs code",
            "model.export(FOLDER)",
        ),
        (
            TypeError("Could not locate class 'My'."),
            "FAILED_PRECONDITION",
            "another version of Keras",
            "model.export",
        ),
        (KeyError(), "UNKNOWN", "KeyError: KeyError", "model.export(FOLDER)"),
        (ValueError("head\nmore\n\nconfig={…}"), "UNKNOWN", "ValueError: head more", "model.export(FOLDER)"),
        (ValueError("x" * 1000), "UNKNOWN", "x" * 300 + "…", "model.export(FOLDER)"),
    ],
)
def test_a_failure_is_explained(error: BaseException, code: str, words: str, advice: str) -> None:
    explained = keras_export.explained(error)
    assert explained[0] == code
    assert words in explained[1] and "config=" not in explained[1]
    assert advice in explained[2]


@pytest.mark.parametrize("version", ["3.11.3", "3.0.0", "2.12.0"])
def test_a_keras_that_runs_code_of_files_is_refused(version: str) -> None:
    with pytest.raises(keras_export.Refused) as caught:
        keras_export.check_safe(SimpleNamespace(__version__=version), "keras")
    assert (caught.value.code, caught.value.hint) == ("FAILED_PRECONDITION", "pip install -U keras")


@pytest.mark.parametrize("version", ["3.12.0", "3.15.1", "4.0.0", "2.13.1", "3.13.0.dev2026010203"])
def test_others_are_used(version: str) -> None:
    keras_export.check_safe(SimpleNamespace(__version__=version), "keras")


def test_the_file_is_read_in_safe_mode() -> None:
    asked: dict[str, Any] = {}
    models = SimpleNamespace(load_model=lambda path, **how: asked.update(how))
    keras_export._load(SimpleNamespace(models=models, __version__="3.12.0"), "m.keras", "3.12.0")
    assert asked == {"compile": False, "safe_mode": True}


@pytest.mark.parametrize(("name", "head"), [("m.keras", b"\x89HDF\r\n\x1a\n"), ("m.h5", b"")])
def test_a_file_of_two_kinds_is_refused(tmp_path: Path, name: str, head: bytes) -> None:
    """One of them would be checked, and the other one loaded."""
    path = tmp_path / name
    path.write_bytes(head)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(keras_export.Refused, match="it is a zip file, and HDF5 too, or named so"):
        keras_export._read_file(str(path))
