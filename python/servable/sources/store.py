"""Stores of remote versions: everything that fsspec supports, and archives behind a URL.

A store lists the versions below a base path and reads their files; it keeps nothing. All of its methods may
raise ``OSError`` (``FileNotFoundError`` for a missing base path).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

from servable.config.model_paths import is_model_uri
from servable.errors import StatusError
from servable.savedmodel import layout
from servable.savedmodel.layout import MODEL_FILES, is_version_name
from servable.sources import LONE_VERSION
from servable.sources.archive import ENDINGS, ArchiveStore, is_archive
from servable.sources.cache import CHUNK, RemoteFile, md5_of

EXTRA = "pip install 'servable[remote]'"
PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "hf": "huggingface_hub",
}
"""The package that adds a scheme to fsspec."""
Files = tuple[RemoteFile, ...]


class Store(Protocol):
    """One remote base path."""

    def versions(self) -> dict[int, str]:
        """Returns version → its location."""

    def files(self, place: str) -> Files:
        """Returns every file of the version at ``place``."""

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """Yields the content of one of its files, in pieces."""

    def link(self, place: str, file: RemoteFile, path: str) -> bool:
        """Links the file to ``path`` if it is on this disk already; returns whether that was possible."""


def open_store(base_path: str, scratch: str, most_bytes: int) -> Store:
    """Returns the store of a base path. Raises ``StatusError`` if a package is missing.

    scratch: a folder for unpacking; most_bytes: the size limit there.
    """
    if is_archive(base_path):
        if not (urlsplit(base_path).path.endswith(ENDINGS) or is_model_uri(base_path)):
            raise StatusError(
                "INVALID_ARGUMENT",
                f"{base_path} is not an archive: {', '.join(ENDINGS)} are understood",
                f"and models' own files: {', '.join(layout.ENDINGS)}",
            )
        return ArchiveStore(base_path, scratch, most_bytes)
    return ModelFileStore(base_path) if is_model_uri(base_path) else FsspecStore(base_path)


def files_below(uri: str) -> tuple[str, Files]:
    """Returns where a URI is in its store, and all files below it, by their paths from there.

    Raises as ``Store``s do.
    """
    return FsspecStore(uri).everything()


class FsspecStore:
    """Folders of an object store; versions are numbered folders, or the base path itself is one."""

    def __init__(self, base_path: str) -> None:
        try:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(base_path)
        except ImportError as error:
            scheme = urlsplit(base_path).scheme
            package = PACKAGES.get(scheme)
            more = f", and {package} for {scheme}://: pip install {package}" if package else ""
            raise StatusError("UNIMPLEMENTED", f"{base_path}: {error}", f"{EXTRA}{more}") from None
        except ValueError as error:
            raise StatusError("INVALID_ARGUMENT", f"{base_path}: {error}") from None

    def versions(self) -> dict[int, str]:
        """See ``Store``."""
        self._fs.invalidate_cache()
        entries = self._fs.ls(self._root, detail=True)
        found = {}
        for entry in sorted(entries, key=lambda one: str(one["name"])):
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if entry["type"] == "directory" and is_version_name(name):
                found[int(name)] = str(entry["name"]).rstrip("/")
        names = {str(entry["name"]).rpartition("/")[2] for entry in entries}
        if not found and names & set(MODEL_FILES):
            return {LONE_VERSION: self._root.rstrip("/")}
        return found

    def everything(self) -> tuple[str, Files]:
        """Returns where the base path is in its store, and all files below it."""
        self._fs.invalidate_cache()
        root = self._root.rstrip("/")
        files = self.files(root)
        # It has kept the listing, which may be long.
        self._fs.invalidate_cache()
        return root, files

    def files(self, place: str) -> Files:
        """See ``Store``."""
        listed = self._fs.find(place, detail=True)
        return tuple(_file(path[len(place) :].lstrip("/"), info) for path, info in sorted(listed.items()))

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """See ``Store``."""
        with self._fs.open(f"{place}/{file.path}", "rb") as opened:
            while piece := opened.read(CHUNK):
                yield piece

    def link(self, place: str, file: RemoteFile, path: str) -> bool:
        """See ``Store``."""
        return False


class ModelFileStore(FsspecStore):
    """A model's file in an object store: one version, whose files are named as in a version's folder."""

    def versions(self) -> dict[int, str]:
        """See ``Store``."""
        self._fs.invalidate_cache()
        self._fs.info(self._root)
        return {LONE_VERSION: self._root}

    def files(self, place: str) -> Files:
        """See ``Store``."""
        return tuple(_file(name, self._fs.info(path)) for name, path in self._paths(place).items())

    def _paths(self, place: str) -> dict[str, str]:
        """Returns name → path: the file, and the weights that belong to an .xml."""
        stem, ending = os.path.splitext(place)
        paths = {f"model{ending.lower()}": place}
        if ending.lower() == ".xml" and self._fs.exists(f"{stem}.bin"):
            paths["model.bin"] = f"{stem}.bin"
        return paths

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """See ``Store``."""
        folder, _, name = self._paths(place)[file.path].rpartition("/")
        return super().read(folder, RemoteFile(name, file.size))


def _file(name: str, info: dict[str, Any]) -> RemoteFile:
    return RemoteFile(name, int(info["size"]), _tag(info), md5_of(_checksum(info)))


def _tag(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "blob_id", "LastModified", "last_modified", "mtime", "created"):
        if info.get(key):
            return str(info[key])
    return ""


def _checksum(info: dict[str, Any]) -> str:
    return str(info.get("md5Hash") or info.get("ETag") or "")
