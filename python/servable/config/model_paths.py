"""``servable serve PATH``: turns a path typed by a user into a model.

A path may be a base folder (numbered versions inside) or one version's own folder (``saved_model.pb``
inside), and ``NAME=PATH`` sets the model's name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from servable.config.values import Folder, ModelConfig
from servable.errors import UsageError
from servable.savedmodel.layout import SAVED_MODEL_FILES, holds_saved_model, is_version_name


def is_remote(base_path: str) -> bool:
    """True for a URI other than ``file://``."""
    return "://" in base_path and not base_path.startswith("file://")


def local_path(base_path: str) -> str:
    """Returns the path of a ``file://`` URI; any other path unchanged."""
    return unquote(urlsplit(base_path).path) if base_path.startswith("file://") else base_path


def cache_dir(stated: str, environment: Mapping[str, str]) -> str:
    """Returns the cache for remote versions: ``stated``, else ``servable`` in $XDG_CACHE_HOME or ~/.cache."""
    if stated:
        return os.path.abspath(os.path.expanduser(stated))
    home = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(home, "servable")


def model_from_path(argument: str) -> ModelConfig:
    """Returns the model for ``PATH`` or ``NAME=PATH``. Raises ``UsageError`` if there is no such folder."""
    name, path = _split_name(argument)
    if "://" in path:
        last = path.rstrip("/").rpartition("/")[2]
        return ModelConfig(name=name or last.partition(".")[0] or "default", base_path=path)
    path = os.path.abspath(os.path.expanduser(path))
    if not os.path.exists(path):
        raise UsageError(f"no such folder: {path}{_neighbours(path)}")
    if not os.path.isdir(path):
        raise UsageError(_not_a_folder(path))
    folder = os.path.basename(path)
    if not holds_saved_model(path):
        return ModelConfig(name=name or folder or "default", base_path=path)
    if is_version_name(folder):
        parent = os.path.basename(os.path.dirname(path))
        return ModelConfig(name=name or parent or "default", base_path=path, policy=Folder(int(folder)))
    return ModelConfig(name=name or folder or "default", base_path=path, policy=Folder(1))


def _split_name(argument: str) -> tuple[str, str]:
    name, equals, path = argument.partition("=")
    if not equals or "/" in name or (":" in name and "://" in argument) or os.path.exists(argument):
        return "", argument
    if not name or not path:
        raise UsageError(f"expected PATH or NAME=PATH, got {argument!r}")
    return name, path


def _not_a_folder(path: str) -> str:
    if os.path.basename(path) in SAVED_MODEL_FILES:
        return f"{path} is a file; give the folder it is in: {os.path.dirname(path)}"
    return f"{path} is a file, and a folder with a SavedModel was expected"


def _neighbours(path: str) -> str:
    """Describes what exists instead: the nearest existing folder and a few names in it."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    try:
        names = sorted(
            entry.name for entry in os.scandir(parent) if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError:
        return ""
    if not names:
        return f" ({parent} holds no folders)"
    more = ", …" if len(names) > 8 else ""
    return f" ({parent} holds {', '.join(names[:8])}{more})"
