"""Stores of remote versions: everything that fsspec supports, and archives behind a URL.

A store lists the versions below a base path and reads their files; it keeps nothing. All of its methods may
raise ``OSError`` (``FileNotFoundError`` for a missing base path).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from servable import installing
from servable.config.model_paths import is_model_uri, shown_uri
from servable.errors import StatusError
from servable.savedmodel import layout
from servable.savedmodel.layout import MODEL_FILES, is_version_name
from servable.sources import LONE_VERSION
from servable.sources.archive import ENDINGS, ArchiveStore, is_archive
from servable.sources.cache import CHUNK, RemoteFile, md5_of

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
                f"{shown_uri(base_path)} is not an archive: {', '.join(ENDINGS)} are understood",
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
        self._base_path = base_path
        self._connect()

    def _connect(self) -> None:
        base_path = self._base_path
        try:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(base_path)
        except ImportError as error:
            scheme = urlsplit(base_path).scheme
            advice = installing.store(scheme, PACKAGES.get(scheme, ""))
            raise StatusError("UNIMPLEMENTED", f"{shown_uri(base_path)}: {error}", advice) from None
        except ValueError as error:
            raise StatusError("INVALID_ARGUMENT", f"{shown_uri(base_path)}: {error}") from None
        self._is_lost = False

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Surrounds a listing. After a failure, the next one has a new connection.

        Those of FTP, SFTP and the like come with the file system, which fsspec keeps, and are not renewed.
        """
        if self._is_lost:
            self._connect()
        try:
            yield self._fs
        except (FileNotFoundError, PermissionError):
            raise
        except Exception:
            if not self._fs.async_impl:
                self._fs.clear_instance_cache()
                self._is_lost = True
            raise

    def versions(self) -> dict[int, str]:
        """See ``Store``."""
        with self._connected() as fs:
            fs.invalidate_cache()
            entries = fs.ls(self._root, detail=True)
        if not entries:
            # A disk that is not mounted there, most likely; stores of objects have no empty folders.
            raise _nothing_at(self._root)
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
        listed = self._below(place)
        return tuple(_file(path[len(place) :].lstrip("/"), info) for path, info in sorted(listed.items()))

    def _below(self, place: str) -> dict[str, dict[str, Any]]:
        """Returns what is told of each file below ``place``, by its path.

        Raises what goes wrong on the way, as some files must not pass for all; ``FileNotFoundError`` if there
        is none.
        """
        with self._connected() as fs:
            found: dict[str, dict[str, Any]]
            found = fs.find(place, detail=True) if finds_all(fs) else _walked(fs, place)
        if not found:
            raise _nothing_at(place)
        return found

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
        with self._connected() as fs:
            fs.invalidate_cache()
            fs.info(self._root)
        return {LONE_VERSION: self._root}

    def files(self, place: str) -> Files:
        """See ``Store``."""
        return tuple(_file(name, self._fs.info(path)) for name, path in self._paths(place).items())

    def _paths(self, place: str) -> dict[str, str]:
        """Returns name → path: the file, and the weights that belong to an .xml."""
        stem, ending = os.path.splitext(place)
        paths = {f"model{ending.lower()}": place}
        if ending.lower() == ".xml" and self._has(f"{stem}.bin"):
            paths["model.bin"] = f"{stem}.bin"
        return paths

    def _has(self, path: str) -> bool:
        """Returns whether a file is there; fsspec's ``exists`` says no whatever goes wrong."""
        try:
            self._fs.info(path)
        except FileNotFoundError:
            return False
        return True

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """See ``Store``."""
        folder, _, name = self._paths(place)[file.path].rpartition("/")
        return super().read(folder, RemoteFile(name, file.size))


def finds_all(fs: Any) -> bool:
    """True if ``find`` raises where a folder cannot be listed: fsspec's own takes such a folder for empty.

    Stores of objects have one that is theirs, with a request for a thousand files instead of one per folder.
    """
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    while isinstance(inner := getattr(fs, "fs", None), AbstractFileSystem):
        fs = inner
    kind = type(fs)
    if issubclass(kind, AsyncFileSystem) and kind._find is not AsyncFileSystem._find:
        return True
    return kind.find is not AbstractFileSystem.find


def _walked(fs: Any, place: str) -> dict[str, dict[str, Any]]:
    """Returns what is told of each file below ``place``, by its path, as listed folder by folder."""
    found, folders = {}, [place or "/"]
    while folders:
        folder = folders.pop()
        # FTP's takes a folder that its parent's listing has, and that cannot be listed, for empty.
        fs.invalidate_cache()
        try:
            entries = fs.ls(folder, detail=True)
        except PermissionError as error:
            # SFTP's does not say where.
            raise PermissionError(errno.EACCES, error.strerror or str(error), folder) from error
        for entry in entries:
            path = str(entry["name"]).rstrip("/")
            if entry["type"] != "directory":
                found[path] = entry
            elif path != folder.rstrip("/"):
                folders.append(path)
    return found


def _nothing_at(place: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "Nothing is there", place or "/")


def _file(name: str, info: dict[str, Any]) -> RemoteFile:
    return RemoteFile(name, int(info["size"]), _tag(info), md5_of(_checksum(info)))


def _tag(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "blob_id", "LastModified", "last_modified", "mtime", "created"):
        if info.get(key):
            return str(info[key])
    return ""


def _checksum(info: dict[str, Any]) -> str:
    return str(info.get("md5Hash") or info.get("ETag") or "")
