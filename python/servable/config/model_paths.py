"""``servable serve PATH``: turns a path typed by a user into a model.

A path may be a base folder (numbered versions inside), one version's own folder (``saved_model.pb`` or a
model of another format inside), a file that is a model by itself, or a folder with one such file.
``NAME=PATH`` sets the model's name.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from servable.config.values import Folder, ModelConfig
from servable.errors import UsageError
from servable.savedmodel.layout import (
    ENDINGS,
    SAVED_MODEL_FILES,
    has_model_ending,
    is_model_file,
    is_version_name,
    model_file_in,
    model_name,
)

_log = logging.getLogger("servable.model_paths")

ASYNC_SECONDS = 300.0
"""How long a path may take to appear where KServe says that it does."""


def is_remote(base_path: str) -> bool:
    """True for a URI other than ``file://``."""
    return "://" in base_path and not base_path.startswith("file://")


def is_model_uri(base_path: str) -> bool:
    """True for a URI of a model's file, such as ``s3://bucket/m.onnx`` or ``https://host/m.onnx?signed``."""
    if not is_remote(base_path):
        return False
    try:
        return has_model_ending(urlsplit(base_path).path)
    except ValueError:
        return False


def shown_uri(uri: str) -> str:
    """Returns a URI as logs and errors show it: without a password, and without a query, often a signature.

    Anything else is returned as it is.
    """
    scheme, is_uri, rest = uri.partition("://")
    if not is_uri:
        return uri
    place, query, _ = rest.partition("?")
    authority, slash, path = place.partition("/")
    user, at, host = authority.rpartition("@")
    if at and ":" in user:
        authority = f"{user.partition(':')[0]}:…@{host}"
    return f"{scheme}://{authority}{slash}{path}" + ("?…" if query else "")


def local_path(base_path: str) -> str:
    """Returns the path of a ``file://`` URI; any other path unchanged."""
    return unquote(urlsplit(base_path).path) if base_path.startswith("file://") else base_path


def cache_dir(stated: str, environment: Mapping[str, str], make: bool = True) -> str:
    """Returns the cache for remote versions: ``stated``, else ``servable`` in $XDG_CACHE_HOME or ~/.cache.

    A user without a home has a folder below that of temporary files, which is made at once, so that nobody
    else makes it. Raises ``UsageError`` if somebody did, who could put models there.
    """
    if stated:
        return os.path.abspath(os.path.expanduser(stated))
    caches = environment.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(caches):
        caches = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(caches, "servable") if os.path.isabs(caches) else _private_folder(environment, make)


def _private_folder(environment: Mapping[str, str], make: bool) -> str:
    user = os.geteuid()
    folder = os.path.join(os.path.abspath(environment.get("TMPDIR") or "/tmp"), f"servable-{user}")
    if make:
        with suppress(OSError):
            os.mkdir(folder, 0o700)
    with suppress(FileNotFoundError):  # it could not be made: whoever needs it says so
        known = os.lstat(folder)
        if not stat.S_ISDIR(known.st_mode) or known.st_uid != user or known.st_mode & 0o022:
            raise UsageError(
                f"user {user} has no home for a cache, and {folder} is open to others: name a folder with "
                "--model_cache_dir"
            )
    return folder


def patience(environment: Mapping[str, str]) -> float:
    """Returns the seconds that a path may take to appear.

    With ``$MODEL_INIT_MODE=async``, by which KServe says so, the path is a link that another container
    makes while this one starts.
    """
    return ASYNC_SECONDS if environment.get("MODEL_INIT_MODE") == "async" else 0.0


