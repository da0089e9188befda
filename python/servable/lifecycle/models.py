"""The managed models with their versions, and the one lock that guards them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from servable.lifecycle.availability import Availability, availability_of, stays
from servable.lifecycle.condition import Condition
from servable.lifecycle.state import State
from servable.sources import AspiredVersion


@dataclass(eq=False)
class Version:
    """A managed version; a number that disappears and returns is another version.

    Guarded by ``Models.changed``, like everything in a model.
    """

    condition: Condition


@dataclass(eq=False)
class Model:
    """One model.

    wanted: the last announcement; None before the first. missing: nothing was found where the model is now;
    unreadable: nor could that be read. demanded: versions that somebody waits for.
    failures: of versions that are loaded on demand: how many in a row, and when requests try again.
    """

    name: str
    wanted: tuple[AspiredVersion, ...] | None = None
    missing: bool = False
    unreadable: bool = False
    versions: dict[int, Version] = field(default_factory=dict)
    demanded: set[int] = field(default_factory=set)
    failures: dict[int, tuple[int, float]] = field(default_factory=dict)

    def wants(self, version: int) -> bool:
        """True if the last announcement wants it, whether or not the loop has processed that."""
        return any(one.version == version for one in self.wanted or ())

    def waits_for_demand(self, version: int) -> bool:
        """True if this version is to be loaded only once somebody asks for it, and nobody has."""
        condition = self.versions[version].condition
        is_new = condition.on_demand and condition.state is State.START
        return is_new and version not in self.demanded

    def awaits(self, version: int) -> bool:
        """True if somebody waits for this version, and none that is wanted serves in its place."""
        serving = [number for number, one in self.versions.items() if one.condition.state is State.AVAILABLE]
        return version in self.demanded and bool(self.wanted) and not any(map(self.wants, serving))

    def sleeping(self) -> list[int]:
        """Returns the versions that a request would have loaded, ascending; with those whose load failed."""
        found = [
            number
            for number, one in self.versions.items()
            if one.condition.on_demand and (one.condition.sleeps or one.condition.has_failed)
        ]
        return sorted(found)

    def conditions(self) -> dict[int, Condition]:
        """Returns the present conditions of its versions."""
        return {number: one.condition for number, one in self.versions.items()}

    def availability(self) -> Availability:
        """Returns its present availability."""
        return availability_of(self.conditions().values(), self.missing)

    def stays(self, version: int) -> bool:
        """True if this version serves and is not about to be replaced; see ``availability.py``."""
        return stays(version, self.conditions(), self.wants)


class Models:
    """The state shared by the manager's loop and the loading threads.

    All of it, including the contents of every model, is read and written with ``changed`` held, and callers
    of the methods hold it too. It is notified of everything that anybody may wait for, once the loop has
    followed it. ``woken`` has the same lock, and is for the loop: with thousands of models, nobody else
    should look at all of them whenever one is touched.

    touched: models for the loop to process. stopping: no more loads begin. clock: source of all times.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self.woken = threading.Condition(self._lock)
        self.by_name: dict[str, Model] = {}
        self.touched: set[str] = set()
        self.stopping = False

    def known(self, name: str) -> Model:
        """Returns the model of this name, creating it if necessary."""
        return self.by_name.setdefault(name, Model(name))

    def touch(self, name: str) -> None:
        """Wakes the loop to process this model."""
        self.touched.add(name)
        self.woken.notify_all()

    def wake_all(self) -> None:
        """Wakes the loop, and everybody who waits."""
        self.woken.notify_all()
        self.changed.notify_all()

    def take_touched(self) -> list[str]:
        """Returns the touched models and resets them."""
        names = list(self.touched)
        self.touched.clear()
        return names

    def versions(self) -> Iterator[tuple[Model, Version]]:
        """Returns every version of every model."""
        return ((model, version) for model in self.by_name.values() for version in model.versions.values())
