"""The folder of a version: its name, and the files in it that make up a SavedModel."""

from __future__ import annotations

import os

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
LOADED_FILES = (*SAVED_MODEL_FILES, "batching_params.pbtxt")
LOADED_FOLDERS = ("variables", "assets", "assets.extra")
"""Everything a load reads below a version's folder: these files, and the files in these folders."""


def is_version_name(name: str) -> bool:
    """True for the name of a version folder: decimal ASCII digits, leading zeros allowed, within int64."""
    return name.isascii() and name.isdigit() and len(name.lstrip("0")) <= 19 and int(name) < 2**63


def holds_saved_model(path: str) -> bool:
    """True if ``path`` is the folder of a SavedModel, that is, of one version."""
    return any(os.path.isfile(os.path.join(path, name)) for name in SAVED_MODEL_FILES)


def fingerprint(path: str) -> str:
    """Returns a text that changes with a version's files: sizes and times of everything a load reads.

    "" if there are no model files. One ``stat`` per file: cheap enough for every poll of a thousand models.
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
    """Describes a file's content, without reading it, and its permissions."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    times = f"{found.st_mtime_ns}:{found.st_ctime_ns}"
    return f"{os.path.basename(path)}:{found.st_size}:{times}:{found.st_ino}:{found.st_mode:o}"
