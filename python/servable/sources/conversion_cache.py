"""The local cache of converted models: each is either complete, or absent.

    CACHE/converted/<name>-<key>/               a SavedModel
    CACHE/converted/<name>-<key>.json           what it was made of, and proof that it is complete
    CACHE/converted/<name>-<key>.lock           shared lock of its users
    CACHE/converted/.converting-<name>-<key>.lock      exclusive lock for writing
    CACHE/converted/.converting-<name>-<key>.<random>/ one being written

The key is a hash of everything that the result depends on. A model is written under a temporary name and
renamed. Any number of servers may share the cache: one of them converts while the others wait. The next one
removes what a killed one has left, and all but the last two results from the same source, or from versions in
the same folder, unless they are in use.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from servable.errors import StatusError
from servable.savedmodel.layout import is_version_name
from servable.sizes import size_text
from servable.sources import VersionLoad
from servable.sources.locks import Lock, take

WAITING_SECONDS = 0.1
"""Interval at which a conversion that waits for another checks whether that is over."""
_WRITING = ".converting-"
KEPT = 2
"""Results from one source that stay, whether they are in use or not."""
Version = tuple[str, int]
"""A model's name and the version that a result is for."""
Make = Callable[[str], dict[str, Any]]
"""Writes a SavedModel into the new folder that it is given; returns how."""


