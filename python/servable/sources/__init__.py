"""The contract of a model source, in TensorFlow Serving's terms.

A source determines what *ought* to be served. For each model it announces the **complete** list of versions
it wants loaded (the aspired versions). Absence from the list is the only way to request an unload, and an
announcement may be repeated or lost without harm. Acting on the list is the manager's job.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from servable.config.values import ModelConfig
from servable.errors import NOT_WANTED, CancelledError

LONE_VERSION = 1
"""The version number of a model that is not inside a version's folder."""


@dataclass(frozen=True)
class AspiredVersion:
    """A version that a source wants served: its number, and its local path: its folder, or a model's file.

    fingerprint: changes with the version's files ("" if the source does not check); a version that failed to
    load is retried when it changes. reloads: a version that is being served is reloaded when its place or its
    fingerprint changes, as of a file there are no further versions; otherwise it is not. What is there only
    once it is loaded, a ``Fetcher`` brings.
    """

    version: int
    path: str
    fingerprint: str = ""
    reloads: bool = False


@dataclass(frozen=True)
class VersionLoad:
    """A load of the version at ``path``. stopped: set once nobody wants it any more."""

    model: str
    version: int
    path: str
    stopped: threading.Event

    def check(self) -> None:
        """Raises ``CancelledError`` if nobody wants it any more."""
        if self.stopped.is_set():
            raise CancelledError("CANCELLED", NOT_WANTED)


class Receiver(Protocol):
    """The receiver of announcements (the manager).

    Called from the source's threads; must not block for long.
    """

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        """Replaces the wanted versions of ``model`` by ``versions``; an empty tuple unloads all of them."""

    def missing(self, model: str) -> None:
        """Reports that the location of ``model`` could not be read. Loaded versions stay loaded."""


class Source(Protocol):
    """Finds versions.

    ``start`` is called once, before or after ``watch``; ``stop`` once, and nothing is announced after it.

    ``watch`` may be called from any thread at any time and replaces the whole list of models. A model that is
    no longer in it is announced once with an empty list. A problem with one model never delays or changes the
    announcements for another.
    """

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Find versions of these models, and of no others, from now on."""

    def start(self, receiver: Receiver) -> None:
        """Begins to announce versions."""

    def stop(self) -> None:
        """Stops announcing. Returns when no announcement is under way."""


class Fetcher(Protocol):
    """Has the files of versions be there while they are loaded. Called from threads that load and unload."""

    def bring(self, load: VersionLoad) -> None:
        """Returns once the files of a version that was announced are at ``load.path``.

        Raises ``StatusError``, and ``CancelledError`` once nobody wants it any more.
        """

    def let_go(self, model: str, version: int) -> None:
        """Nothing needs the files of this version now; they may stay."""
