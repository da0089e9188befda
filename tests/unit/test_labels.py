"""The positions of labels while versions come and go."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from servable.lifecycle.labels import in_force

LABELS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 4))


@pytest.mark.parametrize(
    ("wanted", "before", "available", "expected"),
    [
        ({"s": 1}, {}, {1}, {"s": 1}),
        ({"s": 2}, {"s": 1}, {1, 2}, {"s": 2}),
        ({"s": 2}, {"s": 1}, {1}, {"s": 1}),
        ({"s": 2}, {"s": 1}, set(), {"s": 2}),
        ({"s": 2}, {}, set(), {"s": 2}),
        ({"s": 1}, {"s": 1}, set(), {"s": 1}),
        ({}, {"s": 1}, {1}, {}),
        ({"s": 2, "t": 1}, {"s": 1, "t": 2}, {1}, {"s": 1, "t": 1}),
    ],
)
def test_a_label_moves_when_its_version_serves(
    wanted: dict[str, int], before: dict[str, int], available: set[int], expected: dict[str, int]
) -> None:
    assert in_force(wanted, before, available.__contains__) == expected


@given(LABELS, LABELS, st.sets(st.integers(1, 4)))
def test_no_label_leaves_what_serves_for_what_does_not(
    wanted: dict[str, int], before: dict[str, int], available: set[int]
) -> None:
    now = in_force(wanted, before, available.__contains__)
    assert now.keys() == wanted.keys()
    for label, version in now.items():
        assert version in (wanted[label], before.get(label))
        if before.get(label) in available:
            assert version in available
        if wanted[label] in available:
            assert version == wanted[label]
    assert in_force(wanted, now, available.__contains__) == now