class ConversionCache:
    """The converted models below ``folder``, as seen by one server. Thread-safe.

    A result that a version claims stays until the version releases it, whatever other servers do.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.join(folder, "converted")
        self._lock = threading.Lock()
        # By model and version: what it claims.
        self._claims: dict[Version, dict[str, Lock]] = {}

    def place(self, source: str, key: str) -> str:
        """Returns the folder of a result, whether it exists or not."""
        above, name = os.path.split(source.rstrip("/"))
        if is_version_name(name):
            name = f"{os.path.basename(above)}-{name}"
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".-")[:40]
        return os.path.join(self.folder, f"{stem or 'model'}-{key}")

    def claim(self, version: Version, place: str) -> dict[str, Any] | None:
        """Claims the result at ``place``, so that nobody removes it; returns how it was made.

        Returns None if it is not complete.
        """
        with self._lock:
            held = self._claims.get(version, {})
            if place in held:
                return _proof(place)
            lock = take(f"{place}.lock", shared=True) if _proof(place) is not None else None
            if lock is None:
                return None
            proof = _proof(place)
            if proof is None:
                lock.release()
                return None
            self._claims[version] = {**held, place: lock}
            return proof

    def release(self, version: Version, keep: str = "") -> None:
        """Releases what ``version`` claims, but for ``keep``."""
        with self._lock:
            held = self._claims.pop(version, {})
            kept = {place: lock for place, lock in held.items() if place == keep}
            if kept:
                self._claims[version] = kept
            for place, lock in held.items():
                if place not in kept:
                    lock.release()

    @contextmanager
    def turn(self, load: VersionLoad, place: str) -> Iterator[None]:
        """Holds the exclusive right, among all models and servers, to make the result at ``place``.

        Waits for it. Raises ``StatusError`` if the folder cannot be made, and once nobody wants the load.
        """
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise self.failure(error) from None
        path = os.path.join(self.folder, f"{_WRITING}{os.path.basename(place)}.lock")
        while (lock := take(path, shared=False)) is None:
            if load.stopped.wait(WAITING_SECONDS):
                load.check()
        try:
            yield
        finally:
            lock.release(remove=True)

    def make(self, load: VersionLoad, place: str, needed: int, make: Make) -> dict[str, Any]:
        """Makes and claims the result for ``load``, completely or not at all; returns how it was made.

        The caller holds the ``turn``. needed: bytes that it takes at least. Raises ``StatusError``.
        """
        self._remove_leftovers(place)
        scratch = os.path.join(self.folder, f"{_WRITING}{os.path.basename(place)}.{secrets.token_hex(4)}")
        try:
            self._check_room(needed)
            os.mkdir(scratch)
            target = os.path.join(scratch, "model")
            proof = {"source": load.path, **make(target)}
            proof["files"] = _sizes(target)
            if not os.path.isfile(os.path.join(target, "saved_model.pb")):
                raise StatusError("INTERNAL", "no SavedModel was written")
            with open(os.path.join(scratch, "proof"), "w", encoding="utf-8") as file:
                json.dump(proof, file)
            # Held until it is claimed, so that no other server removes it before.
            with _shared(f"{place}.lock"):
                _discard(place)
                os.rename(target, place)
                os.replace(os.path.join(scratch, "proof"), f"{place}.json")
                claimed = self.claim((load.model, load.version), place)
        except OSError as error:
            raise self.failure(error) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        self._evict(load.path, place)
        if claimed is None:
            raise StatusError("ABORTED", f"{place} was removed while it was made")
        return claimed

    def failure(self, error: OSError) -> StatusError:
        """Returns the error of something that the disk refused."""
        text = f"{self.folder} cannot take the result: {error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return self.no_room(text)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            hint = "choose a folder that may be written: --model_cache_dir"
            return StatusError("PERMISSION_DENIED", text, hint)
        return StatusError("UNAVAILABLE", text)

    @staticmethod
    def no_room(text: str) -> StatusError:
        """Returns the error of a full disk."""
        hint = "free some space there, or choose another folder: --model_cache_dir"
        return StatusError("RESOURCE_EXHAUSTED", text, hint)

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            text = f"{size_text(needed)} are needed and {size_text(free)} are free"
            raise OSError(errno.ENOSPC, text, self.folder)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except OSError:
            return []

    def _remove_leftovers(self, place: str) -> None:
        """Removes what killed servers have left, of this result and of others."""
        stems = {name.rpartition(".")[0] for name in self._names() if name.startswith(_WRITING)}
        mine = f"{_WRITING}{os.path.basename(place)}"
        for stem in stems:
            lock = None if stem == mine else take(os.path.join(self.folder, f"{stem}.lock"), shared=False)
            if stem == mine or (lock is not None and lock.real):
                for name in self._names():
                    if name.rpartition(".")[0] == stem and name != f"{stem}.lock":
                        shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)
            if lock is not None:
                lock.release(remove=lock.real)

    def _evict(self, source: str, newest: str) -> None:
        """Removes the results from ``source`` but for the last ``KEPT``, and those that somebody uses."""
        places = [os.path.join(self.folder, one[:-5]) for one in self._names() if one.endswith(".json")]
        proofs = {place: _proof(place) for place in places if place != newest}
        same = [
            one for one, proof in proofs.items() if proof and _origin(proof.get("source")) == _origin(source)
        ]
        same.sort(key=lambda place: _age(f"{place}.json"))
        broken = [one for one, proof in proofs.items() if proof is None]
        for place in same[KEPT - 1 :] + broken:
            lock = take(f"{place}.lock", shared=False)
            if lock is not None and lock.real:
                _discard(place)
                lock.release(remove=True)


def _origin(source: object) -> str:
    """Returns what has one result after another: a file or folder, or the folder of versions."""
    path = str(source).rstrip("/")
    above, name = os.path.split(path)
    return above if is_version_name(name) else path


def _age(path: str) -> float:
    try:
        return -os.stat(path).st_mtime
    except OSError:
        return 0.0


@contextmanager
def _shared(path: str) -> Iterator[None]:
    lock = take(path, shared=True, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _proof(place: str) -> dict[str, Any] | None:
    """Returns how a result was made; None unless every file is there in the size that was written."""
    try:
        with open(f"{place}.json", encoding="utf-8") as file:
            proof: dict[str, Any] = json.load(file)
        for path, size in proof["files"].items():
            if os.path.getsize(os.path.join(place, path)) != size:
                return None
        return proof
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sizes(folder: str) -> dict[str, int]:
    found = {}
    for inner, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(inner, name)
            found[os.path.relpath(path, folder)] = os.path.getsize(path)
    return found


def _discard(place: str) -> None:
    """Removes a result. The proof goes first: without one it does not count."""
    with suppress(FileNotFoundError):
        os.unlink(f"{place}.json")
    shutil.rmtree(place, ignore_errors=True)
