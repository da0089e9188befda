"""The formats of models: the contents of a version's folder, by the engine that loads it.

The core chooses the engine by the same files: ``src/engine/choice.rs``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from servable.savedmodel.layout import SAVED_MODEL_FILES, SAVED_MODEL_FOLDERS

READ_FOR_ANY = ("batching_params.pbtxt",)
"""Files that a load reads for any format."""


@dataclass(frozen=True)
class Format:
    """What ``engine`` reads in a version's folder: these files, and all files in these folders."""

    engine: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()


FORMATS = (Format("tensorflow", SAVED_MODEL_FILES, SAVED_MODEL_FOLDERS),)


_FILES = (*(name for format in FORMATS for name in format.files), *READ_FOR_ANY)
_FOLDERS = tuple(name for format in FORMATS for name in format.folders)


def fingerprint(path: str) -> str:
    """Returns a text that changes with a version's files: sizes and times of all files that a load reads.

    "" if there are no model files. One ``stat`` per file: cheap enough for every poll of a thousand models.
    """
    seen = [_stamp(os.path.join(path, name)) for name in _FILES]
    for folder in _FOLDERS:
        try:
            with os.scandir(os.path.join(path, folder)) as entries:
                seen.extend(sorted(_stamp(entry.path) for entry in entries))
        except OSError:
            continue
    return " ".join(stamp for stamp in seen if stamp)


def _stamp(path: str) -> str:
    """Describes a file's content, without reading it, and its permissions."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    times = f"{found.st_mtime_ns}:{found.st_ctime_ns}"
    return f"{os.path.basename(path)}:{found.st_size}:{times}:{found.st_ino}:{found.st_mode:o}"
