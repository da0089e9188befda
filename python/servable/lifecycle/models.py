"""The models that are managed, with their versions, and the one lock that guards them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from servable.lifecycle.condition import Condition
from servable.sources import AspiredVersion


@dataclass(eq=False)
class Version:
    """A managed version, as long as it is the same one: a number that comes back is another version.

    Guarded by ``Models.changed``, as is whatever a model has.
    """

    condition: Condition


@dataclass(eq=False)
class Model:
    """What is known of one model. wanted: the last announcement; None before the first."""

    name: str
    wanted: tuple[AspiredVersion, ...] | None = None
    missing: bool = False
    versions: dict[int, Version] = field(default_factory=dict)

    def wants(self, version: int) -> bool:
        """As last announced, whether or not the loop has taken it over yet."""
        return any(one.version == version for one in self.wanted or ())

    def conditions(self) -> Iterator[Condition]:
        """Of its versions."""
        return (one.condition for one in self.versions.values())


class Models:
    """What the manager's loop and the threads that load share.

    Everything in here, every model's contents included, is read and written with ``changed`` held, which is
    notified of what somebody may wait for; the methods are called with it held, too.

    touched: the models that the loop is to look at. stopping: no load begins any more. clock: of all times.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.changed = threading.Condition()
        self.by_name: dict[str, Model] = {}
        self.touched: set[str] = set()
        self.stopping = False

    def known(self, name: str) -> Model:
        """The model of this name, new where there was none."""
        return self.by_name.setdefault(name, Model(name))

    def touch(self, name: str) -> None:
        """Wakes the loop, and has it look at this model."""
        self.touched.add(name)
        self.changed.notify_all()

    def take_touched(self) -> list[str]:
        """The models to look at now; from here on, others."""
        names = list(self.touched)
        self.touched.clear()
        return names

    def versions(self) -> Iterator[tuple[Model, Version]]:
        """Every version of every model."""
        return ((model, version) for model in self.by_name.values() for version in model.versions.values())
