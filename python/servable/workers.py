"""Threads for loading and unloading: at most so many at once, none while there is nothing to do.

Not ``concurrent.futures``: the number of threads changes while running (many at start, few afterwards), and a
load that is still inside TensorFlow must not keep the process from ending.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


class Workers:
    """Runs jobs in order of submission on at most ``limit`` daemon threads. Jobs must not raise."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = max(1, limit)
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._running = 0

    def submit(self, job: Job) -> None:
        """Runs ``job`` as soon as a thread is free. Never blocks."""
        with self._changed:
            self._jobs.append(job)
            self._grow()

    def resize(self, limit: int) -> None:
        """Changes the number of threads; surplus ones end when their present job does."""
        with self._changed:
            self._limit = max(1, limit)
            self._grow()

    def clear(self) -> None:
        """Forgets the jobs that have not begun."""
        with self._changed:
            self._jobs.clear()

    def wait_idle(self, timeout: float | None) -> bool:
        """Waits until nothing runs and nothing is queued; False when ``timeout`` seconds passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._running, timeout)

    def _grow(self) -> None:
        for _ in range(min(len(self._jobs), self._limit - self._running)):
            self._running += 1
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs or self._running > self._limit:
                    self._running -= 1
                    self._changed.notify_all()
                    return
                job = self._jobs.popleft()
            job()
