"""The folder of a version: its name, and the files in it that make up a model. Which engine a file is for:
``engines/formats.py``.
"""

from __future__ import annotations

import os

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
SAVED_MODEL_FOLDERS = ("variables", "assets", "assets.extra")
OTHER_FILES = ("model.onnx", "model.tflite", "model.xml")
"""The file that makes a folder a version of another format, the first one found."""
KERAS_FILES = ("model.keras", "model.h5")
"""The file that makes a folder a version that Keras converts to a SavedModel, the first one found."""
KERAS_ENDINGS = tuple(os.path.splitext(name)[1] for name in KERAS_FILES)
ENDINGS = (*(os.path.splitext(name)[1] for name in OTHER_FILES), *KERAS_ENDINGS)
"""The endings of files that are models by themselves."""
MODEL_FILES = (*SAVED_MODEL_FILES, *OTHER_FILES, *KERAS_FILES)
"""The file that makes a folder a version, the first one found."""
EXPECTED = f"{SAVED_MODEL_FILES[0]} (a SavedModel), {', '.join(OTHER_FILES)}, {' or '.join(KERAS_FILES)}"
"""What makes a folder a version, for texts."""


def is_version_name(name: str) -> bool:
    """True for the name of a version folder: decimal ASCII digits, leading zeros allowed, within int64."""
    return name.isascii() and name.isdigit() and len(name.lstrip("0")) <= 19 and int(name) < 2**63


def holds_saved_model(path: str) -> bool:
    """True if ``path`` is the folder of a SavedModel, that is, of one version."""
    return any(os.path.isfile(os.path.join(path, name)) for name in SAVED_MODEL_FILES)


def model_file_in(path: str) -> str:
    """Returns the name of the file that makes the folder ``path`` a version; "" if there is none."""
    return next((name for name in MODEL_FILES if os.path.isfile(os.path.join(path, name))), "")


def held_by(path: str) -> str:
    """Describes the model that the folder ``path`` holds; "" if it holds none."""
    file = model_file_in(path)
    return "a SavedModel" if file in SAVED_MODEL_FILES else file


def has_model_ending(path: str) -> bool:
    """True if a file at ``path`` is a model by itself."""
    return path.lower().endswith(ENDINGS)


def is_model_file(path: str) -> bool:
    """True if ``path`` is a file that is a model by itself."""
    return has_model_ending(path) and os.path.isfile(path)


def keras_file_at(path: str) -> str:
    """Returns the Keras file of the version at ``path``, a file or a folder; "" if it is none."""
    if is_model_file(path):
        return path if path.lower().endswith(KERAS_ENDINGS) else ""
    name = model_file_in(path)
    return os.path.join(path, name) if name in KERAS_FILES else ""


def model_name(path: str) -> str:
    """Returns the name of the model at ``path``, the folder of a version or of versions, or a file.

    A file is named by its stem; one called ``model``, by its folder, and a version by the folder above it.
    """
    folder, last = os.path.split(path.rstrip("/"))
    if has_model_ending(last):
        stem = os.path.splitext(last)[0]
        return stem if stem.lower() != "model" else model_name(folder) or stem
    above = os.path.basename(folder)
    return above or last if is_version_name(last) else last
