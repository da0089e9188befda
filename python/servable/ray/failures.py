"""Failures of models that are loaded by name: for a while, whoever asks again gets the same answer."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from servable.errors import StatusError

MOST = 1024
"""Most models of which failures are known; clients may name any number."""


@dataclass(frozen=True)
class _Failure:
    error: StatusError
    count: int
    until: float


class Failures:
    """The last failure of each model, until its pause is over. Thread-safe.

    pause: seconds after so many failures in a row.
    """

    def __init__(self, pause: Callable[[int], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._by_name: OrderedDict[str, _Failure] = OrderedDict()

    def check(self, name: str) -> None:
        """Raises the error of a model that is not to be tried again yet."""
        failure = self._by_name.get(name)
        if failure is not None and self._clock() < failure.until:
            # Without the trace of whom it was raised for before.
            raise failure.error.with_traceback(None)

    def add(self, name: str, error: StatusError) -> None:
        """Takes a failure; of too many, the oldest are forgotten."""
        with self._lock:
            before = self._by_name.pop(name, None)
            count = 1 + (before.count if before is not None else 0)
            self._by_name[name] = _Failure(error, count, self._clock() + self._pause(count))
            if len(self._by_name) > MOST:
                self._by_name.popitem(last=False)

    def forget(self, name: str) -> None:
        """Forgets the failures of a model."""
        with self._lock:
            self._by_name.pop(name, None)

    def clear(self) -> None:
        """Forgets all failures."""
        with self._lock:
            self._by_name.clear()
