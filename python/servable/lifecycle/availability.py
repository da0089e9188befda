"""The availability of a model, and its lasting versions: pure functions of its versions' conditions."""

from __future__ import annotations

from enum import Enum

from servable.lifecycle.models import Model
from servable.lifecycle.policy import State


class Availability(Enum):
    """The availability of a configured model."""

    WAITING = "waiting"  # nothing announced yet, or no result yet
    MISSING = "missing"  # the source has nothing to load
    FAILING = "failing"  # a load failed and will be retried
    HANGING = "hanging"  # a load has taken so long that nobody should wait for it
    FAILED = "failed"  # a version is at END
    AVAILABLE = "available"


def availability_of(model: Model) -> Availability:
    """Derives the availability: a serving version outranks a failed one, a failed one those still to come."""
    versions = list(model.conditions())
    if any(one.state is State.AVAILABLE for one in versions):
        return Availability.AVAILABLE
    if any(one.has_failed for one in versions):
        return Availability.FAILED
    if any(one.error is not None for one in versions):
        return Availability.FAILING
    if any(one.reports for one in versions):
        return Availability.HANGING
    if model.missing and not versions:
        return Availability.MISSING
    return Availability.WAITING


def stays(model: Model, version: int) -> bool:
    """True if the version serves and is not about to be replaced by a wanted one that serves too."""
    serving = [number for number, one in model.versions.items() if one.condition.state is State.AVAILABLE]
    return version in serving and (model.wants(version) or not any(map(model.wants, serving)))
