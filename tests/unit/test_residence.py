"""What is said of budgets and pins that cannot be meant."""

from __future__ import annotations

import pytest

from servable.config.residence import MOST_NAMED, too_large, unknown_pins

NAMES = [f"m{number:02}" for number in range(MOST_NAMED + 1)]


@pytest.mark.parametrize(
    ("pinned", "models", "more_may_come", "said"),
    [
        ((), ["a"], True, ""),
        (("a",), ["a", "b"], True, ""),
        (("c", "a"), ["a"], False, "names c, which this server does not have; its models: a"),
        (("c", "b"), [], True, "names b, c, which this server does not have: they count once there are"),
        (("x",), NAMES, False, f"its models: {', '.join(NAMES[:-1])}, …"),
    ],
)
def test_pins_that_no_model_has_are_told(
    pinned: tuple[str, ...], models: list[str], more_may_come: bool, said: str
) -> None:
    told = unknown_pins(pinned, models, more_may_come)
    assert said in told if said else told == ""


def test_a_budget_above_the_machine_is_told() -> None:
    assert too_large(1 << 30, 1 << 30) == ""
    assert "--memory_budget is 2.1 GB, and this process may have 1.1 GB in all" in too_large(2 << 30, 1 << 30)
