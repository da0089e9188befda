"""Which versions leave memory to make room for others: a pure decision. No clock, no threads, no input or
output.

It is W-TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", 2017), for
entries of different sizes. A version that was just loaded is in the *window*, a small share of the memory,
whose least recently used one is the first to be considered. It may stay, in the *main* part, only if it was
used more often than the least recently used one there: so models that somebody looks at once, one after the
other, push out each other, and not those that are in use all the time. How often something was used is
forgotten by half every ``HALF_LIFE``, and known of versions that are not loaded, too.

``benches/residency.py`` has the figures by which ``WINDOW`` and ``HALF_LIFE`` were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

WINDOW = 0.1
"""The window's share of the budget."""
HALF_LIFE = 600.0
"""Seconds in which uses count half."""
MARGIN = 1.1
"""By how much more something has to be used than what it pushes out: otherwise versions that are used equally
often, one after the other, would all push out each other before they are used again.
"""
LEAST = 1 / 16
"""Below this a frequency is forgotten, if many are known."""
KNOWN = 4096
"""Frequencies that are always kept."""


@dataclass(frozen=True)
class Resident:
    """A version in memory. idle: seconds since it was used, or loaded."""

    size: int
    idle: float


class Frequencies(Generic[Key]):
    """How often versions were used, each use counting less with time."""

    def __init__(self, half_life: float = HALF_LIFE) -> None:
        self._half_life = half_life
        # By version: the value, and of when it is.
        self._values: dict[Key, tuple[float, float]] = {}
        self._most = KNOWN

    def add(self, key: Key, uses: float, now: float) -> None:
        """Counts uses."""
        self._values[key] = self.of(key, now) + uses, now
        if len(self._values) > self._most:
            self._forget(now)

    def of(self, key: Key, now: float) -> float:
        """Returns the frequency of a version, 0 for one that is not known."""
        value, at = self._values.get(key, (0.0, now))
        return value * float(0.5 ** (max(0.0, now - at) / self._half_life))

    def _forget(self, now: float) -> None:
        """Forgets what was not used for long; what is left may double until the next time."""
        self._values = {key: value for key, value in self._values.items() if self.of(key, now) >= LEAST}
        self._most = max(KNOWN, 2 * len(self._values))


class Residency(Generic[Key]):
    """Chooses the versions that leave. budget: bytes that all together may take.

    doorkeeper: False for plain LRU, to compare with.
    """

    def __init__(
        self,
        budget: int,
        window: float = WINDOW,
        half_life: float = HALF_LIFE,
        doorkeeper: bool = True,
    ) -> None:
        self._budget = budget
        self._window_size = int(budget * window)
        self._doorkeeper = doorkeeper
        self._frequencies: Frequencies[Key] = Frequencies(half_life)
        # Versions in the main part; all other residents are in the window.
        self._main: set[Key] = set()

    def used(self, key: Key, uses: float, now: float) -> None:
        """Counts uses of a version, whether it is in memory or not."""
        if uses > 0:
            self._frequencies.add(key, uses, now)

    def left(self, key: Key) -> None:
        """A version is not in memory any more."""
        self._main.discard(key)

    def leaves(
        self,
        residents: Mapping[Key, Resident],
        needed: int,
        now: float,
        may_leave: Callable[[Key], bool] = lambda _: True,
    ) -> Key | None:
        """Returns what to unload next so that ``needed`` more bytes fit; None if nothing has to, or may."""
        if sum(one.size for one in residents.values()) + needed <= self._budget:
            return None
        if not self._doorkeeper:
            return _longest_idle([key for key in residents if may_leave(key)], residents)
        window = [key for key in residents if key not in self._main]
        window_size = sum(residents[key].size for key in window) + needed
        main_size = sum(one.size for key, one in residents.items() if key in self._main)
        free = [key for key in window if may_leave(key)]
        while window_size > self._window_size and free:
            candidate = _longest_idle(free, residents)
            assert candidate is not None
            size = residents[candidate].size
            if main_size + size > self._budget - self._window_size:
                return self._loser(candidate, residents, now, may_leave)
            # There is room in the main part.
            self._main.add(candidate)
            free.remove(candidate)
            window_size, main_size = window_size - size, main_size + size
        main = [key for key in residents if key in self._main and may_leave(key)]
        return _longest_idle(main or free, residents)

    def _loser(
        self,
        candidate: Key,
        residents: Mapping[Key, Resident],
        now: float,
        may_leave: Callable[[Key], bool],
    ) -> Key:
        """Returns which of two leaves: one from the window, or the least recently used of the main part."""
        main = [key for key in residents if key in self._main and may_leave(key)]
        victim = _longest_idle(main, residents)
        if victim is None:
            return candidate
        if self._frequencies.of(candidate, now) > MARGIN * self._frequencies.of(victim, now):
            self._main.add(candidate)
            return victim
        return candidate


def _longest_idle(keys: list[Key], residents: Mapping[Key, Resident]) -> Key | None:
    """Returns the least recently used; of several, the first loaded."""
    return max(keys, key=lambda key: residents[key].idle, default=None)
