"""The metadata of model versions, kept so that it is not asked for with every request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from servable.client.answers import Metadata
from servable.client.codec import Choice

FRESH_SECONDS = 60.0
"""How long the metadata of what may move, the newest version or a label, is used without asking again."""


class MetadataCache:
    """Metadata by choice; may be used from any thread. That of a numbered version is kept for good."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Choice, tuple[float, Metadata]] = {}

    def get(self, choice: Choice) -> Metadata | None:
        """What is known and still good, or None."""
        with self._lock:
            kept = self._kept.get(choice)
        if kept is None:
            return None
        since, metadata = kept
        good = choice.version is not None or self._clock() - since < FRESH_SECONDS
        return metadata if good else None

    def put(self, choice: Choice, metadata: Metadata) -> None:
        """Remembers what the server says now."""
        with self._lock:
            self._kept[choice] = (self._clock(), metadata)

    def drop(self, choice: Choice) -> None:
        """Forgets; the next ``get`` answers None."""
        with self._lock:
            self._kept.pop(choice, None)
