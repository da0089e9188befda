"""Versions in remote stores: polled gently, fetched into the local cache, announced from there.

One thread per model, so that a slow store or a large download delays no other model. A version is announced
once all of its files are here. Until then the previous announcement stands: a version that cannot be fetched
(again) takes nothing away, and neither does a store that does not answer. At startup, the versions in the
cache are served in that case. Failures double the pause, up to ten minutes; every pause is varied by a tenth,
so that many servers do not ask at once. The cache of a removed model is cleared one poll later.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Container, Sequence
from contextlib import suppress

from servable.config.model_paths import is_model_uri
from servable.config.values import ModelConfig
from servable.errors import StatusError
from servable.sources import AspiredVersion, Receiver
from servable.sources.archive import is_archive
from servable.sources.cache import Cache, version_at
from servable.sources.filesystem import choose
from servable.sources.store import Store, open_store

_log = logging.getLogger("servable.remote")

LONGEST_PAUSE = 600.0
JITTER = 0.1
LINGERING_SECONDS = 30.0
"""Time for which a removed model keeps its cache if there is no polling interval."""


def pause_after(failures: int, poll_seconds: float, variation: float) -> float:
    """Returns the seconds until the next poll after ``failures`` in a row; ``variation``: -1 to 1. Pure."""
    base = min(max(poll_seconds, LONGEST_PAUSE), poll_seconds * 2.0 ** min(failures, 30))
    return base * (1.0 + JITTER * variation)


class RemoteSource:
    """Polls remote base paths. See ``Source`` for the contract.

    poll_seconds: pause between polls; 0: poll once after each ``watch``; None: never poll. cache: the folder
    that versions are fetched into. most_bytes: largest archive, unpacked.
    """

    def __init__(self, poll_seconds: float | None, cache: str, most_bytes: int = 1 << 32) -> None:
        self._poll_seconds = poll_seconds
        self._cache = cache
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._followers: dict[str, _Follower] = {}
        self._receiver: Receiver | None = None
        self._models: tuple[ModelConfig, ...] = ()
        self._ended: list[_Follower] = []

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Replaces the list of models; changed and new ones are polled at once."""
        with self._lock:
            self._models = tuple(models)
            if self._receiver is None or self._poll_seconds is None:
                return
            wanted = {model.name: model for model in models}
            for name, follower in list(self._followers.items()):
                if wanted.get(name) is None or not follower.follows(wanted[name]):
                    follower.stop(leave=False)
                    self._ended = [one for one in (*self._ended, follower) if one.is_alive()]
                    del self._followers[name]
                    if name not in wanted:
                        self._receiver.aspire(name, ())
            for name, model in wanted.items():
                if name not in self._followers:
                    cache = Cache(self._cache, model.base_path, self._most_bytes)
                    follower = _Follower(model, self._poll_seconds, cache, self._receiver, self._is_followed)
                    self._followers[name] = follower
                    follower.start()

    def start(self, receiver: Receiver) -> None:
        """Begins polling."""
        with self._lock:
            self._receiver = receiver
            models = self._models
        self.watch(models)

    def stop(self) -> None:
        """Stops all polling; a download under way stops at its next piece. The cache stays as it is."""
        with self._lock:
            for follower in (*self._followers.values(), *self._ended):
                follower.stop(leave=True)
            self._followers = {}

    def _is_followed(self, folder: str) -> bool:
        """True if a model uses this folder of the cache."""
        with self._lock:
            return any(one.folder == folder for one in self._followers.values())


