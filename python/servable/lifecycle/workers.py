"""Threads for loading and unloading: limited in number, none while there is nothing to do.

Not ``concurrent.futures``: the number of threads changes at run time (many at start, few afterwards), a load
still inside TensorFlow must not keep the process from ending, and a hanging one must not block others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

_log = logging.getLogger("servable.manager")

Job = Callable[[], None]

MOST_OVERDUE = 32
"""Most concurrent jobs that have given up their places; each has a thread."""


class Workers:
    """Runs jobs in order of submission on at most ``limit`` daemon threads. What a job raises is logged.

    patience: seconds after which a running job gives its place to the next one; None: never.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        patience: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._limit = max(1, limit)
        self._patience = patience
        self._clock = clock
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._threads = 0
        # Start times of the jobs, by thread.
        self._begun: dict[int, float] = {}
        self._watching = False

    def submit(self, job: Job) -> None:
        """Runs ``job`` as soon as a thread is free. Never blocks."""
        with self._changed:
            self._jobs.append(job)
            self._grow()

    def resize(self, limit: int) -> None:
        """Changes the number of threads; surplus ones end after their present job."""
        with self._changed:
            self._limit = max(1, limit)
            self._grow()

    def clear(self) -> None:
        """Drops the jobs that have not begun."""
        with self._changed:
            self._jobs.clear()

    def wait_idle(self, timeout: float | None) -> bool:
        """Waits until nothing is running or queued; False if ``timeout`` seconds passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._threads, timeout)

    def _overdue(self) -> int:
        if self._patience is None:
            return 0
        latest = self._clock() - self._patience
        return min(MOST_OVERDUE, sum(begun <= latest for begun in self._begun.values()))

    def _grow(self) -> None:
        free = self._limit - (self._threads - self._overdue())
        for _ in range(min(len(self._jobs), free)):
            # Counted once it has started, which can fail; it waits for the lock.
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
            self._threads += 1
        if len(self._jobs) > max(0, free) and self._patience is not None and not self._watching:
            threading.Thread(target=self._watch, name=f"{self._name}-watch", daemon=True).start()
            self._watching = True

    def _watch(self) -> None:
        """While jobs wait, checks for running ones that have become overdue."""
        assert self._patience is not None
        with self._changed:
            try:
                while self._jobs:
                    self._grow()
                    self._changed.wait(self._patience / 4)
            finally:
                self._watching = False

    def _work(self) -> None:
        me = threading.get_ident()
        while True:
            with self._changed:
                self._begun.pop(me, None)
                if not self._jobs or self._threads - self._overdue() > self._limit:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                job = self._jobs.popleft()
                self._begun[me] = self._clock()
            try:
                job()
            except Exception:
                # A defect in one job must not cost the others a thread.
                _log.exception("a job of the thread %s failed", self._name)
