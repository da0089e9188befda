"""The local cache of remote versions: each is either complete and verified, or absent.

    CACHE/<key of the base path>/<version>-<digest of its listing>/       the version's files
    CACHE/<key of the base path>/<version>-<digest of its listing>.json   proof that they are complete
    CACHE/<key of the base path>/<version>-<digest of its listing>.lock   shared lock of its users
    CACHE/<key of the base path>/.fetching-<name>.lock                    exclusive lock for writing
    CACHE/<key of the base path>/.fetching-<name>.<random>/               a version being written

A version is written under a temporary name, checked against the sizes and checksums that the store states,
and renamed. Any number of models and servers may share a cache: one of them fetches a version while the
others wait for it, and it is removed only when none uses it. The next server removes leftovers of a killed
one.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from servable.config.model_paths import shown_uri
from servable.errors import StatusError
from servable.progress import Task, board
from servable.sizes import size_text
from servable.sources.locks import Lock, take

_log = logging.getLogger("servable.remote")

CHUNK = 1 << 20
PROGRESS_SECONDS = 5.0
"""Interval between progress messages of a long fetch."""
WAITING_SECONDS = 0.1
"""Interval at which a fetch that waits for another checks whether that is over."""
_FETCHING = ".fetching-"
_PLACE = re.compile(r"(\d+)-([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a version: path below the version, size in bytes, and the store's data on the content.

    tag: ETag or time, changes with the content. md5: hexadecimal, "" if the store does not state it.
    """

    path: str
    size: int
    tag: str = ""
    md5: str = ""


Opener = Callable[[RemoteFile], Iterator[bytes]]
"""Reads a file of a version in pieces; may raise ``OSError``."""
Linker = Callable[[RemoteFile, str], bool]
"""Links a file of a version to a path without writing it; returns whether that was possible."""


