"""Models that are loaded on demand: takes what requests wait for from the core, and tells it what became of
it.

A version that is put off stays at START until somebody asks for it: a request, or a hint (``prefetch``). Then
it is *demanded*, and the reconciler lets the policy load it. The loop calls ``settle`` whenever it follows
a model: those who wait learn of the outcome. A load that fails is tried again by the next request after a
pause, which doubles with each failure in a row; until then the core answers with the error by itself. Where
there was no room in memory, the pause stays the same. Of a model that has come to stay, for which nobody may
ask, the manager demands what is not loaded, and again after the pause (``retry_at``).

Requests are taken over only as fast as loads have threads, so that the core still knows which of them wait.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection

from servable.errors import StatusError
from servable.lifecycle.interfaces import DemandCore, NoRoomError
from servable.lifecycle.models import Model, Models
from servable.lifecycle.reconciling import Reconciler
from servable.lifecycle.state import State

_log = logging.getLogger("servable.manager")

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds after a failed load in which no request tries it again: after the first failure, and at most."""
NO_ROOM_PAUSE = 10.0
"""The same where there was no room in memory, for which a load waits as long while no other one begins."""

GLANCE_SECONDS = 1.0
"""Seconds between two looks at whether a load has given up its place, or the server stops."""

_Key = tuple[str, int]


