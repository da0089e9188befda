"""A model whose file is damaged, or of another kind than its name says: why an engine could not load it."""

from __future__ import annotations

import os

from servable.savedmodel.artifacts.artifact import Artifact
from servable.savedmodel.artifacts.folders import HUB_MARK
from servable.savedmodel.artifacts.recognisers import recognise
from servable.savedmodel.layout import SAVED_MODEL_FILES, has_model_ending, model_file_in

_KERAS = ("keras", "keras-hdf5")
_MEANT = {
    ".onnx": ("onnx",),
    ".tflite": ("tflite",),
    ".xml": ("openvino",),
    ".keras": _KERAS,
    ".h5": _KERAS,
    ".pb": ("saved-model-file",),
}
"""Kinds of artifacts that files with these endings should be."""
_VARIABLES = ("variables.index", "variables.data-00000-of-00001")


def misnamed(path: str) -> Artifact | None:
    """Returns what the model's file at or in ``path`` is instead; None if nothing seems wrong with it."""
    is_file = os.path.isfile(path)
    if is_file and not has_model_ending(path):
        return None
    name = "" if is_file else model_file_in(path)
    if not (is_file or name):
        return None
    if name in SAVED_MODEL_FILES and os.path.isfile(os.path.join(path, HUB_MARK)):
        return recognise(path)
    file = path if is_file else os.path.join(path, name)
    found = recognise(file)
    if found is not None and (found.problem or found.kind not in _MEANT.get(_ending(file), ())):
        return found
    return _pointers(path) if name in SAVED_MODEL_FILES else None


def _pointers(path: str) -> Artifact | None:
    """Returns what is in place of a SavedModel's variables, where Git LFS did not fetch them."""
    for name in _VARIABLES:
        found = recognise(os.path.join(path, "variables", name))
        if found is not None and found.kind == "git-lfs-pointer":
            return found
    return None


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()
