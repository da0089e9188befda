"""Stores that did not answer a moment ago: one that has many models is not asked for each of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from servable.config.model_paths import shown_uri
from servable.errors import StatusError

SLOW_SECONDS = 2.0
"""A store that fails sooner can be asked for each model."""
AWAY_SECONDS = 10.0
"""Time in which a store that failed slowly is not asked again."""


class Outages:
    """By the beginnings of base paths, such as ``s3://bucket``. Thread-safe, as its one table is.

    counts: False if every model asks for itself: then no store is ever away.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, counts: bool = True) -> None:
        self._clock = clock
        self._counts = counts
        self._away: dict[str, tuple[float, str]] = {}

    def now(self) -> float:
        """Returns the time, for ``failed``."""
        return self._clock()

    def of(self, base_path: str) -> StatusError | None:
        """Returns why the store of a base path is not asked now; None if it can be."""
        store = _store(base_path)
        until, why = self._away.get(store, (0.0, ""))
        if self._clock() >= until:
            return None
        return StatusError("UNAVAILABLE", f"{shown_uri(store)} did not answer a moment ago: {why}")

    def failed(self, base_path: str, error: BaseException, begun: float) -> None:
        """Notes that a store failed which was asked at ``begun``, if that says something of other models."""
        took = self._clock() - begun
        is_answer = isinstance(error, StatusError | FileNotFoundError | PermissionError)
        if self._counts and not is_answer and took >= SLOW_SECONDS:
            text = str(error) or type(error).__name__
            self._away[_store(base_path)] = self._clock() + AWAY_SECONDS, text


def _store(base_path: str) -> str:
    try:
        parts = urlsplit(base_path)
    except ValueError:
        return base_path
    return f"{parts.scheme}://{parts.netloc}"
