"""The folder of a version: its name, and the files in it that are a SavedModel."""

from __future__ import annotations

import os

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
LOADED_FILES = (*SAVED_MODEL_FILES, "batching_params.pbtxt")
LOADED_FOLDERS = ("variables", "assets", "assets.extra")
"""What a load reads, below the folder of a version: these files, and the files in these folders."""


def is_version_name(name: str) -> bool:
    """True for a folder name that is a version: decimal ASCII digits, leading zeros allowed, within int64."""
    return name.isascii() and name.isdigit() and len(name.lstrip("0")) <= 19 and int(name) < 2**63


def holds_saved_model(path: str) -> bool:
    """True when ``path`` is the folder of a SavedModel, that is, of one version."""
    return any(os.path.isfile(os.path.join(path, name)) for name in SAVED_MODEL_FILES)


def fingerprint(path: str) -> str:
    """What tells one state of a version's files from another: sizes and times of all that a load reads.

    "" where nothing of a model is there. One ``stat`` per file: cheap enough for every poll of a thousand
    models.
    """
    seen = [_stamp(os.path.join(path, name)) for name in LOADED_FILES]
    for folder in LOADED_FOLDERS:
        try:
            with os.scandir(os.path.join(path, folder)) as entries:
                seen.extend(sorted(_stamp(entry.path) for entry in entries))
        except OSError:
            continue
    return " ".join(stamp for stamp in seen if stamp)


def _stamp(path: str) -> str:
    """Its content as far as that can be told without reading it, and who may read it."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    times = f"{found.st_mtime_ns}:{found.st_ctime_ns}"
    return f"{os.path.basename(path)}:{found.st_size}:{times}:{found.st_ino}:{found.st_mode:o}"
