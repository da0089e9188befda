"""Local and remote base paths in one source: each model goes to the source for its path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from servable.config.model_paths import is_remote, local_path
from servable.config.values import ModelConfig
from servable.sources import AspiredVersion, Fetcher, Receiver, Source, VersionLoad


class RemoteSource(Source, Fetcher, Protocol):
    """A source whose versions may have to be fetched."""

    def listed(self, model: str, since: float) -> tuple[int, ...] | None:
        """Returns the versions that a store had at a look that began ``since``; None before there is one."""


class RoutedSource:
    """Combines ``local`` and a remote source; see ``Source`` and ``Fetcher`` for the contracts.

    A model that moves from one to the other is announced by its new source only. make_remote is called when
    the first remote path appears: most servers never need its imports.
    """

    def __init__(self, local: Source, make_remote: Callable[[], RemoteSource]) -> None:
        self._local = local
        self._make_remote = make_remote
        self._remote: RemoteSource | None = None
        self._receiver: Receiver | None = None
        self._lock = threading.Lock()
        self._is_remote: dict[str, bool] = {}

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Splits the list by path; ``file://`` is local."""
        with self._lock:
            self._is_remote = {model.name: is_remote(model.base_path) for model in models}
        self._local.watch([_as_path(model) for model in models if not is_remote(model.base_path)])
        remote = [model for model in models if is_remote(model.base_path)]
        source = self._remote_source(bool(remote))
        if source is not None:
            source.watch(remote)

    def start(self, receiver: Receiver) -> None:
        """Starts the sources that exist."""
        with self._lock:
            self._receiver = receiver
            remote = self._remote
        self._local.start(_Listening(self, receiver, remote=False))
        if remote is not None:
            remote.start(_Listening(self, receiver, remote=True))

    def stop(self) -> None:
        """Stops both sources."""
        self._local.stop()
        remote = self._remote_source(False)
        if remote is not None:
            remote.stop()

    def bring(self, load: VersionLoad) -> None:
        """See ``Fetcher``: what is local is there."""
        remote = self._remote_source(False)
        if remote is not None and self.is_for(load.model, True):
            remote.bring(load)

    def let_go(self, model: str, version: int) -> None:
        """See ``Fetcher``."""
        remote = self._remote_source(False)
        if remote is not None:
            remote.let_go(model, version)

    def listed(self, model: str, since: float) -> tuple[int, ...] | None:
        """See ``RemoteSource``; None for what is local."""
        remote = self._remote_source(False)
        return remote.listed(model, since) if remote is not None and self.is_for(model, True) else None

    def _remote_source(self, needed: bool) -> RemoteSource | None:
        """Returns the remote source, creating and starting it if it is ``needed`` and missing."""
        with self._lock:
            if self._remote is not None or not needed:
                return self._remote
            self._remote = self._make_remote()
            receiver = self._receiver
        if receiver is not None:
            self._remote.start(_Listening(self, receiver, remote=True))
        return self._remote

    def is_for(self, model: str, remote: bool) -> bool:
        """True if this source is responsible for ``model``; both may be for one that is gone."""
        with self._lock:
            return self._is_remote.get(model, remote) == remote


class _Listening:
    """Passes on the announcements of the responsible source."""

    def __init__(self, routed: RoutedSource, receiver: Receiver, remote: bool) -> None:
        self._routed = routed
        self._receiver = receiver
        self._remote = remote

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        if self._routed.is_for(model, self._remote):
            self._receiver.aspire(model, versions)

    def missing(self, model: str) -> None:
        if self._routed.is_for(model, self._remote):
            self._receiver.missing(model)


def _as_path(model: ModelConfig) -> ModelConfig:
    return replace(model, base_path=local_path(model.base_path))
