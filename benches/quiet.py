"""Measures how busy the machine is with other work, and waits until it is quiet.

A benchmark on a shared machine is worth as much as its information about that other work.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

WINDOW_SECONDS = 0.5
QUIET_SHARE = 0.08
DISTURBED_SHARE = 0.15

Found = TypeVar("Found")


def busy_seconds() -> float:
    """Returns the CPU seconds that all cores together have spent on anything but idling since boot."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def load_before() -> str:
    """Returns a line on what the machine had to do in the minute before."""
    return f"load average before: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores"


def children_seconds() -> float:
    """Returns the CPU time of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Others:
    """The share of the machine, 0 to 1, that other processes have taken since this was created."""

    def __init__(self) -> None:
        self._busy = busy_seconds()
        self._began = time.monotonic()

    def share(self, measured_seconds: float) -> float:
        """Returns the share; ``measured_seconds`` is the CPU time of the measured processes meanwhile."""
        capacity = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return max(0.0, busy_seconds() - self._busy - measured_seconds) / capacity


class Patience:
    """Waits for a quiet machine, and repeats disturbed measurements, for at most ``seconds`` in all."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def wait(self) -> None:
        """Returns after half a second in which others took less than 8 %, or when the patience is used up."""
        while self.left > 0:
            others = Others()
            time.sleep(WINDOW_SECONDS)  # the window that is measured
            if others.share(0.0) < QUIET_SHARE:
                return
            self.left -= WINDOW_SECONDS

    def undisturbed(self, measure: Callable[[], Found], others: Callable[[Found], float]) -> Found:
        """Returns the result of ``measure``, repeated while the share of ``others`` in it is above 15 %."""
        while True:
            self.wait()
            began = time.monotonic()
            found = measure()
            if self.left <= 0 or others(found) <= DISTURBED_SHARE:
                return found
            self.left -= time.monotonic() - began
