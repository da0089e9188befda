"""Keeps loaded versions within a budget of memory: makes room before a load, and counts what it took.

The core measures a load by what is allocated before and after it, which tells something only of loads one
after another; so they have turns here. Before a version's first load its size is not known: room is made for
the bytes of its files, and what was measured counts from then on. So does the first load of an engine, which
also starts what all models share. Which versions leave is decided by ``residency.py``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from servable.engines.formats import format_of, model_bytes
from servable.errors import StatusError
from servable.lifecycle.interfaces import DemandCore, Turn
from servable.lifecycle.residency import Residency, Resident
from servable.sizes import size_text
from servable.sources import VersionLoad

_log = logging.getLogger("servable.memory")

ROOM_SECONDS = 10.0
"""Longest time that a load waits for versions that leave, or for requests that hold them."""
GLANCE_SECONDS = 0.05
"""Between two looks at whether requests hold them still."""
LEAST_BYTES = 1 << 16
"""What any version counts at least."""
PATIENCE = 30.0
"""Seconds after which a load that hangs gives its turn to the next one, which is not measured then."""

_Key = tuple[str, int]
Rest = Callable[[str, int], bool]
"""Unloads a version unless a request holds it; returns whether it does."""


class MemoryBudget:
    """A ``Room`` of ``budget`` bytes. Thread-safe.

    rest: unloads a version of a model that may leave; must not be called with ``_changed`` held. clock: in
    seconds.
    """

    def __init__(self, core: DemandCore, budget: int, rest: Rest, clock: Callable[[], float]) -> None:
        self._core = core
        self._budget = budget
        self._rest = rest
        self._clock = clock
        self._turns = threading.Lock()
        # Engines that have loaded something: what the first load took is also what all others share.
        self._started: set[str] = set()
        self._changed = threading.Condition()
        self._residency: Residency[_Key] = Residency(budget)
        # What loaded versions take, and those that are being unloaded; what others took when they were.
        self._held: dict[_Key, int] = {}
        self._leaving: set[_Key] = set()
        self._taken: dict[tuple[str, int, str], int] = {}
        self._measured: set[_Key] = set()
        # Uses of each loaded version that are counted already, and how long ago the last one was.
        self._counted: dict[_Key, int] = {}
        self._idle: dict[_Key, float] = {}

    def held(self, name: str, version: int) -> tuple[int, bool] | None:
        """Returns what a loaded version counts, in bytes, and whether that was measured."""
        with self._changed:
            size = self._held.get((name, version))
            return None if size is None else (size, (name, version) in self._measured)

    def total(self) -> int:
        """Returns what all loaded versions count, in bytes."""
        with self._changed:
            return sum(self._held.values())

    @contextmanager
    def turn(self, load: VersionLoad, path: str) -> Iterator[Turn]:
        """See ``Room``."""
        key = load.model, load.version
        known = format_of(path)
        engine = known.engine if known is not None else ""
        is_mine = self._turns.acquire(timeout=PATIENCE)
        try:
            expected = self._expected(load, path)
            self._make_room(key, expected, load)
            is_first = engine not in self._started
            yield Turn(
                None if is_first else self._budget,
                lambda taken: self._has_taken(load, expected, None if is_first else taken),
            )
            self._started.add(engine)
            self._make_room(key, 0, None)
        finally:
            if is_mine:
                self._turns.release()

    def freed(self, name: str, version: int) -> None:
        """See ``Room``."""
        key = name, version
        with self._changed:
            self._held.pop(key, None)
            self._leaving.discard(key)
            self._measured.discard(key)
            self._counted.pop(key, None)
            self._residency.left(key)
            self._changed.notify_all()

    def _expected(self, load: VersionLoad, path: str) -> int:
        """Returns what a load will most likely take: what it took before, or what its files take."""
        with self._changed:
            known = self._taken.get((load.model, load.version, load.path))
        if known is None:
            # That is a guess, and none refuses a model.
            return min(max(model_bytes(path), LEAST_BYTES), self._budget)
        if known > self._budget:
            raise StatusError(
                "RESOURCE_EXHAUSTED",
                f"It takes {known} bytes of memory, and --memory_budget allows {self._budget} for all models",
            )
        return known

    def _has_taken(self, load: VersionLoad, expected: int, taken: int | None) -> None:
        key = load.model, load.version
        size = expected if taken is None else max(taken, LEAST_BYTES)
        with self._changed:
            # While a version is replaced by its new load, only the latter counts.
            self._held[key] = size
            if taken is not None:
                self._measured.add(key)
                self._taken[load.model, load.version, load.path] = size
        _log.debug("%s version %d takes %s", *key, size_text(size))

    # ---- making room

    def _make_room(self, key: _Key, needed: int, load: VersionLoad | None) -> None:
        """Has versions leave until ``needed`` more bytes fit.

        Without a ``load`` that waits for it, only what can leave at once.
        """
        deadline = self._clock() + ROOM_SECONDS
        self._count_uses(key if load is not None else None)
        refused: set[_Key] = {key}
        while True:
            if load is not None:
                load.check()
            victim = self._victim(needed, refused)
            if victim is not None:
                self._let_go(victim, refused)
                continue
            if load is None or self._wait_for_room(needed):
                return
            if self._clock() >= deadline:
                raise self._no_room(key, needed)
            # Requests may have let go of them meanwhile.
            refused = {key}

    def _count_uses(self, asked: _Key | None) -> None:
        """Tells the decision how often versions were used since the last time; ``asked`` once more."""
        now = self._clock()
        uses = {(name, version): (idle, steps) for name, version, idle, steps in self._core.uses()}
        with self._changed:
            self._idle = {key: idle for key, (idle, _) in uses.items()}
            for key, (_, steps) in uses.items():
                self._residency.used(key, steps - self._counted.get(key, 0), now)
                self._counted[key] = steps
            if asked is not None:
                self._residency.used(asked, 1, now)

    def _victim(self, needed: int, refused: set[_Key]) -> _Key | None:
        with self._changed:
            residents = {
                key: Resident(size, self._idle.get(key, 0.0))
                for key, size in self._held.items()
                if key not in self._leaving
            }
            return self._residency.leaves(residents, needed, self._clock(), lambda one: one not in refused)

    def _let_go(self, victim: _Key, refused: set[_Key]) -> None:
        with self._changed:
            self._leaving.add(victim)
        if not self._rest(*victim):
            refused.add(victim)
            with self._changed:
                self._leaving.discard(victim)

    def _wait_for_room(self, needed: int) -> bool:
        """Waits a moment for versions that leave; returns whether ``needed`` bytes fit."""

        def fits() -> bool:
            return sum(self._held.values()) + needed <= self._budget

        with self._changed:
            return self._changed.wait_for(fits, GLANCE_SECONDS)

    def _no_room(self, key: _Key, needed: int) -> StatusError:
        with self._changed:
            total = sum(self._held.values())
        return StatusError(
            "RESOURCE_EXHAUSTED",
            f"There is no room for {needed} bytes in --memory_budget={self._budget}: models that are pinned, "
            f"or have requests in flight, take {total}",
        )
