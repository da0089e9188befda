"""Versions in remote stores: polled gently, fetched into the local cache, announced from there.

One thread per model, so that a slow store or a large download delays no other model. A version is announced
when all of its files are here; until then what was announced before stays. When the store is away, so does
what is announced; at start the versions in the cache are served. Failures double the pause, up to ten
minutes; every pause is varied by a tenth, so that many servers do not ask at once.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Sequence

from servable.config import ModelConfig
from servable.errors import StatusError
from servable.sources import AspiredVersion, Receiver
from servable.sources.cache import Cache, digest
from servable.sources.filesystem import choose
from servable.sources.store import Store, open_store

_log = logging.getLogger("remote")

LONGEST_PAUSE = 600.0
JITTER = 0.1


def pause_after(failures: int, poll_seconds: float, variation: float) -> float:
    """Seconds until the next look after so many failures in a row; ``variation``: -1 to 1. Pure."""
    base = min(max(poll_seconds, LONGEST_PAUSE), poll_seconds * 2.0 ** min(failures, 30))
    return base * (1.0 + JITTER * variation)


class RemoteSource:
    """Polls remote base paths. See ``Source`` for the contract.

    poll_seconds: pause between looks; 0: one look after each ``watch``; None: never look. cache: the folder
    that the versions are fetched into.
    """

    def __init__(self, poll_seconds: float | None, cache: str) -> None:
        self._poll_seconds = poll_seconds
        self._cache = cache
        self._lock = threading.Lock()
        self._followers: dict[str, _Follower] = {}
        self._receiver: Receiver | None = None
        self._models: tuple[ModelConfig, ...] = ()
        self._ended: list[_Follower] = []

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Replaces the list of models; changed and new ones are looked at at once."""
        with self._lock:
            self._models = tuple(models)
            if self._receiver is None or self._poll_seconds is None:
                return
            wanted = {model.name: model for model in models}
            for name, follower in list(self._followers.items()):
                if wanted.get(name) is None or not follower.follows(wanted[name]):
                    follower.stop()
                    self._ended.append(follower)
                    del self._followers[name]
                    if name not in wanted:
                        self._receiver.aspire(name, ())
            for name, model in wanted.items():
                if name not in self._followers:
                    follower = _Follower(model, self._poll_seconds, self._cache, self._receiver)
                    self._followers[name] = follower
                    follower.start()

    def start(self, receiver: Receiver) -> None:
        """Begins to look."""
        with self._lock:
            self._receiver = receiver
            models = self._models
        self.watch(models)

    def stop(self) -> None:
        """Ends every look; a download under way stops at its next piece."""
        with self._lock:
            followers = [*self._followers.values(), *self._ended]
            self._followers = {}
        for follower in followers:
            follower.stop()


class _Follower:
    """Looks after one model on a thread of its own."""

    def __init__(self, model: ModelConfig, poll_seconds: float, cache: str, receiver: Receiver) -> None:
        self._model = model
        self._poll_seconds = poll_seconds
        self._cache = Cache(cache, model.base_path)
        self._receiver = receiver
        self._stopped = threading.Event()
        self._speaking = threading.Lock()
        self._store: Store | None = None
        self._announced: tuple[AspiredVersion, ...] | None = None
        self._before: tuple[AspiredVersion, ...] = ()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name=f"remote-{model.name}", daemon=True)

    def follows(self, model: ModelConfig) -> bool:
        """Whether ``model`` asks for what is being followed."""
        return (model.base_path, model.policy) == (self._model.base_path, self._model.policy)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Nothing is announced after it; the thread ends by itself."""
        self._stopped.set()
        with self._speaking:
            pass

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                self._look()
            except Exception as error:  # stores raise what they like; this model alone is concerned
                failures += 1
                self._failed(error)
            else:
                failures, self._said = 0, ""
            if not self._poll_seconds:
                return
            self._stopped.wait(pause_after(failures, self._poll_seconds, random.uniform(-1, 1)))

    def _look(self) -> None:
        """One look: list, fetch what is missing, announce. Raises what went wrong, with all else done."""
        self._cache.prepare()
        if self._store is None:
            self._store = open_store(
                self._model.base_path, os.path.join(self._cache.folder, ".fetching-" + _pid())
            )
        listed = self._store.versions()
        ready, failure = [], None
        wanted = choose(self._model.policy, listed)
        for version in reversed(wanted):
            try:
                ready.append(self._bring(self._store, version, listed[version]))
            except StatusError as error:
                failure = failure or error
        if ready or not wanted:
            self._announce(tuple(sorted(ready, key=lambda one: one.version)))
        if failure is not None:
            raise failure
        if not listed:
            raise StatusError("NOT_FOUND", f"No versions of servable {self._model.name} found")
        self._cache.evict({one.path for one in (*(self._announced or ()), *self._before)})
        self._before = self._announced or ()

    def _bring(self, store: Store, version: int, place: str) -> AspiredVersion:
        files = store.files(place)
        path = self._cache.place(version, files)
        if not self._cache.holds(version, files):
            _log.info("fetching %s version %d from %s", self._model.name, version, self._model.base_path)
            self._cache.fetch(version, files, lambda file: store.read(place, file), self._stopped)
            _log.info("fetched %s version %d into %s", self._model.name, version, path)
        return AspiredVersion(version, path, digest(files))

    def _announce(self, versions: tuple[AspiredVersion, ...]) -> None:
        with self._speaking:
            if versions != self._announced and not self._stopped.is_set():
                self._announced = versions
                self._receiver.aspire(self._model.name, versions)

    def _failed(self, error: Exception) -> None:
        """Says so once per kind of failure; the first time, what the cache has is served."""
        if self._stopped.is_set():
            return
        hint = f"\n    {error.hint}" if isinstance(error, StatusError) and error.hint else ""
        text = str(error) or type(error).__name__
        said = f"Could not find base path {self._model.base_path} for servable {self._model.name} "
        said += f"with error {text}{hint}"
        if said != self._said:
            _log.warning("%s", said)
            self._said = said
        if self._announced is not None:
            return
        cached = self._cache.versions()
        chosen = choose(self._model.policy, cached)
        if chosen:
            _log.warning("%s is served from the cache: versions %s", self._model.name, chosen)
            self._announce(tuple(AspiredVersion(one, cached[one]) for one in chosen))
        else:
            with self._speaking:
                if not self._stopped.is_set():
                    self._receiver.missing(self._model.name)


def _pid() -> str:
    return f"{os.getpid()}-archive"
