"""Keeps loaded versions within a budget of memory: makes room before a load, and counts what it took.

The core measures a load by what is allocated before and after it, which tells something only of loads one
after another; so they have turns here. Before a version's first load its size is not known: room is made
for the bytes of its files, and what was measured counts from then on. The first load of an engine also starts
what all models share, for which a small part is taken off: so what is left is no measure of the version, and
refuses none, but counts until its next load. A load counts what it will most likely take until it ends. What
a version takes later, when its runs move to another engine, the core measures as well: it counts as soon as
it is known (``follow``). Which versions leave is decided by ``residency.py``.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from servable.engines.formats import fingerprint, format_of, model_bytes
from servable.errors import StatusError
from servable.lifecycle.interfaces import DemandCore, NoRoomError, Turn
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
MUCH_BYTES = 1 << 20
"""By how much a version has to grow until the log tells of it."""
ENGINE_BYTES = 2 << 20
"""What is taken off the first load of an engine; measured were 1.0 MB of TensorFlow, 1.4 of ONNX Runtime."""
LOOK_SECONDS = 1.0
"""Between two looks at what versions have taken since their loads."""
PATIENCE = 30.0
"""Seconds after which a load that hangs gives its turn to the next one, which is not measured then."""
KNOWN = 1024
"""What was measured of so many versions is always kept."""

_TOO_LARGE = "It takes {} bytes of memory, and --memory_budget allows {} for all models"
"""What the core says, too, of a load that it measures."""
_FOUND_TOO_LARGE = re.compile(r"It takes (\d+) bytes of memory, and --memory_budget allows ")

_Key = tuple[str, int]
Rest = Callable[[str, int], bool]
"""Unloads a version unless a request holds it; returns whether it does."""


@dataclass
class _Taken:
    """What a version took when it was last loaded from ``path``, in bytes: its load, and what followed.

    files: their fingerprint, of one that is too large.
    """

    path: str
    size: int
    grown: int = 0
    files: str = ""

    @property
    def together(self) -> int:
        return max(LEAST_BYTES, self.size + self.grown)


class MemoryBudget:
    """A ``Room`` of ``budget`` bytes. Thread-safe.

    rest: unloads a version of a model that may leave. stays: whether a model never leaves, as it is pinned.
    wants: whether a version may be loaded again. None must be called with ``_changed`` held. clock: in
    seconds.
    """

    def __init__(
        self,
        core: DemandCore,
        budget: int,
        rest: Rest,
        clock: Callable[[], float],
        stays: Callable[[str], bool] = lambda _: False,
        wants: Callable[[str, int], bool] = lambda *_: True,
    ) -> None:
        self._core = core
        self._budget = budget
        self._rest = rest
        self._stays = stays
        self._wants = wants
        self._clock = clock
        self._turns = threading.Lock()
        # Engines that have loaded something: what the first load took is also what all others share.
        self._started: set[str] = set()
        self._changed = threading.Condition()
        self._residency: Residency[_Key] = Residency(budget)
        # What loaded versions take, and those that are being unloaded; what was measured, also of others.
        self._held: dict[_Key, _Taken] = {}
        self._leaving: set[_Key] = set()
        # What loads that are under way will most likely take.
        self._loading: dict[VersionLoad, int] = {}
        self._measured: dict[_Key, _Taken] = {}
        self._most_measured = KNOWN
        # Uses of each loaded version that are counted already, and how long ago the last one was.
        self._counted: dict[_Key, int] = {}
        self._idle: dict[_Key, float] = {}
        # Whether the log tells already that more is loaded than may be.
        self._told = False

    def held(self, name: str, version: int) -> tuple[int, bool] | None:
        """Returns what a loaded version counts, in bytes, and whether that was measured."""
        with self._changed:
            held = self._held.get((name, version))
            return None if held is None else (held.together, self._measured.get((name, version)) is held)

    def total(self) -> int:
        """Returns what all loaded versions count, in bytes."""
        with self._changed:
            return self._total()

    def _total(self) -> int:
        return sum(held.together for held in self._held.values())

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
                lambda taken: self._has_taken(load, expected, taken, is_first),
            )
            self._started.add(engine)
            self._make_room(key, 0, None)
            self._tell_of_excess()
        except Exception as error:
            self._learn(load, error)
            raise
        finally:
            with self._changed:
                self._loading.pop(load, None)
                self._changed.notify_all()
            self._forget()
            if is_mine:
                self._turns.release()

    def follow(self, ended: threading.Event) -> None:
        """Has others leave where versions have grown since their loads, until the server has ended."""
        while not ended.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception:
                # A defect here must not leave the budget without anybody who looks.
                _log.exception("looking at what models take failed")

    def look(self) -> None:
        """Looks once. While something loads, that does the same at its end."""
        if self._turns.acquire(blocking=False):
            try:
                self._make_room(None, 0, None)
                self._tell_of_excess()
            finally:
                self._turns.release()

    def freed(self, name: str, version: int) -> None:
        """See ``Room``."""
        key = name, version
        with self._changed:
            self._held.pop(key, None)
            self._leaving.discard(key)
            self._counted.pop(key, None)
            self._residency.left(key)
            self._changed.notify_all()

    def _expected(self, load: VersionLoad, path: str) -> int:
        """Returns what a load will most likely take: what it took before, or what its files take."""
        with self._changed:
            known = self._measured.get((load.model, load.version))
        most = max(LEAST_BYTES, self._budget - sum(self._pinned().values()))
        if known is not None and known.size > self._budget and known.files != fingerprint(load.path):
            known = None
        if known is None or known.path != load.path:
            # That is a guess, and none refuses a model.
            return min(max(model_bytes(path), LEAST_BYTES), most)
        if known.size > self._budget:
            raise StatusError("RESOURCE_EXHAUSTED", _TOO_LARGE.format(known.size, self._budget))
        # What it will take in another engine refuses none, either: it serves without.
        return max(known.size, min(known.together, most))

    def _learn(self, load: VersionLoad, error: Exception) -> None:
        """Remembers what a version takes that the core has found too large: it is not loaded again."""
        found = _FOUND_TOO_LARGE.match(getattr(error, "message", ""))
        if found is not None:
            taken = _Taken(load.path, int(found[1]), files=fingerprint(load.path))
            with self._changed:
                self._measured[load.model, load.version] = taken

    def _forget(self) -> None:
        """Forgets what was measured of versions that are not wanted any more; the others may double until the
        next time.
        """
        with self._changed:
            if len(self._measured) <= self._most_measured:
                return
            known = set(self._measured) - set(self._held)
        gone = [key for key in known if not self._wants(*key)]
        with self._changed:
            for key in gone:
                if key not in self._held:
                    self._measured.pop(key, None)
            self._most_measured = max(KNOWN, 2 * len(self._measured))

    def _has_taken(self, load: VersionLoad, expected: int, taken: int | None, is_first: bool) -> None:
        """is_first: the engine's own start was measured with it."""
        key = load.model, load.version
        size = expected if taken is None else taken
        if is_first and taken is not None:
            size = max(expected, taken - ENGINE_BYTES)
        held = _Taken(load.path, max(size, LEAST_BYTES))
        if held.size > self._budget:
            held.files = fingerprint(load.path)
        with self._changed:
            self._loading.pop(load, None)
            # Once a version is replaced by its new load, only the latter counts.
            self._held[key] = held
            if taken is not None and not is_first:
                self._measured[key] = held
        _log.debug("%s version %d takes %s", *key, size_text(held.size))

    def _has_grown(self, key: _Key, grown: int) -> None:
        """Counts what a version has taken since its load. Called with the lock held."""
        held = self._held.get(key)
        if held is None or held.grown == grown:
            return
        held.grown = grown
        said = size_text(held.together)
        if held.together > self._budget:
            _log.warning(
                "%s version %d takes %s since its runs moved to another engine, more than --memory_budget "
                "allows for all models: give it more, or --engine=tensorflow",
                *key,
                said,
            )
        else:
            # Where the runs stay, what is left of trying is little.
            level = logging.INFO if abs(grown) >= MUCH_BYTES else logging.DEBUG
            _log.log(level, "%s version %d takes %s since its runs moved to another engine", *key, said)

    # ---- making room

    def _make_room(self, key: _Key | None, needed: int, load: VersionLoad | None) -> None:
        """Has versions leave until ``needed`` more bytes fit, but never ``key``; they are the ``load``'s.

        None leaves while what is pinned, is being loaded or has just refused to leave takes too much of them.
        Without a ``load`` that waits for it, only what can leave at once.
        """
        deadline = self._clock() + ROOM_SECONDS
        self._count_uses(key if load is not None else None)
        if load is not None and (pinned := sum(self._pinned().values())) + needed > self._budget:
            raise self._no_room(needed, f"models that are pinned take {pinned}")
        refused = self._refused(key)
        while True:
            if load is not None:
                load.check()
            victim = self._victim(needed, refused) if load is None or self._may_fit(needed, refused) else None
            if victim is not None:
                self._let_go(victim, refused)
                continue
            if load is None or self._reserved(load, needed):
                return
            if self._clock() >= deadline:
                why = "models that are pinned, are being loaded or replaced, or have requests in flight, take"
                raise self._no_room(needed, f"{why} {self._taken()}")
            # Requests may have let go of them meanwhile.
            refused = self._refused(key)

    def _pinned(self) -> dict[_Key, int]:
        """Returns what each version takes that never leaves."""
        with self._changed:
            held = {key: held.together for key, held in self._held.items()}
        return {key: size for key, size in held.items() if self._stays(key[0])}

    def _refused(self, key: _Key | None) -> set[_Key]:
        """Returns what does not leave for ``key``; for none, what would be too large when it comes back.

        The first of an engine may leave: its next load is measured, and counts less or is refused.
        """
        pinned = set(self._pinned())
        if key is not None:
            return pinned | {key}
        with self._changed:
            return pinned | {
                one
                for one, held in self._held.items()
                if held.together > self._budget
                and (held.size <= self._budget or self._measured.get(one) is held)
            }

    def _tell_of_excess(self) -> None:
        """Logs that more is loaded than may be, once as long as that is so."""
        stays = sum(self._pinned().values())
        with self._changed:
            taken = sum(held.together for key, held in self._held.items() if key not in self._leaving)
        exceeds = taken > self._budget
        if exceeds and not self._told:
            _log.warning(
                "what is loaded takes %s, and --memory_budget allows %s; models that stay, pinned or with "
                "traffic rules, take %s%s",
                *map(size_text, (taken, self._budget, stays)),
                ", so no other finds room: give it more, or have fewer stay" if stays > self._budget else "",
            )
        self._told = exceeds

    def _may_fit(self, needed: int, refused: set[_Key]) -> bool:
        """True if ``needed`` more bytes fit once all that may leave has left."""
        with self._changed:
            stays = sum(held.together for key, held in self._held.items() if key in refused)
            return stays + sum(self._loading.values()) + needed <= self._budget

    def _count_uses(self, asked: _Key | None) -> None:
        """Tells the decision how often versions were used since the last time; ``asked`` once more."""
        now = self._clock()
        uses = self._core.uses()
        with self._changed:
            self._idle = {}
            for name, version, idle, steps, grown in uses:
                key = name, version
                self._idle[key] = idle
                self._residency.used(key, steps - self._counted.get(key, 0), now)
                self._counted[key] = steps
                self._has_grown(key, grown)
            if asked is not None:
                self._residency.used(asked, 1, now)

    def _victim(self, needed: int, refused: set[_Key]) -> _Key | None:
        with self._changed:
            residents = {
                key: Resident(held.together, self._idle.get(key, 0.0))
                for key, held in self._held.items()
                if key not in self._leaving
            }
            needed += sum(self._loading.values())
            return self._residency.leaves(residents, needed, self._clock(), lambda one: one not in refused)

    def _let_go(self, victim: _Key, refused: set[_Key]) -> None:
        with self._changed:
            self._leaving.add(victim)
        if not self._rest(*victim):
            refused.add(victim)
            with self._changed:
                self._leaving.discard(victim)

    def _taken(self) -> int:
        """Returns what all loaded versions count, and those that are being loaded."""
        with self._changed:
            return self._total() + sum(self._loading.values())

    def _reserved(self, load: VersionLoad, needed: int) -> bool:
        """Waits a moment for versions that leave; returns whether ``needed`` bytes are the load's now."""
        with self._changed:
            fits = self._changed.wait_for(lambda: self._taken() + needed <= self._budget, GLANCE_SECONDS)
            if fits:
                self._loading[load] = needed
            return fits

    def _no_room(self, needed: int, why: str) -> NoRoomError:
        said = f"There is no room for {needed} bytes in --memory_budget={self._budget}: {why}"
        return NoRoomError("RESOURCE_EXHAUSTED", said)
