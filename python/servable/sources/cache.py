"""The local cache of remote versions: fetched whole and verified, or not there at all.

    CACHE/<key of the base path>/<version>-<digest of its listing>/       the version's files
    CACHE/<key of the base path>/<version>-<digest of its listing>.json   the proof that they are complete

A version is written under a temporary name, checked against the sizes and checksums that the store states,
and renamed. Two servers may share a cache; whoever renames first wins. What a killed server left behind is
removed by the next one.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from servable.errors import StatusError
from servable.table import size_text

_log = logging.getLogger("remote")

CHUNK = 1 << 20
PROGRESS_SECONDS = 5.0
"""How often a fetch that takes long says where it is."""
_FETCHING = ".fetching-"
_COMPLETE = re.compile(r"(\d+)-([0-9a-f]{16})\.json")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a version: its path below the version, bytes, and what the store says of its content.

    tag: ETag or time, changes with the content. md5: hexadecimal, "" where the store does not state it.
    """

    path: str
    size: int
    tag: str = ""
    md5: str = ""


Opener = Callable[[RemoteFile], Iterator[bytes]]
"""Reads a file of a version in pieces; may raise ``OSError``."""


def digest(files: tuple[RemoteFile, ...]) -> str:
    """16 hexadecimal digits that change when the listing does."""
    text = json.dumps([asdict(one) for one in sorted(files, key=lambda one: one.path)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def md5_of(tag: str) -> str:
    """The MD5 that an ETag or a base64 md5Hash states; "" for one that is something else (multipart)."""
    bare = tag.strip('"')
    if re.fullmatch(r"[0-9a-f]{32}", bare):
        return bare
    with suppress(ValueError):
        decoded = base64.b64decode(bare, validate=True)
        if len(decoded) == 16:
            return decoded.hex()
    return ""


class Cache:
    """The cached versions of one base path. One thread at a time."""

    def __init__(self, folder: str, base_path: str) -> None:
        key = hashlib.sha256(base_path.encode()).hexdigest()[:12]
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", base_path.rstrip("/").rpartition("/")[2])[:40]
        self.folder = os.path.join(folder, f"{name}-{key}")

    def prepare(self) -> None:
        """Makes the folder and removes what dead processes left in it. Raises ``OSError``."""
        os.makedirs(self.folder, exist_ok=True)
        for name in os.listdir(self.folder):
            if name.startswith(_FETCHING) and not _is_alive(name.removeprefix(_FETCHING).partition("-")[0]):
                shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)

    def versions(self) -> dict[int, str]:
        """Complete versions and their folders; of two states of one version, the later fetched."""
        found: dict[int, tuple[float, str]] = {}
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            match = _COMPLETE.fullmatch(name)
            proof = os.path.join(self.folder, name)
            if match and self._is_complete(proof):
                fetched = os.stat(proof).st_mtime
                number = int(match[1])
                if number not in found or found[number][0] < fetched:
                    found[number] = (fetched, proof.removesuffix(".json"))
        return {number: path for number, (_, path) in found.items()}

    def _is_complete(self, proof: str) -> bool:
        """Every file is there in the size that was fetched; a damaged cache is fetched again."""
        try:
            with open(proof, encoding="utf-8") as file:
                listed = json.load(file)
            folder = proof.removesuffix(".json")
            return all(os.path.getsize(os.path.join(folder, one["path"])) == one["size"] for one in listed)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def place(self, version: int, files: tuple[RemoteFile, ...]) -> str:
        """Where this state of a version is, or will be."""
        return os.path.join(self.folder, f"{version}-{digest(files)}")

    def holds(self, version: int, files: tuple[RemoteFile, ...]) -> bool:
        """Whether this state of a version is here and whole."""
        return self._is_complete(self.place(version, files) + ".json")

    def fetch(
        self, version: int, files: tuple[RemoteFile, ...], read: Opener, stopped: threading.Event
    ) -> str:
        """Brings a version here, whole or not at all; its folder. Raises ``StatusError``."""
        place = self.place(version, files)
        scratch = os.path.join(self.folder, f"{_FETCHING}{os.getpid()}-{version}")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            self._check_room(files)
            self._fetch_into(scratch, files, read, stopped)
            _discard(place)
            os.rename(scratch, place)
            with open(f"{scratch}.json", "w", encoding="utf-8") as file:
                json.dump([asdict(one) for one in files], file)
            os.replace(f"{scratch}.json", f"{place}.json")
        except OSError as error:
            raise self._failure(version, error) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            with suppress(OSError):
                os.unlink(f"{scratch}.json")
        return place

    def _check_room(self, files: tuple[RemoteFile, ...]) -> None:
        needed, free = sum(one.size for one in files), shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(
                errno.ENOSPC, f"{size_text(needed)} are needed and {size_text(free)} are free", self.folder
            )

    def _fetch_into(
        self, scratch: str, files: tuple[RemoteFile, ...], read: Opener, stopped: threading.Event
    ) -> None:
        progress = _Progress(sum(one.size for one in files), os.path.basename(self.folder))
        os.makedirs(scratch)
        for one in files:
            path = _inside(scratch, one.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            seen, checksum = 0, hashlib.md5(usedforsecurity=False)
            with open(path, "wb") as file:
                for piece in read(one):
                    if stopped.is_set():
                        raise OSError(errno.ECANCELED, "the server is stopping", one.path)
                    file.write(piece)
                    checksum.update(piece)
                    seen += len(piece)
                    progress.add(len(piece))
            if seen != one.size:
                raise OSError(errno.EIO, f"expected {one.size} bytes, got {seen}", one.path)
            if one.md5 and checksum.hexdigest() != one.md5:
                raise OSError(errno.EIO, f"expected MD5 {one.md5}, got {checksum.hexdigest()}", one.path)

    def _failure(self, version: int, error: OSError) -> StatusError:
        text = f"version {version} could not be fetched into {self.folder}: {error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StatusError(
                "RESOURCE_EXHAUSTED",
                text,
                "free some space there, or choose another folder: --model_cache_dir",
            )
        if error.errno in (errno.EACCES, errno.EROFS):
            return StatusError(
                "PERMISSION_DENIED", text, "choose a folder that may be written: --model_cache_dir"
            )
        return StatusError("UNAVAILABLE", text)

    def evict(self, keep: set[str]) -> None:
        """Removes every version but those in the folders ``keep``."""
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name).removesuffix(".json")
            if not name.startswith(_FETCHING) and path not in keep:
                _discard(path)


def _discard(place: str) -> None:
    """The proof goes first: a version without one does not count."""
    with suppress(FileNotFoundError):
        os.unlink(f"{place}.json")
    shutil.rmtree(place, ignore_errors=True)


def _inside(folder: str, path: str) -> str:
    """``path`` below ``folder``; raises ``OSError`` for one that leads out of it."""
    joined = os.path.normpath(os.path.join(folder, path))
    if not joined.startswith(folder + os.sep):
        raise OSError(errno.EINVAL, "leads out of its folder", path)
    return joined


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


class _Progress:
    """Says how far a fetch has come, at most every few seconds."""

    def __init__(self, total: int, name: str) -> None:
        self._total = total
        self._name = name
        self._done = 0
        self._said = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            percent = 100 * self._done // max(1, self._total)
            _log.info("fetching %s: %d %% of %s", self._name, percent, size_text(self._total))
