"""When a start is over: every model has settled, and there is something to serve or to wait for."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from servable.lifecycle.availability import Availability
from servable.serving.settling import have_settled

FOR_GOOD = {Availability.AVAILABLE, Availability.ON_DEMAND, Availability.FAILED, Availability.MISSING}
FOR_NOW = FOR_GOOD | {Availability.FAILING, Availability.HANGING}


@given(st.lists(st.sampled_from(list(Availability))), st.booleans())
def test_all_models_count(models: list[Availability], wait_for_retries: bool) -> None:
    settled = set(models) <= (FOR_GOOD if wait_for_retries else FOR_NOW)
    only_missing = set(models) == {Availability.MISSING}
    availability = {f"m{number}": one for number, one in enumerate(models)}
    assert have_settled(availability, wait_for_retries) == (
        settled and not (only_missing and wait_for_retries)
    )


@pytest.mark.parametrize("wait_for_retries", [False, True])
def test_models_without_versions_hold_up_a_server_that_has_no_others(wait_for_retries: bool) -> None:
    nothing = {"a": Availability.MISSING, "b": Availability.MISSING}
    assert have_settled(nothing, wait_for_retries) != wait_for_retries
    assert have_settled({**nothing, "c": Availability.AVAILABLE}, wait_for_retries)
