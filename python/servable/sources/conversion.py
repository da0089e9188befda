"""Versions that are made ready before a load: Keras files, and SavedModels that would answer nothing.

A Keras file is exported as a SavedModel. A SavedModel whose signatures do not see its variables (as
``tf.saved_model.save`` leaves a ``tf.Module`` around a Keras 3 model) is loaded by TensorFlow's Python and
saved again. Both happen in a process of their own (``engines/export_process.py``), once for each content, and
into the cache.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from servable.engines import export_process
from servable.engines.export_process import ExportProcess, Job
from servable.errors import CancelledError, StatusError
from servable.progress import board
from servable.regular_files import open_file
from servable.savedmodel import doctor
from servable.savedmodel.layout import (
    SAVED_MODEL_FILES,
    SAVED_MODEL_FOLDERS,
    keras_file_at,
)
from servable.sizes import size_text
from servable.sources import VersionLoad
from servable.sources.conversion_cache import WAITING_SECONDS, ConversionCache

_log = logging.getLogger("servable.convert")

CONVERTER = 1
"""Counts up when the same source is converted to something else than before."""
MOST_AT_ONCE = 2
"""Conversions at once; each takes hundreds of megabytes and more than a core."""
PROGRESS_SECONDS = 5.0
"""Interval between progress messages of a long conversion."""
SETTLED_SECONDS = 1.0
"""Age at which a file counts as written: a program that writes it goes on within this time."""
WARMUP_FOLDER = SAVED_MODEL_FOLDERS[-1]
_CHUNK = 1 << 20


class Runner(Protocol):
    """See ``ExportProcess``."""

    def run(self, job: Job, stopped: threading.Event, say: Callable[[str, float], None]) -> dict[str, Any]:
        """Does the job."""


@dataclass
class _Work:
    """A conversion for a load, as a ``Job`` of this kind.

    source: what the job reads. needs: packages. files: all that the result depends on.
    """

    kind: str
    load: VersionLoad
    source: str
    needs: tuple[str, ...]
    files: tuple[str, ...] = ()
    phase: str = "it waits for another conversion"

    def __str__(self) -> str:
        return f"{_DOING[self.kind]} {self.source}"


class Conversion:
    """Makes versions ready. See ``Preparation`` in ``lifecycle/interfaces.py``."""

    def __init__(self, cache_dir: str, runner: Runner | None = None) -> None:
        self._cache = ConversionCache(cache_dir)
        self._runner: Runner = runner or ExportProcess()
        self._free = threading.Semaphore(MOST_AT_ONCE)
        self._lock = threading.Lock()
        # By model and version.
        self._under_way: dict[tuple[str, int], _Work] = {}
        # By key: what can never be converted, so that no retry spends seconds on it.
        self._refused: dict[str, StatusError] = {}

    def prepare(self, load: VersionLoad) -> str:
        """Returns the folder of the SavedModel made of the Keras file there, a file or in a folder."""
        file = keras_file_at(load.path)
        _wait_until_written(file, load)
        folders = (os.path.join(load.path, WARMUP_FOLDER),) if os.path.isdir(load.path) else ()
        work = _Work("convert", load, file, ("keras", "tensorflow"))
        return self._converted(work, (file,), folders)

    def heal(self, load: VersionLoad, error: StatusError) -> str:
        """Returns a folder that serves what the SavedModel in ``load.path`` does not, because of ``error``.

        Raises ``error`` again, with a hint, if there is none.
        """
        folders = tuple(os.path.join(load.path, one) for one in SAVED_MODEL_FOLDERS)
        files = [os.path.join(load.path, one) for one in SAVED_MODEL_FILES]
        found = tuple(one for one in files if os.path.isfile(one))
        try:
            return self._converted(_Work("heal", load, load.path, ("tensorflow",)), found, folders)
        except CancelledError:
            raise
        except StatusError as failure:
            hint = f"{doctor.load_hint(load.path, error.message)}\n    {failure.message}"
            hint += f"\n    {failure.hint}" if failure.hint else ""
            raise StatusError(error.code, error.message, hint.strip()) from None

    def keep(self, model: str, version: int, place: str) -> None:
        """See ``Preparation``."""
        self._cache.release((model, version), place)

    def phase(self, model: str, version: int) -> str:
        """Returns what is being done for the version, in words; "" if nothing is."""
        with self._lock:
            work = self._under_way.get((model, version))
            return work.phase if work is not None else ""

    def _converted(self, work: _Work, files: tuple[str, ...], folders: tuple[str, ...]) -> str:
        absent = export_process.missing(work.needs)
        if absent is not None:
            raise StatusError(absent.code, f"{work}: {absent.message}", absent.hint)
        work.files = (*files, *(one for folder in folders for one in files_in(folder)))
        of = work.load.model, work.load.version
        with self._lock:
            self._under_way[of] = work
        try:
            return self._from_cache_or_made(work)
        finally:
            with self._lock:
                self._under_way.pop(of, None)

    def _from_cache_or_made(self, work: _Work) -> str:
        key = _key(work)
        if key in self._refused:
            # Without the traceback of the last time, which would grow.
            raise self._refused[key].with_traceback(None)
        load = work.load
        of, place = (load.model, load.version), self._cache.place(load.path, key)
        known = self._cache.claim(of, place)
        if known is not None:
            by = known.get("made_by", "?")
            _log.info("%s: %s was made from %s before, by %s", load.model, place, work.source, by)
            return place
        with self._cache.turn(load, place), _one_of(self._free, load):
            if self._cache.claim(of, place) is None:  # made by another server meanwhile
                self._make(work, place, key)
        return place

    def _make(self, work: _Work, place: str, key: str) -> None:
        model, needed = work.load.model, sum(size for size, _, _ in _stamps(work.files))
        found = export_process.versions()
        by = " and ".join(f"{_TITLES[one]} {found.get(one, '?')}" for one in work.needs)
        _log.info("%s: %s (%s) with %s, in a process of its own", model, work, size_text(needed), by)
        begun = time.monotonic()
        try:
            made = self._cache.make(work.load, place, needed, lambda target: self._run(work, target))
        except CancelledError:
            raise
        except StatusError as error:
            failure = self._explained(work, error)
            if error.code in ("FAILED_PRECONDITION", "DATA_LOSS"):
                self._refused[key] = failure
            raise failure from None
        seconds = time.monotonic() - begun
        done = f"{_DONE[work.kind]} {work.source}"
        _log.info("%s: %s in %.1f s%s; the SavedModel is %s", model, done, seconds, _how(work, made), place)

    def _run(self, work: _Work, target: str) -> dict[str, Any]:
        before = _stamps(work.files)
        job = Job(work.kind, work.source, target)
        # Without the path, which a terminal has no room for.
        with board.task(f"{work.load.model}, version {work.load.version}", detail=lambda: work.phase):
            made = self._runner.run(job, work.load.stopped, _Progress(work))
        extra = os.path.join(work.load.path, WARMUP_FOLDER)
        if not os.path.exists(os.path.join(target, WARMUP_FOLDER)):
            for file in work.files:
                if file.startswith(f"{extra}{os.sep}"):
                    _copy(file, os.path.join(target, os.path.relpath(file, work.load.path)))
        if _stamps(work.files) != before:
            raise StatusError("UNAVAILABLE", "it changed while it was read")
        return made

    def _explained(self, work: _Work, error: StatusError) -> StatusError:
        text = f"{work} failed: {error.message}"
        if error.code == "RESOURCE_EXHAUSTED" and not error.hint:
            return self._cache.no_room(f"{text} ({self._cache.folder})")
        return StatusError(error.code, text, error.hint)


_TITLES = {"keras": "Keras", "tensorflow": "TensorFlow"}
_DOING = {"convert": "converting", "heal": "healing"}
_DONE = {"convert": "converted", "heal": "healed"}


def _how(work: _Work, made: dict[str, Any]) -> str:
    if work.kind != "heal":
        return ""
    compared = ", ".join(made.get("compared", ()))
    answers = f"; the answers of {compared} are the same as those of the model in Python" if compared else ""
    return (
        ": its signatures read other variables than those that are restored; loaded with "
        f"tf.saved_model.load, all {made.get('variables', '?')} have their values, and so it was saved again"
        f"{answers}"
    )


class _Progress:
    """Remembers the phase of a conversion, and logs it every few seconds, unless a terminal shows it."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._said = 0.0

    def __call__(self, phase: str, seconds: float) -> None:
        """Takes the phase, and the seconds since the begin."""
        self._work.phase = f"{_DOING[self._work.kind]} it, {phase}"
        if seconds - self._said >= PROGRESS_SECONDS and not board.is_shown:
            self._said = seconds
            _log.info("%s: %s: %s, %d s", self._work.load.model, self._work, phase, seconds)


