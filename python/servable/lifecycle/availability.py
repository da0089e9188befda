"""The availability of a model, and its lasting versions: pure functions of its versions' conditions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum

from servable.lifecycle.condition import Condition
from servable.lifecycle.state import State


class Availability(Enum):
    """The availability of a configured model."""

    ON_DEMAND = "on_demand"  # loaded once it is asked for
    WAITING = "waiting"  # nothing announced yet, or no result yet
    MISSING = "missing"  # the source has nothing to load
    FAILING = "failing"  # a load failed and will be retried
    HANGING = "hanging"  # a load has taken so long that nobody should wait for it
    FAILED = "failed"  # a version is at END
    AVAILABLE = "available"


def availability_of(conditions: Collection[Condition], missing: bool) -> Availability:
    """Derives the availability: a serving version outranks a failed one, a failed one those still to come.

    missing: the source has nothing to load, which matters only if no version is known.
    """
    if any(one.state is State.AVAILABLE for one in conditions):
        return Availability.AVAILABLE
    if any(one.has_failed for one in conditions):
        return Availability.FAILED
    if any(one.error is not None for one in conditions):
        return Availability.FAILING
    if any(one.sleeps for one in conditions):
        return Availability.ON_DEMAND
    if any(one.reports for one in conditions):
        return Availability.HANGING
    if missing and not conditions:
        return Availability.MISSING
    return Availability.WAITING


def stays(version: int, conditions: Mapping[int, Condition], wants: Callable[[int], bool]) -> bool:
    """True if the version answers and is not about to be replaced by a wanted one that answers too."""
    serving = [number for number, one in conditions.items() if one.answers]
    return version in serving and (wants(version) or not any(map(wants, serving)))
