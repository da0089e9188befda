"""Calls beside the thread that waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from servable.embedded import process

_T = TypeVar("_T")


class Beside(Generic[_T]):
    """A call on a thread of its own, so that Ctrl-C ends the wait for it: the core heeds no signal.

    Where none can be started any more, on the one that is there for the end of the process.
    """

    def __init__(self, call: Callable[[], _T]) -> None:
        self._call = call
        self._value: list[_T] = []
        self._error: BaseException | None = None
        self._done = threading.Event()
        try:
            threading.Thread(target=self._run, name="servable-embedded", daemon=True).start()
        except RuntimeError:
            if not process.last_thread.do(self._run):
                raise

    def _run(self) -> None:
        try:
            self._value.append(self._call())
        except BaseException as error:
            self._error = error
        self._done.set()

    def result(self) -> _T:
        """Waits, and returns what the call has returned, or raises what it has raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]

    def value_now(self) -> _T | None:
        """Returns what the call has returned; None as long as it goes on, and if it has failed."""
        return self._value[0] if self._done.is_set() and self._value else None

    def wait(self, seconds: float | None = None) -> None:
        """Waits, whatever comes of it; for so many seconds at most."""
        self._done.wait(seconds)
