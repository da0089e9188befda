"""What the exporting process makes of failures, without Keras and TensorFlow."""

from __future__ import annotations

import errno

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
