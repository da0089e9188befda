"""The formats of models: the contents of a version's folder, or of a file, by the engine that loads it.

The core chooses the engine by the same files: ``src/engine/choice.rs``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from servable.savedmodel.layout import (
    ENDINGS,
    KERAS_ENDINGS,
    KERAS_FILES,
    OTHER_FILES,
    SAVED_MODEL_FILES,
    SAVED_MODEL_FOLDERS,
    is_model_file,
    is_version_name,
)

READ_FOR_ANY = ("batching_params.pbtxt",)
"""Files that a load reads for any format."""
WARMUP_FOLDER = "assets.extra"


@dataclass(frozen=True)
class Format:
    """A format of models, loaded by ``engine``.

    files: the first one found in a version's folder selects the format. folders: all files in these are read,
    too. ending: of a file that is a model by itself, "" if none is.
    """

    engine: str
    title: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = (WARMUP_FOLDER,)
    ending: str = ""


FORMATS = (
    Format("tensorflow", "SavedModel", SAVED_MODEL_FILES, SAVED_MODEL_FOLDERS),
    Format("onnx", "ONNX", OTHER_FILES[:1], ending=".onnx"),
    Format("tflite", "TensorFlow Lite", OTHER_FILES[1:2], ending=".tflite"),
    Format("openvino", "OpenVINO IR", OTHER_FILES[2:], ending=".xml"),
)
"""Every format; of several in one folder, the first one counts."""
CONVERTED = tuple(
    Format("tensorflow", "Keras", (name,), ending=ending)
    for name, ending in zip(KERAS_FILES, KERAS_ENDINGS, strict=True)
)
"""Formats that a SavedModel is made of before the core sees them: ``sources/conversion.py``."""

_DATA = re.compile(r"[._]data.*", re.IGNORECASE | re.DOTALL)
"""What follows the name of an .onnx in that of its data: ``m.onnx.data``, ``m.onnx_data_1``."""
_WEIGHTS = re.compile(r"([._-](data|bin|weights))+([._-]?\d+)?", re.IGNORECASE)
"""Likewise, what follows its stem: ``m.data``, ``m.bin``, ``m_weights.bin``."""
_NO_WEIGHTS = (*ENDINGS, ".log", ".json", ".new", ".tmp", ".part")

_ALL = (*FORMATS, *CONVERTED)
_FILES = (*(name for format in _ALL for name in format.files), *READ_FOR_ANY)
_FOLDERS = tuple(dict.fromkeys(name for format in _ALL for name in format.folders))


def format_of(path: str, prefer_tflite: bool = False) -> Format | None:
    """Returns the format of the version in ``path``, a folder or a file; None if it is of no known format.

    prefer_tflite: a TensorFlow Lite model comes before a SavedModel in the same folder.
    """
    if is_model_file(path):
        return next(one for one in _ALL if one.ending and path.lower().endswith(one.ending))
    preferred = [one for one in FORMATS if prefer_tflite and one.engine == "tflite"]
    return next((one for one in (*preferred, *_ALL) if _holds(path, one)), None)


def _holds(folder: str, format: Format) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in format.files)


def may_hold_saved_model(base_path: str, prefer_tflite: bool = False) -> bool:
    """True unless everything at ``base_path``, a version or a folder of versions, is of another format."""
    lone = format_of(base_path, prefer_tflite)
    if lone is not None:
        return lone.engine == "tensorflow"
    found = _formats_of_versions(base_path, prefer_tflite)
    return not found or any(one is None or one.engine == "tensorflow" for one in found)


def holds_only_saved_models(base_path: str, prefer_tflite: bool = False) -> bool:
    """True if there are versions at ``base_path``, and all are for TensorFlow, at once or once converted."""
    found = [format_of(base_path, prefer_tflite)]
    if found == [None]:
        found = _formats_of_versions(base_path, prefer_tflite)
    return bool(found) and all(one is not None and one.engine == "tensorflow" for one in found)


def _formats_of_versions(base_path: str, prefer_tflite: bool) -> list[Format | None]:
    """Returns the format of each version in a folder of versions; none if it cannot be read."""
    try:
        versions = [one for one in os.listdir(base_path) if is_version_name(one)]
    except (OSError, ValueError):
        return []
    return [format_of(os.path.join(base_path, one), prefer_tflite) for one in versions]


def fingerprint(path: str) -> str:
    """Returns a text that changes with a version's files: sizes and times of all files that a load reads.

    "" if there are no model files. One ``stat`` per file: cheap enough for every poll of a thousand models.
    """
    if is_model_file(path):
        return " ".join(_stamp(one) for one in (path, *beside(path)))
    try:
        inside = set(os.listdir(path))
    except OSError:
        return ""
    seen = [_stamp(os.path.join(path, name)) for name in _FILES if name in inside]
    for name in [name for name in _FOLDERS if name in inside]:
        seen.extend(_stamp(one) for one in _entries(os.path.join(path, name)))
    if any(stamp.startswith("model.") for stamp in seen):
        # The data of a model may lie in files of any name.
        seen.extend(_stamp(one) for one in _entries(path) if os.path.basename(one) not in _FILES)
    return " ".join(stamp for stamp in seen if stamp)


def beside(path: str) -> list[str]:
    """Returns the files that belong to the model file at ``path``: weights are often kept beside the graph.

    These are the .bin of an .xml, and, for an .onnx, what ``_DATA`` and ``_WEIGHTS`` say. Other neighbours
    are left out: a log that grows, another model, or a file that is yet to be renamed must not make this one
    look changed.
    """
    stem, ending = os.path.splitext(path)
    if ending.lower() == ".xml":
        return [f"{stem}.bin"] if os.path.isfile(f"{stem}.bin") else []
    if ending.lower() != ".onnx":
        return []
    return [one for one in _entries(os.path.dirname(path)) if _are_weights(one, path) and os.path.isfile(one)]


def _are_weights(path: str, model: str) -> bool:
    """True if the name of ``path`` is one under which programs write the data of the .onnx ``model``."""
    stem, ending = os.path.splitext(model)
    if not path.startswith(stem):
        return False
    rest = path[len(stem) :]
    of_file = rest.startswith(ending) and _DATA.fullmatch(rest, len(ending))
    return bool(of_file or _WEIGHTS.fullmatch(rest)) and not rest.lower().endswith(_NO_WEIGHTS)


def model_bytes(path: str) -> int:
    """Returns the total size of a version's files; unreadable ones count as nothing."""
    files = [path, *beside(path)] if is_model_file(path) else _files_below(path)
    return sum(map(_size, files))


def _files_below(folder: str) -> Iterator[str]:
    for inner, _, names in os.walk(folder):
        yield from (os.path.join(inner, name) for name in names)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _entries(folder: str) -> list[str]:
    """Returns the paths of everything in a folder, in order; nothing if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries)
    except OSError:
        return []


def _stamp(path: str) -> str:
    """Describes a file's content, without reading it, and its permissions."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    times = f"{found.st_mtime_ns}:{found.st_ctime_ns}"
    return f"{os.path.basename(path)}:{found.st_size}:{times}:{found.st_ino}:{found.st_mode:o}"
