"""Progress of long work, for people: one line at the bottom of a terminal, and nothing where nobody looks.

Whoever works begins a ``task``, which costs next to nothing while no terminal is shown anything. A thread
draws the line while there are tasks. The cursor stays at its beginning, so that what others write to the
terminal, the core and TensorFlow among them, takes its place; log lines of this program clear it first
(``behind``).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TextIO

from servable.sizes import size_text

DRAW_SECONDS = 0.1
SHOWN_AFTER = 0.5
"""Seconds after which a task is shown: shorter ones would only flicker."""
_BAR = 24


class Task:
    """Something that takes long. total: bytes in all, 0 if unknown. detail: returns what is being done."""

    def __init__(self, title: str, total: int, detail: Callable[[], str] | None, begun: float) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self._detail = detail
        self.begun = begun
        self.thread = threading.get_ident()

    def add(self, count: int) -> None:
        """Counts bytes."""
        self.done += count

    def line(self, now: float, width: int) -> str:
        """Returns how it goes, in at most ``width`` characters."""
        seconds = max(now - self.begun, 0.001)
        if self.total:
            share = min(self.done / self.total, 1.0)
            full = round(share * _BAR)
            rate = self.done / seconds
            left = f", {_time((self.total - self.done) / rate)} left" if 0 < self.done < self.total else ""
            bar = "#" * full + "-" * (_BAR - full)
            said = f"{self.title} [{bar}] {share:4.0%} of {size_text(self.total)}{left}"
        else:
            detail = self._told()
            counted = f"{size_text(self.done)}, " if self.done else ""
            said = f"{self.title}: {f'{detail}, ' if detail else ''}{counted}{_time(seconds)}"
        said = "".join(one if one.isprintable() else "?" for one in said)
        return said if len(said) <= width else said[: max(width - 1, 0)] + "…"

    def _told(self) -> str:
        try:
            return self._detail() if self._detail is not None else ""
        except Exception:  # what is asked may have ended at this moment
            return ""


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


class Board:
    """The tasks under way, and the terminal that shows them; none, until ``show_on``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stream: TextIO | None = None
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._tasks: list[Task] = []
        self._drawer: threading.Thread | None = None
        self._drawn = False

    @property
    def is_shown(self) -> bool:
        """True if somebody sees the line: log lines about the same progress are not needed."""
        return self._stream is not None

    def show_on(self, stream: TextIO | None, environment: Mapping[str, str] | None = None) -> None:
        """Shows tasks on ``stream`` from now on, if that is a terminal that can clear a line."""
        known = os.environ if environment is None else environment
        is_able = stream is not None and stream.isatty() and known.get("TERM", "dumb") != "dumb"
        self._stream = stream if is_able else None

    def hide(self) -> None:
        """Shows nothing any more."""
        with self._lock:
            self._clear()
            self._stream = None

    @contextmanager
    def task(self, title: str, total: int = 0, detail: Callable[[], str] | None = None) -> Iterator[Task]:
        """Shows a task until the block ends."""
        task = Task(title, total, detail, self._clock())
        if self._stream is None:
            yield task
            return
        with self._lock:
            self._tasks.append(task)
            if self._drawer is None:
                self._drawer = threading.Thread(target=self._draw, name="progress", daemon=True)
                self._drawer.start()
        try:
            yield task
        finally:
            with self._lock:
                self._tasks.remove(task)
                if not self._tasks:
                    self._clear()
                self._ended.notify_all()

    @contextmanager
    def behind(self) -> Iterator[None]:
        """Holds the line back while something else is written to the terminal."""
        if self._stream is None:
            yield
            return
        with self._lock:
            self._clear()
            yield

    def line(self, width: int) -> str:
        """Returns the line; "" while there is nothing to show."""
        now = self._clock()
        with self._lock:
            # Of the tasks of one thread, the last: it is a part of those before it.
            last = {one.thread: one for one in self._tasks if now - one.begun >= SHOWN_AFTER}
        if not last:
            return ""
        more = f" (and {len(last) - 1} more)" if len(last) > 1 else ""
        return next(iter(last.values())).line(now, width - len(more)) + more

    def _draw(self) -> None:
        while True:
            # A title is computed outside of the lock: whoever is asked for it may log.
            text = self.line(shutil.get_terminal_size().columns - 1)
            with self._lock:
                if not self._tasks:
                    self._drawer = None
                    return
                if text and self._stream is not None:
                    self._write(f"\r{text}\x1b[K\r")
                    self._drawn = True
                self._ended.wait(DRAW_SECONDS)

    def _clear(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal is gone, or the stream is closed
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()


board = Board()
"""The one of this process."""
