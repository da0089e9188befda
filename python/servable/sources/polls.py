"""Looks at many things again and again, on few threads."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger("servable.remote")

Look = Callable[[], float | None]
"""Looks once. Returns after how many seconds to look again; None: once it is woken."""


class Polls:
    """Calls looks on at most ``threads`` daemon threads, none of them twice at once. Thread-safe."""

    def __init__(self, threads: int, name: str) -> None:
        self._most = threads
        self._name = name
        self._changed = threading.Condition()
        # When each is due; infinite: not before it is woken. Entries of the heap that say otherwise are old.
        self._due: dict[Look, float] = {}
        self._heap: list[tuple[float, int, Look]] = []
        self._numbers = itertools.count()
        self._running: set[Look] = set()
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def add(self, look: Look, after: float = 0.0) -> None:
        """Looks from now on, or after so many seconds; at once, if it is known already (``wake``)."""
        with self._changed:
            if not self._stopped:
                self._schedule(look, time.monotonic() + after)
                self._grow()

    def wake(self, look: Look) -> None:
        """Looks at once, or once more if that is being done; nothing for what was not added."""
        with self._changed:
            if look in self._due:
                self._schedule(look, 0.0)

    def remove(self, look: Look) -> None:
        """Looks no more. A look that is under way goes on."""
        with self._changed:
            self._due.pop(look, None)

    def stop(self) -> None:
        """Ends all looks; those that are under way go on."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._heap.clear()
            self._changed.notify_all()

    def _schedule(self, look: Look, due: float) -> None:
        self._due[look] = due
        if due != float("inf"):
            heapq.heappush(self._heap, (due, next(self._numbers), look))
            self._changed.notify()

    def _grow(self) -> None:
        if self._threads < self._most and not self._idle:
            self._threads += 1
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _next(self) -> Look | None:
        """Waits for the next look that is due; None at the end. Called with the lock held."""
        while not self._stopped:
            pause = None
            if self._heap:
                due, _, look = self._heap[0]
                pause = due - time.monotonic()
                if self._due.get(look) != due or look in self._running:
                    # Removed, or scheduled anew; or woken while it is being done, which is seen at its end.
                    heapq.heappop(self._heap)
                    continue
                if pause <= 0:
                    heapq.heappop(self._heap)
                    return look
            self._idle += 1
            self._changed.wait(pause if pause is None else min(pause, threading.TIMEOUT_MAX))
            self._idle -= 1
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                look = self._next()
                if look is None:
                    self._threads -= 1
                    return
                self._running.add(look)
                begun = self._due[look] = float("inf")
            pause = self._looked(look)
            with self._changed:
                self._running.discard(look)
                due = self._due.get(look)
                if due is None:
                    continue
                if due == begun:
                    due = float("inf") if pause is None else time.monotonic() + pause
                self._schedule(look, due)

    @staticmethod
    def _looked(look: Look) -> float | None:
        try:
            return look()
        except Exception:
            # A defect in one must not cost the others a thread.
            _log.exception("a look failed")
            return None
