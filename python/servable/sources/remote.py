"""Versions in remote stores: polled gently, fetched into the local cache, announced from there.

A version is announced once all of its files are here, by one thread per model, so that a slow store or a
large download delays no other model. Until then the previous announcement stands: a version that cannot be
fetched (again) takes nothing away, and neither does a store that does not answer. At startup, the versions in
the cache are served in that case. Failures double the pause, up to ten minutes; every pause is varied by a
tenth, so that many servers do not ask at once. The cache of a removed model is cleared one poll later.

Where models are loaded on demand there may be many: a few threads look at all of them, and a version is
fetched when it is about to be loaded (``bring``). Archives have a thread each even then, as nothing is known
of one that was not fetched. Where there is no room on the disk, the versions that were needed longest ago go.
A store that fails slowly is not asked for each of its models (``outages.py``).
"""

from __future__ import annotations

import errno
import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from servable.config.values import ModelConfig
from servable.errors import StatusError
from servable.sources import Receiver, VersionLoad
from servable.sources.archive import is_archive
from servable.sources.cache import Cache, free_bytes
from servable.sources.listing import ListedStore, Listing
from servable.sources.outages import Outages
from servable.sources.polls import Polls
from servable.sources.remote_model import Copy, RemoteModel
from servable.sources.store import Store, open_store

_log = logging.getLogger("servable.remote")

LONGEST_PAUSE = 600.0
JITTER = 0.1
LINGERING_SECONDS = 30.0
"""Time for which a removed model keeps its cache if there is no polling interval."""
LOOKS_AT_ONCE = 8
"""Threads that look at models which are loaded on demand."""
LOOKS_PER_SECOND = 20
"""Of all these models together, once each was looked at."""


def pause_after(failures: int, poll_seconds: float, variation: float) -> float:
    """Returns the seconds until the next poll after ``failures`` in a row; ``variation``: -1 to 1. Pure."""
    base = min(max(poll_seconds, LONGEST_PAUSE), poll_seconds * 2.0 ** min(failures, 30))
    return base * (1.0 + JITTER * variation)


class RemoteSource:
    """Polls remote base paths. See ``Source`` and ``Fetcher`` for the contracts.

    poll_seconds: pause between polls; 0: poll once after each ``watch``; None: never poll. cache: the folder
    that versions are fetched into. most_bytes: largest archive, unpacked. on_demand: versions are fetched
    when they are loaded. listing: of a bucket whose models are not polled one by one.
    """

    def __init__(
        self,
        poll_seconds: float | None,
        cache: str,
        most_bytes: int = 1 << 32,
        on_demand: bool = False,
        listing: Listing | None = None,
    ) -> None:
        self._poll_seconds = poll_seconds
        self._cache = cache
        self._most_bytes = most_bytes
        self._on_demand = on_demand
        self._listing = listing
        self._polls = Polls(LOOKS_AT_ONCE, "remote")
        self._outages = Outages()
        self._lock = threading.Lock()
        self._followers: dict[str, _Follower] = {}
        self._receiver: Receiver | None = None
        self._models: tuple[ModelConfig, ...] = ()
        self._ended: list[_Follower] = []
        if listing is not None:
            listing.followed_by(self._look_at)

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Replaces the list of models; changed and new ones are polled at once."""
        with self._lock:
            self._models = tuple(models)
            if self._receiver is None or self._poll_seconds is None:
                return
            wanted = {model.name: model for model in models}
            for name, follower in list(self._followers.items()):
                if wanted.get(name) is None or not follower.model.follows(wanted[name]):
                    follower.stop(leave=False)
                    self._ended = [one for one in (*self._ended, follower) if one.is_alive()]
                    del self._followers[name]
                    if name not in wanted:
                        self._receiver.aspire(name, ())
            for name, model in wanted.items():
                if name not in self._followers:
                    self._followers[name] = self._follow(model, self._receiver, self._poll_seconds)
                    self._followers[name].start()

    def _follow(self, config: ModelConfig, receiver: Receiver, poll_seconds: float) -> _Follower:
        path, archived = config.base_path, is_archive(config.base_path)
        cache = Cache(self._cache, path, self._most_bytes)

        def opened() -> Store:
            return open_store(path, cache.workplace() if archived else "", cache.most_bytes)

        if not self._on_demand or archived:
            model = RemoteModel(config, cache, receiver, opened)
            return _OnItsThread(model, config.name, poll_seconds, self._is_followed)
        listing = self._listing
        if listing is not None and listing.of(path) is not None:
            listed = ListedStore(partial(listing.of, path), opened)
            model = RemoteModel(config, cache, receiver, lambda: listed, self._outages)
            return _AmongOthers(model, self._polls, lambda _: None, poll_seconds, self._is_followed)
        model = RemoteModel(config, cache, receiver, opened, self._outages)
        return _AmongOthers(model, self._polls, self._pause, poll_seconds, self._is_followed)

    def _pause(self, failures: int) -> float | None:
        """Returns the seconds until the next look at a model among many."""
        if not self._poll_seconds:
            return None
        share = len(self._followers) / LOOKS_PER_SECOND
        return pause_after(failures, max(self._poll_seconds, share), random.uniform(-1, 1))

    def start(self, receiver: Receiver) -> None:
        """Begins polling."""
        with self._lock:
            self._receiver = receiver
            models = self._models
        self.watch(models)

    def stop(self) -> None:
        """Stops all polling; a download under way stops at its next piece. The cache stays as it is."""
        self._polls.stop()
        with self._lock:
            for follower in (*self._followers.values(), *self._ended):
                follower.stop(leave=True)
            self._followers = {}

    def listed(self, model: str, since: float) -> tuple[int, ...] | None:
        """Returns the versions that its store had when it was last looked at, ascending.

        None if no look that has begun ``since`` has succeeded yet, for the model as it is configured now; one
        is then made soon.
        """
        with self._lock:
            follower = self._followers.get(model)
        if follower is None:
            return None
        if not follower.model.has_polled(since):
            follower.look_again()
        return follower.model.listed(since)

    def _is_followed(self, folder: str) -> bool:
        """True if a model uses this folder of the cache."""
        with self._lock:
            return any(one.model.folder == folder for one in self._followers.values())

    def _look_at(self, base_paths: Iterable[str]) -> None:
        """Looks at models of the listing, which has changed."""
        changed = set(base_paths)
        with self._lock:
            names = [model.name for model in self._models if model.base_path in changed]
            followers = [self._followers[name] for name in names if name in self._followers]
        for follower in followers:
            follower.look_again()

    # ---- fetching

    def bring(self, load: VersionLoad) -> None:
        """See ``Fetcher``."""
        with self._lock:
            follower = self._followers.get(load.model)
        if follower is None or not follower.brings:
            return
        copies: Iterator[Copy] | None = None
        while True:
            try:
                follower.model.bring(load)
                return
            except StatusError as error:
                if copies is None and _is_full(error):
                    copies = self._copies(follower.model.missing_bytes(load.path))
                if copies is None or not any(one.model.drop(one.place) for one in copies):
                    # Its files may have changed.
                    follower.look_again()
                    raise

    def _copies(self, needed: int) -> Iterator[Copy]:
        """Returns the versions on the disk that nothing needs now, those needed longest ago first.

        None of them if all together would not make room.
        """
        with self._lock:
            models = [one.model for one in self._followers.values() if one.brings]
        copies = sorted((copy for model in models for copy in model.copies()), key=lambda copy: copy.used)
        if sum(copy.size for copy in copies) + free_bytes(self._cache) < needed:
            return
        for copy in copies:
            _log.info("%s makes room on the disk", copy.place)
            yield copy

    def let_go(self, model: str, version: int) -> None:
        """See ``Fetcher``."""
        with self._lock:
            follower = self._followers.get(model)
        if follower is not None and follower.brings:
            follower.model.let_go(version)


def _is_full(error: StatusError) -> bool:
    """True if a version found no room on the disk."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


