"""Which versions leave memory: properties of the decision, and simulated traffic with and without it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from types import ModuleType

import pytest
from conftest import ROOT
from hypothesis import given, strategies as st

from servable.lifecycle.residency import HALF_LIFE, KNOWN, Frequencies, Residency, Resident

BUDGET = 1000
SIZES = st.dictionaries(st.integers(0, 30), st.integers(1, 400), max_size=12)


@pytest.fixture
def simulation() -> Iterator[ModuleType]:
    """The module ``benches/residency.py``."""
    sys.path.insert(0, str(ROOT / "benches"))
    try:
        import residency

        yield residency
    finally:
        sys.path.remove(str(ROOT / "benches"))


Residents = dict[object, Resident]


def leave(
    residency: Residency[object], residents: Residents, needed: int, pinned: Collection[object] = ()
) -> list[object]:
    """Returns those that leave, one after the other."""
    left: list[object] = []
    while (one := residency.leaves(residents, needed, 0.0, lambda key: key not in pinned)) is not None:
        residents = {key: resident for key, resident in residents.items() if key != one}
        residency.left(one)
        left.append(one)
    return left


@given(SIZES, st.integers(0, 500), st.sets(st.integers(0, 30)), st.booleans(), st.data())
def test_as_many_leave_as_have_to_and_none_that_may_not(
    sizes: dict[int, int], needed: int, pinned: set[int], doorkeeper: bool, data: st.DataObject
) -> None:
    residency: Residency[object] = Residency(BUDGET, doorkeeper=doorkeeper)
    for key in sizes:
        residency.used(key, data.draw(st.integers(0, 5)), 0.0)
    residents: Residents = {key: Resident(size, data.draw(st.floats(0, 100))) for key, size in sizes.items()}
    left = leave(residency, residents, needed, pinned)
    assert len(set(left)) == len(left)
    assert not set(left) & pinned
    stay = sum(size for key, size in sizes.items() if key not in left)
    assert stay + needed <= BUDGET or all(key in pinned or key in left for key in sizes)
    if left:
        # The last one had to leave as well.
        last = left[-1]
        assert isinstance(last, int)
        assert stay + sizes[last] + needed > BUDGET


def test_nothing_leaves_while_there_is_room() -> None:
    residents: Residents = {"a": Resident(600, 5.0), "b": Resident(300, 9.0)}
    assert leave(Residency(BUDGET), residents, 100) == []
    assert leave(Residency(BUDGET, doorkeeper=False), residents, 101) == ["b"]


def test_what_is_looked_at_once_does_not_push_out_what_is_used() -> None:
    residency: Residency[object] = Residency(BUDGET)
    residents: Residents = {f"used {number}": Resident(90, 10.0) for number in range(10)}
    for key in residents:
        residency.used(key, 50, 0.0)
    for number in range(20):
        now = f"once {number}"
        residency.used(now, 1, 0.0)
        for one in leave(residency, residents, 90):
            del residents[one]
        residents[now] = Resident(90, 0.0)
    assert sum(str(key).startswith("used") for key in residents) >= 9
    assert "once 19" in residents


def test_what_is_asked_for_more_often_gets_in() -> None:
    residency: Residency[object] = Residency(BUDGET)
    residents: Residents = {f"old {number}": Resident(100, 50.0) for number in range(10)}
    for key in residents:
        residency.used(key, 2, 0.0)
    residency.used("new", 9, 0.0)
    for one in leave(residency, residents, 100):
        del residents[one]
    residents["new"] = Resident(100, 0.0)
    residency.used("other", 1, 0.0)
    assert "new" not in leave(residency, residents, 100)


def test_frequencies_are_forgotten_by_and_by() -> None:
    frequencies: Frequencies[object] = Frequencies()
    frequencies.add("m", 8, 0.0)
    assert frequencies.of("m", 0.0) == 8
    assert frequencies.of("m", HALF_LIFE) == pytest.approx(4)
    frequencies.add("m", 1, HALF_LIFE)
    assert frequencies.of("m", HALF_LIFE) == pytest.approx(5)
    assert frequencies.of("other", 5.0) == 0
    for number in range(KNOWN + 1):
        frequencies.add(number, 1, 20 * HALF_LIFE)
    assert frequencies.of("m", 20 * HALF_LIFE) == 0, "forgotten wholly"
    assert frequencies.of(KNOWN, 20 * HALF_LIFE) == 1


@pytest.mark.parametrize(
    ("trace", "gain"),
    [("Zipf", 0.0), ("Zipf, a fifth in sequence", 0.02), ("round and round", 0.2)],
)
def test_the_doorkeeper_has_more_hits_than_plain_lru(simulation: ModuleType, trace: str, gain: float) -> None:
    models, requests, room = 300, 6000, 0.1
    rate = {
        doorkeeper: simulation.hit_rate(
            Residency(simulation.budget(models, room), doorkeeper=doorkeeper),
            models,
            simulation.TRACES[trace](models, 0.9),
            requests,
        )
        for doorkeeper in (True, False)
    }
    assert rate[True] > rate[False] + gain, rate
