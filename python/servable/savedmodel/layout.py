"""The folder of a version: its name, and the files in it that make up a SavedModel."""

from __future__ import annotations

import os

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
SAVED_MODEL_FOLDERS = ("variables", "assets", "assets.extra")


def is_version_name(name: str) -> bool:
    """True for the name of a version folder: decimal ASCII digits, leading zeros allowed, within int64."""
    return name.isascii() and name.isdigit() and len(name.lstrip("0")) <= 19 and int(name) < 2**63


def holds_saved_model(path: str) -> bool:
    """True if ``path`` is the folder of a SavedModel, that is, of one version."""
    return any(os.path.isfile(os.path.join(path, name)) for name in SAVED_MODEL_FILES)
