"""The next version to load or unload: pure functions of the versions' states and announcements.

No clock, no threads, no input or output: the manager takes a snapshot of one model, asks for the next action,
carries it out and asks again, until there is none. The two policies are TensorFlow Serving's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from servable.lifecycle.state import State


class Snapshot(NamedTuple):
    """One version of the model in question. START: known, and nothing begun yet."""

    version: int
    state: State
    aspired: bool


class Load(NamedTuple):
    """Load this version; it was in START."""

    version: int


class Unload(NamedTuple):
    """Unload this version; it was AVAILABLE."""

    version: int


Action = Load | Unload
Policy = Callable[[Sequence[Snapshot]], Action | None]


def availability_preserving(snapshots: Sequence[Snapshot]) -> Action | None:
    """Loads a replacement before the old version goes; if the load fails, the old version stays.

    Unloads the lowest unwanted AVAILABLE version if nothing is wanted, a wanted one is AVAILABLE, or several
    unwanted ones are AVAILABLE. Otherwise loads the highest wanted version that is new.
    """
    unwanted = [one.version for one in snapshots if not one.aspired and one.state is State.AVAILABLE]
    wanted = [one for one in snapshots if one.aspired]
    replaced = not wanted or any(one.state is State.AVAILABLE for one in wanted)
    if unwanted and (replaced or len(unwanted) > 1):
        return Unload(min(unwanted))
    return _highest_new(wanted)


def resource_preserving(snapshots: Sequence[Snapshot]) -> Action | None:
    """Unloads an old version completely before its replacement is loaded: never the memory of both.

    Unloads the lowest unwanted AVAILABLE version. Loads the highest wanted version that is new only if no
    unwanted one is left that holds, or will hold, memory.
    """
    unwanted = [one for one in snapshots if not one.aspired and one.state is not State.END]
    ready = [one.version for one in unwanted if one.state is State.AVAILABLE]
    if ready:
        return Unload(min(ready))
    if any(one.state is not State.START for one in unwanted):
        return None
    return _highest_new([one for one in snapshots if one.aspired])


def _highest_new(wanted: Sequence[Snapshot]) -> Action | None:
    new = [one.version for one in wanted if one.state is State.START]
    return Load(max(new)) if new else None


POLICIES: dict[str, Policy] = {
    "availability_preserving": availability_preserving,
    "resource_preserving": resource_preserving,
}
"""The policies by the value of ``--aspired_version_policy``."""
