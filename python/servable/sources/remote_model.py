"""One model in a remote store: which versions there are, announced and fetched; see ``remote.py``.

Its versions are fetched before they are announced, or (``on_demand``) each when it is about to be loaded.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from servable.config.model_paths import is_model_uri, shown_uri
from servable.config.values import ModelConfig
from servable.errors import StatusError
from servable.sources import AspiredVersion, Receiver, VersionLoad
from servable.sources.cache import Cache, RemoteFile, version_at
from servable.sources.filesystem import choose
from servable.sources.outages import Outages
from servable.sources.store import Files, Store

_log = logging.getLogger("servable.remote")

GLANCE_SECONDS = 0.1
"""Between two looks at whether a load that waits for another fetch is still wanted."""
CLOSING_SECONDS = 1.0
"""Longest time that the end waits for a fetch under way, which has been told to stop."""
SILENCE_SECONDS = 10.0
"""After which a store that has not answered a first look is taken for one that does not answer."""


class Copy(NamedTuple):
    """A version on the disk that nothing needs now. used: when it was needed last; size: in bytes."""

    used: float
    size: int
    place: str
    model: RemoteModel


class _Offer(NamedTuple):
    """Where a version that was announced lies in its store."""

    version: int
    lies_at: str
    files: Files


class RemoteModel:
    """A model and its versions. ``look``, ``failed`` and ``poll`` are called by one thread at a time.

    open_store: opens its store, once. outages: of the stores of many models, whose versions are fetched by
    ``bring``; None: they are fetched first.
    """

    def __init__(
        self,
        model: ModelConfig,
        cache: Cache,
        receiver: Receiver,
        open_store: Callable[[], Store],
        outages: Outages | None = None,
    ) -> None:
        self._model = model
        self._cache = cache
        self._receiver = receiver
        self._open_store = open_store
        self._on_demand = outages is not None
        self._outages = outages or Outages(counts=False)
        self._stopped = threading.Event()
        self._speaking = threading.Lock()
        # The cache is not thread-safe.
        self._busy = threading.Lock()
        # Versions that nothing needs any more, which the cache has not been told of.
        self._left: set[int] = set()
        self._store: Store | None = None
        self._listed: tuple[int, ...] | None = None
        self._listed_since = self._polled_since = float("-inf")
        self._announced: tuple[AspiredVersion, ...] | None = None
        self._before: tuple[AspiredVersion, ...] = ()
        self._offers: dict[str, _Offer] = {}
        self._said = ""
        self._failures = 0

    @property
    def _shown(self) -> str:
        return shown_uri(self._model.base_path)

    @property
    def folder(self) -> str:
        """The cache folder of the model's versions."""
        return self._cache.folder

    @property
    def stopped(self) -> threading.Event:
        """Set once it announces nothing any more."""
        return self._stopped

    def listed(self, since: float) -> tuple[int, ...] | None:
        """Returns the versions that were in the store at the last look, ascending.

        None if none that has begun ``since``, a time of ``time.monotonic``, has succeeded yet.
        """
        return self._listed if self._listed_since >= since else None

    def has_polled(self, since: float) -> bool:
        """True if a poll has begun ``since``, whatever comes of it."""
        return self._polled_since >= since

    def follows(self, model: ModelConfig) -> bool:
        """True if ``model`` has the base path and policy being followed."""
        return (model.base_path, model.policy) == (self._model.base_path, self._model.policy)

    def stop(self) -> None:
        """Stops announcing."""
        self._stopped.set()
        with self._speaking:
            pass

    def close(self, clear: bool) -> None:
        """Lets go of the cache; with ``clear``, also removes what nobody else uses of it."""
        if self._busy.acquire(timeout=CLOSING_SECONDS):
            try:
                self._cache.close(clear)
            finally:
                self._release()

    # ---- looking

    def poll(self) -> int:
        """Looks once. Returns how many looks in a row have failed."""
        begun, self._polled_since = self._outages.now(), time.monotonic()
        try:
            if (away := self._outages.of(self._model.base_path)) is not None:
                raise away
            self.look()
        except Exception as error:  # stores raise what they like; only this model is affected
            self._outages.failed(self._model.base_path, error, begun)
            self._failures += 1
            self._failed(error)
        else:
            self._failures, self._said = 0, ""
        return self._failures

    def look(self) -> None:
        """Polls once: list, fetch what is missing, announce.

        Raises any failure after everything else is done.
        """
        since = time.monotonic()
        if not self._on_demand:
            self._cache.prepare()
        store = self._opened()
        with self._silence_bridged():
            listed = store.versions()
        self._listed, self._listed_since = tuple(sorted(listed)), since
        wanted = choose(self._model.policy, listed)
        ready, failure = self._found(store, {version: listed[version] for version in wanted})
        if failure is not None:
            ready = {**self._earlier(listed), **ready}
        chosen = choose(self._model.policy, list(ready))
        if chosen or not wanted:
            self._announce(tuple(ready[version] for version in chosen))
        if not listed:
            raise StatusError("NOT_FOUND", f"No versions of servable {self._model.name} found")
        if self._announced is not None and not self._stopped.is_set():
            self._evict({one.path for one in (*self._announced, *self._before)})
            self._before = self._announced
        if failure is not None:
            raise failure

    def _evict(self, keep: set[str]) -> None:
        self._offers = {place: offer for place, offer in self._offers.items() if place in keep}
        # What is being fetched now is not evicted before the next look.
        if os.path.isdir(self._cache.folder) and self._busy.acquire(blocking=False):
            try:
                self._cache.evict(keep)
            finally:
                self._release()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    def _found(
        self, store: Store, wanted: dict[int, str]
    ) -> tuple[dict[int, AspiredVersion], Exception | None]:
        """Returns the wanted versions that are here now, and the first failure of another; newest first.

        On demand, they need not be here.
        """
        ready, failure = {}, None
        for version in sorted(wanted, reverse=True):
            if self._stopped.is_set():
                break
            try:
                ready[version] = self._offered(store, version, wanted[version])
            except Exception as error:  # a file that cannot be read affects only its version
                failure = failure or error
        return ready, failure

    def _offered(self, store: Store, version: int, lies_at: str) -> AspiredVersion:
        with self._silence_bridged():
            files = store.files(lies_at)
        place = self._cache.place(version, files)
        self._offers[place] = _Offer(version, lies_at, files)
        if not self._on_demand:
            with self._busy:
                self._fetch(place, self._stopped)
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
            if (listed is None or version in listed)
            and (self._on_demand or self._cache.claim(one.path) or version in announced)
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
        said = f"Could not find base path {self._shown} for servable {self._model.name} "
        said += f"with error {text}{hint}"
        if said != self._said:
            _log.warning("%s", said)
            self._said = said
        if self._announced is None and not self._serve_cached():
            with self._speaking:
                if not self._stopped.is_set():
                    self._receiver.missing(self._model.name)

    def _serve_cached(self) -> bool:
        """Announces what an earlier server has left; returns whether there is anything."""
        cached = self._earlier()
        chosen = choose(self._model.policy, list(cached))
        if chosen:
            _log.warning("%s is served from the cache: versions %s", self._model.name, chosen)
            self._announce(tuple(cached[version] for version in chosen))
        return bool(chosen)

    @contextmanager
    def _silence_bridged(self) -> Iterator[None]:
        """Surrounds questions to the store: what the cache has is served if one of the first look takes long.

        A store that takes connections and says nothing is given up after minutes only.
        """
        if self._announced is not None:
            yield
            return
        timer = threading.Timer(SILENCE_SECONDS, self._silent)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _silent(self) -> None:
        name, seconds = self._model.name, SILENCE_SECONDS
        _log.warning("%s of servable %s has not said for %g s what it has", self._shown, name, seconds)
        try:
            self._serve_cached()
        except OSError as error:
            _log.warning("the cache of servable %s cannot be read: %s", name, error)

    # ---- fetching

    def bring(self, load: VersionLoad) -> None:
        """See ``Fetcher``."""
        try:
            with self._turn(load):
                self._fetch(load.path, load.stopped)
        except Exception as error:  # stores raise what they like
            load.check()
            if isinstance(error, StatusError):
                raise
            text = str(error) or type(error).__name__
            raise StatusError(
                "UNAVAILABLE",
                f"version {load.version} could not be fetched from {self._shown}: {text}",
            ) from error

    @contextmanager
    def _turn(self, load: VersionLoad) -> Iterator[None]:
        """Waits for a fetch of another version of the model. Raises ``CancelledError``."""
        while not self._busy.acquire(timeout=GLANCE_SECONDS):
            load.check()
        try:
            load.check()
            self._left.discard(load.version)
            yield
        finally:
            self._release()

    def _fetch(self, place: str, stopped: threading.Event) -> None:
        """Claims the version at ``place``, and fetches it first if it is not there."""
        if self._cache.claim(place):
            return
        offer = self._offers.get(place)
        if offer is None:
            raise StatusError(
                "UNAVAILABLE",
                f"version {version_at(place)[0]} is not in {self._cache.folder} any more, and "
                f"{self._shown} has not been read since the server started, or has another one now",
            )
        if (away := self._outages.of(self._model.base_path)) is not None:
            raise away
        self._cache.prepare()
        with self._cache.turn(place, stopped):
            if not self._cache.claim(place):  # fetched by another process meanwhile
                self._read(offer, place, stopped)

    def _read(self, offer: _Offer, place: str, stopped: threading.Event) -> None:
        name, store = self._model.name, self._opened()
        _log.info("fetching %s version %d from %s", name, offer.version, self._shown)
        begun, has_begun = self._outages.now(), False

        def read(file: RemoteFile) -> Iterator[bytes]:
            nonlocal has_begun
            for piece in store.read(offer.lies_at, file):
                has_begun = True
                yield piece

        def link(file: RemoteFile, path: str) -> bool:
            return store.link(offer.lies_at, file, path)

        try:
            self._cache.fetch(offer.version, offer.files, read, stopped, link)
        except Exception as error:
            if not (has_begun or stopped.is_set()):
                self._outages.failed(self._model.base_path, error.__cause__ or error, begun)
            raise
        _log.info("fetched %s version %d into %s", name, offer.version, place)

    def let_go(self, version: int) -> None:
        """See ``Fetcher``; only for what ``bring`` has fetched. Does not wait for a fetch under way."""
        self._left.add(version)
        if self._busy.acquire(blocking=False):
            self._release()

    def _release(self) -> None:
        """Lets others use the cache, once it knows what is not needed any more."""
        while self._left:
            self._cache.let_go(self._left.pop())
        self._busy.release()

    # ---- room on the disk

    def missing_bytes(self, place: str) -> int:
        """Returns how much is to be written for the version at ``place``."""
        offer = self._offers.get(place)
        files: tuple[RemoteFile, ...] = () if offer is None else offer.files
        return sum(file.size for file in files)

    def copies(self) -> list[Copy]:
        """Returns the versions on the disk that it does not need now."""
        if not self._busy.acquire(blocking=False):
            return []
        try:
            return [Copy(used, size, place, self) for used, size, place in self._cache.copies()]
        finally:
            self._release()

    def drop(self, place: str) -> bool:
        """Removes a version from the disk unless somebody needs it; returns whether it is gone."""
        if not self._busy.acquire(blocking=False):
            return False
        try:
            return self._cache.drop(place)
        finally:
            self._release()