def pause_after(failures: int) -> float:
    """Returns the seconds until a load is tried again after so many failures in a row."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(max(failures, 1) - 1, 30)))


class OnDemand:
    """Has versions of ``models`` loaded that somebody asks for. Guarded by ``Models.changed``.

    pinned: models that are loaded from the beginning, and stay. threads: loads at once. patience: seconds
    after which a load gives its place to the next one.
    """

    def __init__(
        self,
        core: DemandCore,
        models: Models,
        pinned: Collection[str],
        threads: int,
        patience: float,
    ) -> None:
        self._core = core
        self._models = models
        self._pinned = frozenset(pinned)
        self._threads = max(1, threads)
        self._patience = patience
        # When each version was asked for by requests, until they have their outcome.
        self._since: dict[_Key, float] = {}
        self._thread: threading.Thread | None = None

    def puts_off(self, name: str) -> bool:
        """True if the versions of a model are loaded on demand."""
        return name not in self._pinned

    # ---- asking; with the lock held

    def demand(self, name: str, version: int, reconciler: Reconciler) -> None:
        """Has a version loaded, if it is not; ``settle`` follows."""
        model = self._models.known(name)
        known = model.versions.get(version)
        if known is not None and known.condition.has_failed:
            reconciler.try_again(model, known)
        model.demanded.add(version)
        self._models.touch(name)

    def hint(self, model: Model, reconciler: Reconciler) -> None:
        """Has the latest version of a model loaded, unless its load has just failed."""
        for version in model.sleeping()[-1:]:
            self._demand_again(model, version, reconciler)

    def demand_all(self, model: Model, reconciler: Reconciler) -> None:
        """Has every version of a model loaded, but those whose load has just failed."""
        for version in model.sleeping():
            self._demand_again(model, version, reconciler)

    def retry_at(self, model: Model) -> float | None:
        """Returns when ``demand_all`` tries a failed load again; None if none has failed."""
        failed = [
            number
            for number, one in model.versions.items()
            if one.condition.on_demand and one.condition.has_failed and model.wants(number)
        ]
        return min((model.failures.get(number, (0, 0.0))[1] for number in failed), default=None)

    def _demand_again(self, model: Model, version: int, reconciler: Reconciler) -> None:
        _, until = model.failures.get(version, (0, 0.0))
        if until <= self._models.clock():
            self.demand(model.name, version, reconciler)

    def awaken(self, model: Model, version: int | None, reconciler: Reconciler) -> int | None:
        """Has a version loaded, or the latest: the one that a request would wait for, if there is one.

        Returns which; ``check`` tells what became of it, once ``settle`` has. Raises the ``StatusError`` of a
        load that has just failed.
        """
        dormant = {
            number
            for number, one in model.versions.items()
            if one.condition.on_demand and one.condition.state is not State.AVAILABLE
        }
        number = max(dormant, default=None) if version is None else version
        if number is None or number not in dormant:
            return None
        if number not in model.demanded:
            _, until = model.failures.get(number, (0, 0.0))
            if until > self._models.clock():
                self.check(model, number)
            self.demand(model.name, number, reconciler)
        return number

    def check(self, model: Model, version: int) -> None:
        """Raises the ``StatusError`` of a version that was asked for and could not be loaded."""
        known = model.versions.get(version)
        if known is None:
            raise _gone(model, version)
        if known.condition.has_failed and known.condition.error is not None:
            _, until = model.failures.get(version, (0, 0.0))
            pause = math.ceil(max(0.0, until - self._models.clock()))
            raise _failed(model.name, version, known.condition.error, pause)

    def settle(self, model: Model) -> None:
        """Tells those who wait for versions of a model what became of them."""
        for version in sorted(model.demanded):
            known = model.versions.get(version)
            if known is not None and known.condition.state is State.AVAILABLE:
                model.demanded.discard(version)
                model.failures.pop(version, None)
                self._core.demand_loaded(model.name, version)
            elif known is None or not known.condition.aspired:
                if known is not None and known.condition.state is State.LOADING and model.awaits(version):
                    # Another is to replace it, and may take longer to load, or fail.
                    continue
                self._fail(model, version, _gone(model, version), 0.0)
            elif known.condition.has_failed and known.condition.error is not None:
                pause = self._pause(model, version, known.condition.error)
                self._fail(model, version, _failed(model.name, version, known.condition.error, pause), pause)
            else:
                continue
            self._since.pop((model.name, version), None)

    def _pause(self, model: Model, version: int, error: StatusError) -> float:
        """Counts a failure, and returns the seconds until requests try again."""
        failures, _ = model.failures.get(version, (0, 0.0))
        if isinstance(error, NoRoomError):
            pause = NO_ROOM_PAUSE
        else:
            failures += 1
            pause = pause_after(failures)
        model.failures[version] = failures, self._models.clock() + pause
        return pause

    def _fail(self, model: Model, version: int, error: StatusError, pause: float) -> None:
        model.demanded.discard(version)
        self._core.demand_failed(model.name, version, (error.code, error.message), pause)

    # ---- the thread that takes what requests wait for

    def start(self, ask: Callable[[str, int], None]) -> None:
        """Begins to call ``ask``, with the lock held, with each version that requests wait for."""
        self._thread = threading.Thread(target=self._take, args=(ask,), name="demand", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends all waiting. Called without the lock, once ``Models.stopping`` is set."""
        self._core.end_demand()
        if self._thread is not None:
            self._thread.join()

    def _take(self, ask: Callable[[str, int], None]) -> None:
        models = self._models
        while True:
            with models.changed:
                models.changed.wait_for(lambda: models.stopping or self._has_room(), GLANCE_SECONDS)
                if models.stopping:
                    return
                if not self._has_room():
                    continue
            found = self._core.next_demand(GLANCE_SECONDS)
            if found is not None:
                with models.changed:
                    self._ask(ask, found)

    def _ask(self, ask: Callable[[str, int], None], found: _Key) -> None:
        """Passes on what requests wait for. Called with the lock held."""
        self._since[found] = self._models.clock()
        try:
            ask(*found)
        except Exception as error:
            # A defect in one model must not leave those who wait for others without anybody who takes them.
            _log.exception("asking for %s version %d failed", *found)
            self._since.pop(found)
            self._core.demand_failed(*found, ("INTERNAL", f"{type(error).__name__}: {error}"), FIRST_PAUSE)

    def _has_room(self) -> bool:
        latest = self._models.clock() - self._patience
        return sum(since > latest for since in self._since.values()) < self._threads


def _gone(model: Model, version: int) -> StatusError:
    if model.wanted:
        # Whoever asked for the latest version finds another one now.
        return StatusError("UNAVAILABLE", f"Model {model.name} version {version} was replaced: try again")
    return StatusError("NOT_FOUND", f"Servable not found for request: Specific({model.name}, {version})")


def _failed(name: str, version: int, error: StatusError, pause: float) -> StatusError:
    # Whose request it was is not at fault, whatever is wrong with the model.
    code = "RESOURCE_EXHAUSTED" if error.code == "RESOURCE_EXHAUSTED" else "UNAVAILABLE"
    return StatusError(
        code,
        f"Model {name} version {version} could not be loaded: {error.message} "
        f"(the first request after {pause:g} s tries again)",
    )
