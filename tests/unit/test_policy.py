"""The two policies, as tables: a model's versions on the left, the next action on the right."""

from __future__ import annotations

import itertools

import pytest

from servable.lifecycle.policy import (
    Action,
    Load,
    Snapshot,
    Unload,
    availability_preserving,
    resource_preserving,
)
from servable.lifecycle.state import State

STATES = {
    "new": State.START,
    "loading": State.LOADING,
    "ready": State.AVAILABLE,
    "leaving": State.UNLOADING,
    "end": State.END,
}


def test_the_states_are_those_of_the_core() -> None:
    core = pytest.importorskip("servable._core")
    assert tuple(state.value for state in State) == core.STATES
    assert [state.name for state in State] == [state.value for state in State]


def versions(text: str) -> list[Snapshot]:
    """Parses ``"1 ready, 2+ new"``: version 1 ready and unwanted, version 2 new and wanted."""
    snapshots = []
    for part in filter(None, text.split(", ")):
        number, state = part.split()
        snapshots.append(Snapshot(int(number.rstrip("+")), STATES[state], number.endswith("+")))
    return snapshots


@pytest.mark.parametrize(
    ("snapshot", "action"),
    [
        ("", None),
        ("1+ new", Load(1)),
        ("1+ new, 3+ new, 2+ new", Load(3)),
        ("1+ loading", None),
        ("1+ loading, 2+ new", Load(2)),
        ("1+ ready", None),
        ("1+ end", None),
        # A replacement is loaded first; the old version goes once it is ready.
        ("1 ready, 2+ new", Load(2)),
        ("1 ready, 2+ loading", None),
        ("1 ready, 2+ ready", Unload(1)),
        # A failed replacement leaves the old version in place.
        ("1 ready, 2+ end", None),
        # Nothing is wanted any more.
        ("1 ready", Unload(1)),
        ("2 ready, 1 ready", Unload(1)),
        ("1 loading", None),
        # Of several unwanted ones, all but one may go at once.
        ("1 ready, 2 ready, 3+ new", Unload(1)),
        ("2 ready, 3+ new", Load(3)),
        # Unloads come before loads.
        ("1 ready, 2+ ready, 3+ new", Unload(1)),
        ("1 leaving, 2+ ready", None),
        ("1 leaving, 2+ new", Load(2)),
        # A version wanted again while being unloaded is a replacement still to come.
        ("1 ready, 2+ leaving", None),
        ("1 ready, 2+ leaving, 3+ new", Load(3)),
    ],
)
def test_availability_preserving(snapshot: str, action: Action | None) -> None:
    assert availability_preserving(versions(snapshot)) == action


@pytest.mark.parametrize(
    ("snapshot", "action"),
    [
        ("", None),
        ("1+ new", Load(1)),
        ("1+ new, 2+ new", Load(2)),
        # The old one goes first, completely.
        ("1 ready, 2+ new", Unload(1)),
        ("1 leaving, 2+ new", None),
        ("1 loading, 2+ new", None),
        ("1 end, 2+ new", Load(2)),
        ("1 ready, 2 ready", Unload(1)),
        ("1+ ready, 2+ new", Load(2)),
        ("1+ end, 2+ ready", None),
        ("1+ leaving, 2+ new", Load(2)),
    ],
)
def test_resource_preserving(snapshot: str, action: Action | None) -> None:
    assert resource_preserving(versions(snapshot)) == action


@pytest.mark.parametrize("policy", [availability_preserving, resource_preserving])
def test_from_any_snapshot_the_actions_come_to_an_end_with_what_is_wanted(policy: object) -> None:
    """For every pair of versions in every state, the actions end, with the best possible versions serving."""
    for states in itertools.product(STATES.values(), repeat=2):
        for aspired in itertools.product((True, False), repeat=2):
            snapshots = [
                Snapshot(n + 1, state, wanted)
                for n, (state, wanted) in enumerate(zip(states, aspired, strict=True))
            ]
            for _ in range(10):
                snapshots = [_settled(one) for one in snapshots]
                action = policy(snapshots)  # type: ignore[operator]
                if action is None:
                    break
                after = State.AVAILABLE if isinstance(action, Load) else State.END
                snapshots = [
                    one._replace(state=after) if one.version == action.version else one for one in snapshots
                ]
            else:
                pytest.fail(f"no rest from {states} {aspired}")
            assert all(one.state in (State.AVAILABLE, State.END) for one in snapshots if one.aspired)
            served = [one for one in snapshots if one.state is State.AVAILABLE]
            if any(one.aspired for one in served):
                assert all(one.aspired for one in served)


def _settled(one: Snapshot) -> Snapshot:
    """Returns the version after its load or unload in progress has succeeded."""
    ends = {State.LOADING: State.AVAILABLE, State.UNLOADING: State.END}
    return one._replace(state=ends.get(one.state, one.state))
