"""The last changes of what is served, and what became of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from servable.errors import StatusError

MOST = 100
MOST_SHOWN = 4000
"""Characters of a message."""
MOST_NAME = 500
"""Characters of a model's name."""

_FAILED = ("failed", "failing")
_T = TypeVar("_T")


class Changes:
    """Remembers changes by the administration and by clients. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: deque[dict[str, Any]] = deque(maxlen=MOST)

    def record(self, what: str, model: str | None, change: Callable[[], _T]) -> _T:
        """Carries out ``change``, and remembers what it was and how it ended; returns what it does."""
        try:
            done = change()
        except StatusError as error:
            self._add(what, model, error.code, error.message)
            raise
        except Exception as error:
            self._add(what, model, "INTERNAL", f"{type(error).__name__}: {error}")
            raise
        self._add(what, model, *_outcome(done))
        return done

    def newest_first(self) -> list[dict[str, Any]]:
        """Returns what is remembered: when, what, which model, the code of its outcome, and a message."""
        with self._lock:
            return [dict(one) for one in reversed(self._last)]

    def _add(self, what: str, model: str | None, outcome: str, message: str) -> None:
        shown = message if len(message) <= MOST_SHOWN else message[:MOST_SHOWN] + "…"
        one = {
            "at": round(self._clock(), 3),
            "what": what,
            "model": model if model is None or len(model) <= MOST_NAME else model[:MOST_NAME] + "…",
            "outcome": outcome,
            "message": shown,
        }
        with self._lock:
            self._last.append(one)


def _outcome(done: object) -> tuple[str, str]:
    """Returns code and message: a change that is in force may have left a model that cannot be loaded."""
    if not isinstance(done, dict) or "standing" not in done:
        return "OK", ""
    errors = [one["error"] for one in done.get("versions", ()) if "error" in one]
    if done["standing"] in _FAILED and errors:
        return str(errors[0]["code"]), str(errors[0]["message"])
    return "OK", str(done["standing"])
