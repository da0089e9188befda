"""Where remote versions lie: anything that fsspec knows, and archives behind a URL.

A store lists the versions below a base path and reads their files; it keeps nothing. All of its methods may
raise ``OSError`` (a ``FileNotFoundError`` for a base path that is not there).
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

from servable.errors import StatusError
from servable.model_paths import SAVED_MODEL_FILES, is_version_name
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
"""The package that gives fsspec a scheme."""
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
LARGEST_ARCHIVE = 1 << 38
"""Bytes, unpacked."""
TIMEOUT_SECONDS = 60.0
LONE_VERSION = 1
"""The number of a SavedModel that lies in the base path itself."""

Files = tuple[RemoteFile, ...]


class Store(Protocol):
    """One remote base path."""

    def versions(self) -> dict[int, str]:
        """Version → where it lies."""

    def files(self, place: str) -> Files:
        """Every file of the version at ``place``."""

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """The content of one of them, in pieces."""


def open_store(base_path: str, scratch: str) -> Store:
    """The store of a base path. Raises ``StatusError`` when a package is missing.

    scratch: a folder for what must be unpacked.
    """
    if is_archive(base_path):
        if not urlsplit(base_path).path.endswith(ARCHIVES):
            raise StatusError(
                "INVALID_ARGUMENT", f"{base_path} is not an archive: {', '.join(ARCHIVES)} are understood"
            )
        return ArchiveStore(base_path, scratch)
    return FsspecStore(base_path)


def is_archive(base_path: str) -> bool:
    """Whether it is fetched by HTTP, and so must be an archive."""
    return urlsplit(base_path).scheme in ("http", "https")


class FsspecStore:
    """Folders of an object store; versions are numbered folders, or the base path is a SavedModel itself."""

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
        if not found and names & set(SAVED_MODEL_FILES):
            return {LONE_VERSION: self._root.rstrip("/")}
        return found

    def files(self, place: str) -> Files:
        """See ``Store``."""
        listed = self._fs.find(place, detail=True)
        return tuple(
            RemoteFile(path[len(place) :].lstrip("/"), int(info["size"]), _tag(info), md5_of(_checksum(info)))
            for path, info in sorted(listed.items())
        )

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """See ``Store``."""
        with self._fs.open(f"{place}/{file.path}", "rb") as opened:
            while piece := opened.read(CHUNK):
                yield piece


def _tag(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "blob_id", "LastModified", "last_modified", "mtime", "created"):
        if info.get(key):
            return str(info[key])
    return ""


def _checksum(info: dict[str, Any]) -> str:
    return str(info.get("md5Hash") or info.get("ETag") or "")


class ArchiveStore:
    """A zip or tar file behind a URL; unpacked into ``scratch`` when its ETag changes."""

    def __init__(self, url: str, scratch: str) -> None:
        self._url = url
        self._scratch = scratch
        self._tag = ""
        self._folder = ""

    def versions(self) -> dict[int, str]:
        """See ``Store``. Asks with If-None-Match; what has not changed is not sent again."""
        request = urllib.request.Request(self._url)
        if self._tag and os.path.isdir(self._folder):
            request.add_header("If-None-Match", self._tag)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:
                self._unpack(reply, reply.headers.get("ETag", "") or reply.headers.get("Last-Modified", ""))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                raise FileNotFoundError(2, "no such archive", self._url) from None
            if error.code != 304:
                raise
        root = self._root()
        found = {
            int(one): os.path.join(root, one) for one in sorted(os.listdir(root)) if is_version_name(one)
        }
        return found or {LONE_VERSION: root}

    def _unpack(self, reply: Any, tag: str) -> None:
        os.makedirs(self._scratch, exist_ok=True)
        fresh = tempfile.mkdtemp(prefix="archive-", dir=self._scratch)
        try:
            with tempfile.TemporaryFile(dir=self._scratch) as packed:
                shutil.copyfileobj(reply, packed, CHUNK)
                packed.seek(0)
                _extract(packed, urlsplit(self._url).path, fresh)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise OSError(5, f"not an archive that can be read: {error}", self._url) from error
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._tag = fresh, tag

    def _root(self) -> str:
        """The folder with the versions or the SavedModel: archives often wrap it in folders of one entry."""
        root = self._folder
        while True:
            names = os.listdir(root)
            only = os.path.join(root, names[0]) if len(names) == 1 else ""
            if not only or is_version_name(names[0]) or not os.path.isdir(only):
                return root
            root = only

    def files(self, place: str) -> Files:
        """See ``Store``."""
        found = []
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                found.append(RemoteFile(os.path.relpath(path, place), os.path.getsize(path), self._tag))
        return tuple(sorted(found, key=lambda one: one.path))

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """See ``Store``."""
        with open(os.path.join(place, file.path), "rb") as opened:
            while piece := opened.read(CHUNK):
                yield piece


def _extract(packed: Any, name: str, folder: str) -> None:
    """Unpacks without leaving ``folder``: names that lead out of it, links and devices are refused."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(packed) as archive:
            _check_size(sum(one.file_size for one in archive.infolist()))
            archive.extractall(folder)  # zipfile itself strips what would lead out
        return
    with tarfile.open(fileobj=packed, mode="r:*") as archive:
        members = archive.getmembers()
        _check_size(sum(one.size for one in members))
        for one in members:
            target = os.path.normpath(os.path.join(folder, one.name))
            if not (one.isfile() or one.isdir()) or not f"{target}/".startswith(f"{folder}/"):
                raise tarfile.TarError(f"{one.name} is neither a file nor a folder inside of the archive")
        for one in members:
            archive.extract(one, folder, set_attrs=False)


def _check_size(size: int) -> None:
    if size > LARGEST_ARCHIVE:
        raise OSError(27, f"it would unpack to {size} bytes")