def model_from_path(argument: str, wait_seconds: float = 0.0) -> ModelConfig:
    """Returns the model for ``PATH`` or ``NAME=PATH``. Raises ``UsageError`` if nothing can be there.

    wait_seconds: how long a local path may take to appear.
    """
    if not argument:
        raise UsageError("expected PATH or NAME=PATH, got no text: is a variable not set?")
    name, path = _split_name(argument)
    if "://" in path:
        return ModelConfig(name=name or _name_of_uri(path) or "default", base_path=path)
    path = os.path.abspath(os.path.expanduser(path))
    _await(path, wait_seconds)
    if not os.path.exists(path):
        kind = "file" if has_model_ending(path) else "folder"
        raise UsageError(f"no such {kind}: {path}{_neighbours(path)}")
    if is_model_file(path):
        return ModelConfig(name or model_name(path), path, policy=_version_of(os.path.dirname(path)))
    if not os.path.isdir(path):
        raise UsageError(_not_a_folder(path))
    if not model_file_in(path):
        file = _only_model_of(path)
        if file:
            return ModelConfig(
                name or model_name(path) or "default", os.path.join(path, file), policy=_version_of(path)
            )
        return ModelConfig(name or os.path.basename(path) or "default", path)
    return ModelConfig(name or model_name(path) or "default", path, policy=_version_of(path))


def _await(path: str, seconds: float) -> None:
    """Waits until something is at ``path``, for ``seconds`` at most."""
    end = time.monotonic() + seconds
    if seconds and not os.path.exists(path):
        _log.warning("waiting for %s to appear, for %.0f s at most ($MODEL_INIT_MODE=async)", path, seconds)
    while time.monotonic() < end and not os.path.exists(path):
        time.sleep(0.02)


def _only_model_of(folder: str) -> str:
    """Returns the name of the one file in ``folder`` that is a model by itself; "" if versions may be there.

    Stores' downloads look like that: whoever names one file gets a folder with it.
    """
    try:
        with os.scandir(folder) as entries:
            names = [(entry.name, entry.is_file()) for entry in entries]
    except OSError:
        # The server says what is wrong with it, and tries again.
        return ""
    files = [name for name, is_file in names if is_file and has_model_ending(name)]
    versions = any(is_version_name(name) for name, is_file in names if not is_file)
    return files[0] if len(files) == 1 and not versions else ""


def folder_of_models(text: str) -> str:
    """Returns the folder of ``--models_dir``, an absolute path or a URI. Raises ``UsageError``."""
    if is_remote(text):
        scheme, _, rest = text.partition("://")
        if scheme in ("http", "https"):
            raise UsageError(
                f"--models_dir expects a folder or a bucket, got {text}: a web server does not tell what it "
                "has; name its archives one by one, as PATHs or in --model_config_file"
            )
        if not rest.strip("/"):
            raise UsageError(f"--models_dir expects a bucket, such as s3://bucket/models, got {text}")
        return text.rstrip("/")
    path = os.path.abspath(os.path.expanduser(local_path(text)))
    if not os.path.isdir(path):
        raise UsageError(f"--models_dir expects a folder, got {text}{_neighbours(path)}")
    return path


def _version_of(folder: str) -> Folder:
    """Returns the version that the name of its folder states, otherwise version 1."""
    number = os.path.basename(folder)
    return Folder(int(number) if is_version_name(number) else 1)


def _name_of_uri(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri.rstrip("/").rpartition("/")[2].partition(".")[0]
    is_web = parts.scheme in ("http", "https")
    if is_web and not is_model_uri(uri):
        return unquote(parts.path.rstrip("/").rpartition("/")[2].partition(".")[0])
    # The name of a bucket says what is in it; that of a web server does not, and a password is none.
    user, _, host = parts.netloc.rpartition("@")
    bucket = "" if is_web else f"{host if ':' in user else parts.netloc}/"
    return unquote(model_name(bucket + parts.path.lstrip("/")))


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
    # A start that succeeds needs none of it.
    from servable.savedmodel.foreign import kind_at

    found = kind_at(path)
    if found:
        return f"{path} is {found}"
    return (
        f"{path} is a file, and a folder with a SavedModel or another model was expected, or a file that "
        f"ends in {', '.join(ENDINGS)}"
    )


def _neighbours(path: str) -> str:
    """Describes what exists instead: the nearest existing folder and a few names in it."""
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    try:
        names = sorted(
            entry.name
            for entry in os.scandir(parent)
            if (entry.is_dir() or has_model_ending(entry.name)) and not entry.name.startswith(".")
        )
    except OSError:
        return ""
    if not names:
        return f" ({parent} holds no folders)"
    more = ", …" if len(names) > 8 else ""
    return f" ({parent} holds {', '.join(names[:8])}{more})"