class _Follower(Protocol):
    """Follows one model, again and again.

    brings: its versions are fetched when they are loaded.
    """

    model: RemoteModel
    brings: bool

    def start(self) -> None:
        """Begins."""

    def stop(self, leave: bool) -> None:
        """Stops announcing; what is left to do is done later.

        leave: the server is stopping and the cache is kept for the next one; otherwise it is removed unless
        in use.
        """

    def is_alive(self) -> bool:
        """True while something is left to do."""

    def look_again(self) -> None:
        """Looks soon."""


class _OnItsThread:
    """Follows one model on a thread of its own.

    is_followed: returns whether a model, this one or another, still uses a folder of the cache.
    """

    brings = False

    def __init__(
        self, model: RemoteModel, name: str, poll_seconds: float, is_followed: Callable[[str], bool]
    ) -> None:
        self.model = model
        self._poll_seconds = poll_seconds
        self._is_followed = is_followed
        self._left = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"remote-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def look_again(self) -> None:
        self._wanted.set()

    def stop(self, leave: bool) -> None:
        if leave:
            self._left.set()
        self.model.stop()
        self._wanted.set()

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            # What was announced may be loading at this moment, and a successor may not have polled yet.
            self._left.wait(self._poll_seconds or LINGERING_SECONDS)
            unused = not self._is_followed(self.model.folder)
            with suppress(OSError):
                self.model.close(clear=unused and not self._left.is_set())

    def _follow(self) -> None:
        stopped = self.model.stopped
        while not stopped.is_set():
            pause = pause_after(self.model.poll(), self._poll_seconds, random.uniform(-1, 1))
            self._wanted.wait(pause if self._poll_seconds else None)
            self._wanted.clear()


class _AmongOthers:
    """Follows one model by ``polls``, which look at many.

    pause: returns the seconds until the next look, after so many failures in a row. is_followed: as above.
    """

    brings = True

    def __init__(
        self,
        model: RemoteModel,
        polls: Polls,
        pause: Callable[[int], float | None],
        poll_seconds: float,
        is_followed: Callable[[str], bool],
    ) -> None:
        self.model = model
        self._polls = polls
        self._pause = pause
        self._poll_seconds = poll_seconds
        self._is_followed = is_followed
        self._closed = False

    def start(self) -> None:
        self._polls.add(self._look)

    def _look(self) -> float | None:
        return self._pause(0 if self.model.stopped.is_set() else self.model.poll())

    def is_alive(self) -> bool:
        return not self._closed

    def look_again(self) -> None:
        self._polls.wake(self._look)

    def stop(self, leave: bool) -> None:
        self.model.stop()
        self._polls.remove(self._look)
        if leave:
            self._close(clear=False)
        else:
            # Not before what was announced is unloaded, most likely.
            self._polls.add(self._clear, after=self._poll_seconds or LINGERING_SECONDS)

    def _clear(self) -> None:
        self._close(clear=not self._is_followed(self.model.folder))
        self._polls.remove(self._clear)

    def _close(self, clear: bool) -> None:
        if not self._closed:
            self._closed = True
            with suppress(OSError):
                self.model.close(clear)
