"""A cache of the metadata of model versions, which would otherwise be requested with every call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from servable.client.answers import Metadata
from servable.client.codecs.codec import Choice

FRESH_SECONDS = 60.0
"""Seconds for which the metadata of the newest version or a label, which may move, is reused."""

MOST_KEPT = 1000
"""Choices whose metadata is kept; the first ones go."""


class MetadataCache:
    """Metadata by choice; usable from any thread. That of a numbered version never expires."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Choice, tuple[float, Metadata]] = {}

    def get(self, choice: Choice) -> Metadata | None:
        """Returns metadata that is known and still valid, or None."""
        with self._lock:
            kept = self._kept.get(choice)
        if kept is None:
            return None
        since, metadata = kept
        good = choice.version is not None or self._clock() - since < FRESH_SECONDS
        return metadata if good else None

    def put(self, choice: Choice, metadata: Metadata) -> None:
        """Stores the server's current metadata."""
        with self._lock:
            self._kept.pop(choice, None)
            self._kept[choice] = (self._clock(), metadata)
            if len(self._kept) > MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))

    def drop(self, choice: Choice) -> None:
        """Drops the entry; the next ``get`` returns None."""
        with self._lock:
            self._kept.pop(choice, None)