def _key(work: _Work) -> str:
    """Returns a hash of the files and of what converts them. Raises ``StatusError`` if one cannot be read."""
    digest = hashlib.sha256(f"{CONVERTER} {work.kind} {sorted(export_process.versions().items())}".encode())
    for path in work.files:
        try:
            with open_file(path) as file:
                content = hashlib.sha256()
                while piece := file.read(_CHUNK):
                    work.load.check()
                    content.update(piece)
        except OSError as error:
            raise _unreadable(path, error) from None
        name = os.path.relpath(path, work.load.path) if path != work.load.path else "."
        # Not every name is UTF-8.
        digest.update(b"\n%s %s" % (os.fsencode(name), content.hexdigest().encode()))
    return digest.hexdigest()[:32]


def _unreadable(path: str, error: OSError) -> StatusError:
    code = {errno.EACCES: "PERMISSION_DENIED", errno.EPERM: "PERMISSION_DENIED"}.get(error.errno or 0)
    if error.errno in (errno.EINVAL, errno.ENXIO, errno.ELOOP):
        # A pipe, a socket, a link to itself: that does not pass.
        code = "FAILED_PRECONDITION"
    return StatusError(code or "UNAVAILABLE", f"{path} cannot be read: {error.strerror}")


def files_in(folder: str) -> list[str]:
    """Returns the files below ``folder``, sorted; none if it is not there.

    Follows links to folders. Raises ``StatusError`` for one that leads back, and for what cannot be read.
    """
    found: list[str] = []
    ahead: list[tuple[str, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    try:
        while ahead:
            path, above = ahead.pop()
            known = os.stat(path)
            if not stat.S_ISDIR(known.st_mode):
                found.append(path)
                continue
            number = known.st_dev, known.st_ino
            if number in above:
                raise OSError(errno.ELOOP, "it is a link to a folder that it is in", path)
            ahead += [(os.path.join(path, name), above | {number}) for name in os.listdir(path)]
    except FileNotFoundError as error:
        if not os.path.lexists(error.filename or folder):
            return sorted(found) if path != folder else []
        raise _unreadable(path, OSError(errno.ELOOP, "it is a link to nothing")) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    return sorted(found)


def _copy(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open_file(source) as file, open(target, "wb") as copy:
        while piece := file.read(_CHUNK):
            copy.write(piece)


@contextmanager
def _one_of(places: threading.Semaphore, load: VersionLoad) -> Iterator[None]:
    """Holds one of ``places``; waits for it as long as ``load`` is wanted."""
    while not places.acquire(timeout=WAITING_SECONDS):
        load.check()
    try:
        yield
    finally:
        places.release()


def _wait_until_written(file: str, load: VersionLoad) -> None:
    """Waits for a program that is writing the file; its end is not seen otherwise."""
    before = None
    while before != (now := _modified(file)):
        before = now
        if load.stopped.wait(SETTLED_SECONDS):
            load.check()


def _stamps(files: tuple[str, ...]) -> list[tuple[int, int, int]]:
    """Returns size, time and number of each file; those of one that is gone are 0."""
    found = []
    for path in files:
        try:
            one = os.stat(path)
            found.append((one.st_size, one.st_mtime_ns, one.st_ino))
        except OSError:
            found.append((0, 0, 0))
    return found


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