def digest(files: tuple[RemoteFile, ...]) -> str:
    """Returns 16 hexadecimal digits that change with the listing."""
    text = json.dumps([_fields(one) for one in sorted(files, key=lambda one: one.path)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fields(file: RemoteFile) -> dict[str, str | int]:
    """Returns what ``asdict`` does, for many files: in this order, which digests depend on."""
    return {"path": file.path, "size": file.size, "tag": file.tag, "md5": file.md5}


def md5_of(tag: str) -> str:
    """Returns the MD5 in an ETag or a base64 md5Hash; "" if it is something else (multipart)."""
    bare = tag.strip('"')
    if re.fullmatch(r"[0-9a-f]{32}", bare):
        return bare
    with suppress(ValueError):
        decoded = base64.b64decode(bare, validate=True)
        if len(decoded) == 16:
            return decoded.hex()
    return ""


class Cache:
    """The cached versions of one base path, as seen by one of its users. Not thread-safe.

    Claimed or fetched versions stay until ``let_go``, ``evict`` or ``close``, whatever other users do.
    most_bytes: largest archive, unpacked.
    """

    def __init__(self, folder: str, base_path: str, most_bytes: int = 1 << 32) -> None:
        self.most_bytes = most_bytes
        key = hashlib.sha256(base_path.encode()).hexdigest()[:12]
        # For people, and in logs: without secrets.
        last = shown_uri(base_path).partition("?")[0].rstrip("/").rpartition("/")[2]
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", last)[:40]
        self.folder = os.path.join(folder, f"{name}-{key}")
        self._claimed: dict[str, Lock] = {}
        self._workplace: tuple[str, Lock | None] | None = None

    def prepare(self) -> None:
        """Creates the folder and removes what dead processes left in it. Raises ``OSError``."""
        os.makedirs(self.folder, exist_ok=True)
        left = {"." + name.split(".")[1] for name in self._names() if name.startswith(_FETCHING)}
        for name in left:
            lock = take(os.path.join(self.folder, f"{name}.lock"), shared=False)
            if lock is not None and lock.real:
                self._remove_scratch(name)
                lock.release(remove=True)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except OSError:
            return []

    def _remove_scratch(self, name: str) -> None:
        """Removes everything under this temporary name except its lock."""
        for one in self._names():
            if one == name or (one.startswith(f"{name}.") and one != f"{name}.lock"):
                path = os.path.join(self.folder, one)
                shutil.rmtree(path, ignore_errors=True)
                with suppress(OSError):
                    os.unlink(path)

    def versions(self) -> dict[int, str]:
        """Returns the complete versions and their folders; of two states of a version, the later fetched."""
        found: dict[int, tuple[float, str]] = {}
        for place in self._places():
            proof = f"{place}.json"
            if self._is_complete(proof):
                number = version_at(place)[0]
                with suppress(FileNotFoundError):  # removed by another process since
                    fetched = (os.stat(proof).st_mtime, place)
                    found[number] = max(found.get(number, fetched), fetched)
        return {number: path for number, (_, path) in found.items()}

    def _places(self) -> set[str]:
        """Returns the paths of versions, complete or not."""
        stems = {name.removesuffix(".json").removesuffix(".lock") for name in self._names()}
        return {os.path.join(self.folder, stem) for stem in stems if _PLACE.fullmatch(stem)}

    def _is_complete(self, proof: str) -> bool:
        """True if every file is there in the size that was fetched; a damaged version is fetched again."""
        try:
            with open(proof, encoding="utf-8") as file:
                listed = json.load(file)
            folder = proof.removesuffix(".json")
            return all(os.path.getsize(os.path.join(folder, one["path"])) == one["size"] for one in listed)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def place(self, version: int, files: tuple[RemoteFile, ...]) -> str:
        """Returns the folder of this state of a version, whether it exists or not."""
        return os.path.join(self.folder, f"{version}-{digest(files)}")

    def holds(self, version: int, files: tuple[RemoteFile, ...]) -> bool:
        """True if this state of a version is here and complete."""
        return self._is_complete(self.place(version, files) + ".json")

    def claim(self, place: str) -> bool:
        """Claims the version at ``place``, so that nobody removes it. Returns False if it is not complete."""
        proof = f"{place}.json"
        if place not in self._claimed and self._is_complete(proof):
            lock = take(f"{place}.lock", shared=True)
            if lock is None:  # being removed
                return False
            self._claimed[place] = lock
        if place in self._claimed and self._is_complete(proof):
            return True
        self._let_go(place)
        return False

    def _let_go(self, place: str) -> None:
        lock = self._claimed.pop(place, None)
        if lock is not None:
            lock.release()

    def let_go(self, version: int) -> None:
        """Claims a version no longer: it stays until it is evicted or dropped, by whomever."""
        for place in [one for one in self._claimed if version_at(one)[0] == version]:
            # When it was used last.
            with suppress(OSError):
                os.utime(f"{place}.lock", ns=(time.time_ns(), time.time_ns()))
            self._let_go(place)

    def copies(self) -> Iterator[tuple[float, int, str]]:
        """Of each version that is not claimed: when it was used last, its bytes, its folder."""
        for place in self._places() - set(self._claimed):
            with suppress(OSError, ValueError, KeyError, TypeError):
                with open(f"{place}.json", encoding="utf-8") as file:
                    size = sum(int(one["size"]) for one in json.load(file))
                yield os.stat(f"{place}.lock").st_mtime, size, place

    def drop(self, place: str) -> bool:
        """Removes a version that is not claimed, unless others use it; returns whether it is gone."""
        if place not in self._claimed:
            self._remove(place)
        return not os.path.exists(place)

    @contextmanager
    def turn(self, place: str, stopped: threading.Event) -> Iterator[None]:
        """Holds the exclusive right, among all models and servers, to fetch the version at ``place``.

        Waits for it; raises ``StatusError`` if ``stopped`` is set first.
        """
        path = os.path.join(self.folder, f"{_FETCHING}{os.path.basename(place)}.lock")
        while (lock := take(path, shared=False)) is None:
            if stopped.wait(WAITING_SECONDS):
                raise self._failure(place, OSError(errno.ECANCELED, "the server is stopping"))
        try:
            yield
        finally:
            lock.release(remove=True)

    def fetch(
        self,
        version: int,
        files: tuple[RemoteFile, ...],
        read: Opener,
        stopped: threading.Event,
        link: Linker | None = None,
    ) -> str:
        """Fetches and claims a version, completely or not at all; returns its folder.

        The caller holds the ``turn``.

        Raises ``StatusError``, and whatever ``read`` raises other than ``OSError``.
        """
        place = self.place(version, files)
        scratch = os.path.join(self.folder, f"{_FETCHING}{os.path.basename(place)}.{secrets.token_hex(4)}")
        if place not in self._claimed:
            lock = take(f"{place}.lock", shared=True, wait=True)
            assert lock is not None  # it was waited for
            self._claimed[place] = lock
        try:
            self._link_into(scratch, files, link)
            self._check_room([one for one in files if not os.path.exists(inside(scratch, one.path))])
            self._fetch_into(scratch, files, read, stopped)
            _discard(place)
            os.rename(scratch, place)
            with open(f"{scratch}.json", "w", encoding="utf-8") as file:
                json.dump([_fields(one) for one in files], file)
            os.replace(f"{scratch}.json", f"{place}.json")
        except OSError as error:
            raise self._failure(place, error) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            with suppress(OSError):
                os.unlink(f"{scratch}.json")
            if not self.claim(place):
                self._remove(place)
        return place

    @staticmethod
    def _link_into(scratch: str, files: tuple[RemoteFile, ...], link: Linker | None) -> None:
        """Links the files that need not be written."""
        os.mkdir(scratch)  # in the folder that the locks are in, or not at all
        for one in files if link is not None else ():
            path = inside(scratch, one.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if link is None or not link(one, path):
                return

    def _check_room(self, files: Sequence[RemoteFile]) -> None:
        needed, free = sum(one.size for one in files), shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(
                errno.ENOSPC, f"{size_text(needed)} are needed and {size_text(free)} are free", self.folder
            )

    def _fetch_into(
        self, scratch: str, files: tuple[RemoteFile, ...], read: Opener, stopped: threading.Event
    ) -> None:
        missing = [one for one in files if not os.path.exists(inside(scratch, one.path))]
        total, name = sum(one.size for one in missing), os.path.basename(self.folder)
        with board.task(f"fetching {name}", total) as task:
            progress = _Progress(total, name, task)
            for one in missing:
                self._fetch_one(scratch, one, read(one), stopped, progress)

    @staticmethod
    def _fetch_one(
        scratch: str, one: RemoteFile, pieces: Iterator[bytes], stopped: threading.Event, progress: _Progress
    ) -> None:
        path = inside(scratch, one.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        seen, checksum = 0, hashlib.md5(usedforsecurity=False)
        with open(path, "wb") as file:
            for piece in pieces:
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

    def _failure(self, place: str, error: OSError) -> StatusError:
        text = f"version {version_at(place)[0]} could not be fetched into {self.folder}: {error}"
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
        """Removes every version except those in the folders ``keep`` and those that others use."""
        for place in set(self._claimed) - keep:
            self._let_go(place)
        for place in self._places() - keep:
            self._remove(place)

    def _remove(self, place: str) -> None:
        """Removes a version, unless it is in use."""
        lock = take(f"{place}.lock", shared=False)
        if lock is not None and lock.real:
            _discard(place)
            lock.release(remove=True)

    def workplace(self) -> str:
        """Returns the path, not created yet, of a private folder that ``close`` removes.

        Raises ``OSError``.
        """
        if self._workplace is None:
            os.makedirs(self.folder, exist_ok=True)
            name = f"{_FETCHING}archive-{secrets.token_hex(4)}"
            self._workplace = name, take(os.path.join(self.folder, f"{name}.lock"), shared=False)
        return os.path.join(self.folder, f"{self._workplace[0]}.unpacked")

    def close(self, clear: bool) -> None:
        """Releases everything; with ``clear``, also removes what nobody else uses."""
        if self._workplace is not None:
            name, lock = self._workplace
            self._remove_scratch(name)
            if lock is not None:
                lock.release(remove=True)
        for place in list(self._claimed):
            self._let_go(place)
        if clear:
            self.evict(set())
            with suppress(OSError):  # not empty: others use some of it
                os.rmdir(self.folder)


def free_bytes(folder: str) -> int:
    """Returns the bytes that are free on the disk of a folder; 0 if it is not there."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def version_at(place: str) -> tuple[int, str]:
    """Returns the number and the digest of a version, taken from its folder's name."""
    number, _, state = os.path.basename(place).partition("-")
    return int(number), state


def _discard(place: str) -> None:
    """Removes a version. The proof goes first: a version without one does not count."""
    with suppress(FileNotFoundError):
        os.unlink(f"{place}.json")
    shutil.rmtree(place, ignore_errors=True)


def inside(folder: str, path: str) -> str:
    """Returns ``path`` below ``folder``; raises ``OSError`` if it leads out of it."""
    joined = os.path.normpath(os.path.join(folder, path))
    if not joined.startswith(folder + os.sep):
        raise OSError(errno.EINVAL, "leads out of its folder", path)
    return joined


class _Progress:
    """Logs the progress of a fetch, at most every few seconds, unless a terminal shows it."""

    def __init__(self, total: int, name: str, task: Task) -> None:
        self._task = task
        self._total = total
        self._name = name
        self._done = 0
        self._said = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        self._task.add(count)
        now = time.monotonic()
        if now - self._said >= PROGRESS_SECONDS and not board.is_shown:
            self._said = now
            percent = 100 * self._done // max(1, self._total)
            _log.info("fetching %s: %d %% of %s", self._name, percent, size_text(self._total))
