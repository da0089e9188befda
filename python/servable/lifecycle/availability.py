"""How a model stands, and which of its versions stay: pure functions of its versions' conditions."""

from __future__ import annotations

from enum import Enum

from servable.lifecycle.models import Model
from servable.lifecycle.policy import State


class Availability(Enum):
    """How a configured model stands, for whoever waits for it."""

    WAITING = "waiting"  # nothing has been announced, or nothing has come of it yet
    MISSING = "missing"  # its source has nothing to load
    FAILING = "failing"  # a load failed, and will be tried again
    HANGING = "hanging"  # a load has been under way for so long that nobody should wait for it
    FAILED = "failed"  # a version is at END
    AVAILABLE = "available"


def availability_of(model: Model) -> Availability:
    """One that serves goes before one that failed, and that before one that may still come."""
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
    """Serves, and is not about to go because one that is wanted in its place serves, too."""
    serving = [number for number, one in model.versions.items() if one.condition.state is State.AVAILABLE]
    return version in serving and (model.wants(version) or not any(map(model.wants, serving)))