class _Follower:
    """Follows one model on a thread of its own.

    is_followed: returns whether a model, this one or another, still uses a folder of the cache.
    """

    def __init__(
        self,
        model: ModelConfig,
        poll_seconds: float,
        cache: Cache,
        receiver: Receiver,
        is_followed: Callable[[str], bool],
    ) -> None:
        self._model = model
        self._poll_seconds = poll_seconds
        self._cache = cache
        self._receiver = receiver
        self._is_followed = is_followed
        self._stopped = threading.Event()
        self._left = threading.Event()
        self._speaking = threading.Lock()
        self._store: Store | None = None
        self._announced: tuple[AspiredVersion, ...] | None = None
        self._before: tuple[AspiredVersion, ...] = ()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name=f"remote-{model.name}", daemon=True)

    @property
    def folder(self) -> str:
        """The cache folder of the model's versions."""
        return self._cache.folder

    def follows(self, model: ModelConfig) -> bool:
        """True if ``model`` has the base path and policy being followed."""
        return (model.base_path, model.policy) == (self._model.base_path, self._model.policy)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, leave: bool) -> None:
        """Stops announcing; the thread ends on its own.

        leave: the server is stopping and the cache is kept for the next one; otherwise it is removed unless
        in use.
        """
        if leave:
            self._left.set()
        self._stopped.set()
        with self._speaking:
            pass

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            # What was announced may be loading at this moment, and a successor may not have polled yet.
            self._left.wait(self._poll_seconds or LINGERING_SECONDS)
            unused = not self._is_followed(self.folder)
            with suppress(OSError):
                self._cache.close(clear=unused and not self._left.is_set())

    def _follow(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                self._look()
            except Exception as error:  # stores raise what they like; only this model is affected
                failures += 1
                self._failed(error)
            else:
                failures, self._said = 0, ""
            pause = pause_after(failures, self._poll_seconds, random.uniform(-1, 1))
            self._stopped.wait(pause if self._poll_seconds else None)

    def _look(self) -> None:
        """Polls once: list, fetch what is missing, announce.

        Raises any failure after everything else is done.
        """
        self._cache.prepare()
        store = self._opened()
        listed = store.versions()
        wanted = choose(self._model.policy, listed)
        ready, failure = self._brought(store, {version: listed[version] for version in wanted})
        if failure is not None:
            ready = {**self._earlier(listed), **ready}
        chosen = choose(self._model.policy, list(ready))
        if chosen or not wanted:
            self._announce(tuple(ready[version] for version in chosen))
        if not listed:
            raise StatusError("NOT_FOUND", f"No versions of servable {self._model.name} found")
        if self._announced is not None and not self._stopped.is_set():
            self._cache.evict({one.path for one in (*self._announced, *self._before)})
            self._before = self._announced
        if failure is not None:
            raise failure

    def _opened(self) -> Store:
        if self._store is None:
            base_path = self._model.base_path
            scratch = self._cache.workplace() if is_archive(base_path) else ""
            self._store = open_store(base_path, scratch, self._cache.most_bytes)
        return self._store

    def _brought(
        self, store: Store, wanted: dict[int, str]
    ) -> tuple[dict[int, AspiredVersion], Exception | None]:
        """Returns the wanted versions that are here now, and the first failure of another; newest first."""
        ready, failure = {}, None
        for version in sorted(wanted, reverse=True):
            if self._stopped.is_set():
                break
            try:
                ready[version] = self._bring(store, version, wanted[version])
            except Exception as error:  # a file that cannot be read affects only its version
                failure = failure or error
        return ready, failure

    def _bring(self, store: Store, version: int, lies_at: str) -> AspiredVersion:
        files = store.files(lies_at)
        place = self._cache.place(version, files)
        if not self._cache.claim(place):
            with self._cache.turn(place, self._stopped):
                if not self._cache.claim(place):  # fetched by another process meanwhile
                    _log.info(
                        "fetching %s version %d from %s", self._model.name, version, self._model.base_path
                    )
                    self._cache.fetch(
                        version,
                        files,
                        lambda file: store.read(lies_at, file),
                        self._stopped,
                        lambda file, path: store.link(lies_at, file, path),
                    )
                    _log.info("fetched %s version %d into %s", self._model.name, version, place)
        return self._aspired(place)

    def _earlier(self, listed: Container[int] | None = None) -> dict[int, AspiredVersion]:
        """Returns the versions that are here from an earlier poll, or from an earlier server.

        listed: the versions the store still has; None if unknown.
        """
        announced = {one.version: one for one in self._announced or ()}
        cached = {version: self._aspired(place) for version, place in self._cache.versions().items()}
        return {
            version: one
            for version, one in {**cached, **announced}.items()
            # A loaded version stays, even if somebody removed it from the cache.
            if (listed is None or version in listed) and (self._cache.claim(one.path) or version in announced)
        }

    def _aspired(self, place: str) -> AspiredVersion:
        version, state = version_at(place)
        return AspiredVersion(version, place, state, reloads=is_model_uri(self._model.base_path))

    def _announce(self, versions: tuple[AspiredVersion, ...]) -> None:
        with self._speaking:
            if versions != self._announced and not self._stopped.is_set():
                self._announced = versions
                self._receiver.aspire(self._model.name, versions)

    def _failed(self, error: Exception) -> None:
        """Logs each kind of failure once; the first time, serves what the cache has."""
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
        cached = self._earlier()
        chosen = choose(self._model.policy, list(cached))
        if chosen:
            _log.warning("%s is served from the cache: versions %s", self._model.name, chosen)
            self._announce(tuple(cached[version] for version in chosen))
        else:
            with self._speaking:
                if not self._stopped.is_set():
                    self._receiver.missing(self._model.name)
