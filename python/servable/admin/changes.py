"""The last changes of what is served, and what became of them.

Those by clients are kept apart: however many there are, the operators' own stay. What fails again and again
in the same way is one of them.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from servable.errors import StatusError

MOST = 100
"""Changes by operators that are remembered, and by clients."""
MOST_SHOWN = 4000
"""Characters of a message."""
MOST_NAME = 500
"""Characters of a model's name."""

By = Literal["operator", "client"]

_FAILED = ("failed", "failing")
_T = TypeVar("_T")


class Changes:
    """Remembers changes by the administration and by clients. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._count = itertools.count()
        self._last: dict[By, deque[tuple[int, dict[str, Any]]]] = {
            by: deque(maxlen=MOST) for by in ("operator", "client")
        }

    def record(self, what: str, model: str | None, change: Callable[[], _T], by: By = "operator") -> _T:
        """Carries out ``change``, and remembers what it was and how it ended; returns what it does."""
        try:
            done = change()
        except StatusError as error:
            self._add(by, what, model, (error.code, error.message))
            raise
        except Exception as error:
            self._add(by, what, model, ("INTERNAL", f"{type(error).__name__}: {error}"))
            raise
        self._add(by, what, model, _outcome(done))
        return done

    def newest_first(self) -> list[dict[str, Any]]:
        """Returns what is remembered: when, by whom, what, which model, the outcome's code, a message."""
        with self._lock:
            numbered = [one for last in self._last.values() for one in last]
        return [dict(one) for _, one in sorted(numbered, key=lambda one: -one[0])]

    def _add(self, by: By, what: str, model: str | None, outcome: tuple[str, str]) -> None:
        code, message = outcome
        one = {
            "at": round(self._clock(), 3),
            "by": by,
            "what": what,
            "model": model if model is None or len(model) <= MOST_NAME else model[:MOST_NAME] + "…",
            "outcome": code,
            "message": message if len(message) <= MOST_SHOWN else message[:MOST_SHOWN] + "…",
        }
        with self._lock:
            last = self._last[by]
            # A config file that cannot be applied is tried at every poll.
            if last and code != "OK" and {**last[-1][1], "at": one["at"]} == one:
                last.pop()
            last.append((next(self._count), one))


def _outcome(done: object) -> tuple[str, str]:
    """Returns code and message: a change that is in force may have left a model that cannot be loaded."""
    if not isinstance(done, dict) or "standing" not in done:
        return "OK", ""
    errors = [one["error"] for one in done.get("versions", ()) if "error" in one]
    if done["standing"] in _FAILED and errors:
        return str(errors[0]["code"]), str(errors[0]["message"])
    return "OK", str(done["standing"])
