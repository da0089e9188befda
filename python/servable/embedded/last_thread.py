"""A thread that is there when no other can be started: at the end of the process, with early releases of
Python 3.12.

It waits from the first server of the process on, and ends with the process.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

_log = logging.getLogger("servable.server")

Call = Callable[[], object]


class LastThread:
    """Does what it is given, in order. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: int | None = None
        self._calls: SimpleQueue[Call] = SimpleQueue()

    def begin(self) -> None:
        """Starts it, unless it is there; a forked process has one of its own."""
        with self._lock:
            if self._process == os.getpid():
                return
            self._calls = SimpleQueue()
            threading.Thread(target=_work, args=(self._calls,), name="servable-end", daemon=True).start()
            self._process = os.getpid()

    def do(self, call: Call) -> bool:
        """Has it do ``call``, whose errors are logged. False if it is not there."""
        if self._process != os.getpid():
            return False
        self._calls.put(call)
        return True

    def forget(self) -> None:
        """In a process that was forked: whatever another thread had locked, nobody opens here."""
        self._lock = threading.Lock()


def _work(calls: SimpleQueue[Call]) -> None:
    while True:
        call = calls.get()
        try:
            call()
        except Exception:
            _log.exception("the end of a server failed")
        # It would keep its server until the next one comes.
        del call
