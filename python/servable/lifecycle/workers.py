"""Threads for loading and unloading: limited in number, none while there is nothing to do.

Not ``concurrent.futures``: the number of threads changes at run time (many at start, few afterwards), a load
still inside TensorFlow must not keep the process from ending, and a hanging one must not block others.

Early releases of Python 3.12 start no thread once the interpreter is ending, when servers that are embedded
in a program end, and others may do so again. What is submitted then is done by who waits for it.
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
        self._is_ending = False

    def submit(self, job: Job) -> None:
        """Runs ``job`` as soon as a thread is free, or in ``wait_idle`` while the interpreter is ending.

        Never blocks. Raises ``RuntimeError`` if the system has no thread for it.
        """
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
        """Waits until nothing is running or queued; False if ``timeout`` seconds passed first.

        Does itself what no thread can be started for; then a job may take it longer.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (job := self._left_over()) is not None:
            self._run(job)
            if until is not None and time.monotonic() > until:
                break
        rest = None if until is None else max(0.0, until - time.monotonic())
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._threads, rest)

    def _left_over(self) -> Job | None:
        """Takes the next job, if no thread will."""
        with self._changed:
            return self._jobs.popleft() if self._is_ending and self._jobs and not self._threads else None

    def _overdue(self) -> int:
        if self._patience is None:
            return 0
        latest = self._clock() - self._patience
        return min(MOST_OVERDUE, sum(begun <= latest for begun in self._begun.values()))

    def _grow(self) -> None:
        free = self._limit - (self._threads - self._overdue())
        for _ in range(min(len(self._jobs), free)):
            # Counted once it has started, which can fail; it waits for the lock.
            if not self._start(self._work, self._name):
                return
            self._threads += 1
        if len(self._jobs) > max(0, free) and self._patience is not None and not self._watching:
            self._watching = self._start(self._watch, f"{self._name}-watch")

    def _start(self, target: Callable[[], None], name: str) -> bool:
        """Starts a thread; False if that cannot be any more, as the interpreter is ending."""
        try:
            threading.Thread(target=target, name=name, daemon=True).start()
        except RuntimeError as error:
            # It has a type of its own (PythonFinalizationError) from Python 3.13 on.
            if "interpreter shutdown" not in str(error):
                raise
            self._is_ending = True
        return not self._is_ending

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
            self._run(job)

    def _run(self, job: Job) -> None:
        try:
            job()
        except Exception:
            # A defect in one job must not cost the others a thread.
            _log.exception("a job of the thread %s failed", self._name)
