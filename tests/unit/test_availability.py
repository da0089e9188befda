"""The availability of a model by its versions' conditions, and the versions that labels may be put on."""

from __future__ import annotations

import pytest

from servable.errors import StatusError
from servable.lifecycle.availability import Availability, availability_of, stays
from servable.lifecycle.condition import Condition
from servable.lifecycle.state import State
from servable.sources import AspiredVersion

ERROR = StatusError("NOT_FOUND", "nothing there")


def place(number: int) -> AspiredVersion:
    return AspiredVersion(number, f"/m/{number}")


NEW = Condition(place(1))
LOADING = NEW.load_queued().load_begun(0.0)
HANGING = LOADING.reported()
SERVING = LOADING.load_returned().loaded()
RELOADING = SERVING.reload_queued().load_begun(0.0).reported()
FAILING = LOADING.load_returned().load_failed(ERROR, 60.0)
NEXT_TRY = FAILING.retry_queued().load_begun(60.0).reported()
FAILED = LOADING.load_returned().load_failed(ERROR, None)
TRIED_ANEW = FAILED.reload_queued()
LEAVING = SERVING.unload_begun()
GIVEN_UP = NEW.load_queued().given_up()
ASLEEP = NEW.put_off()
AWAKENING = ASLEEP.load_queued().load_begun(0.0)
RESTING = SERVING.rested()
BROKEN = AWAKENING.load_returned().load_failed(ERROR, None)


@pytest.mark.parametrize(
    ("conditions", "availability"),
    [
        ([], Availability.WAITING),
        ([NEW], Availability.WAITING),
        ([LOADING, LOADING], Availability.WAITING),
        ([LEAVING], Availability.WAITING),
        ([GIVEN_UP], Availability.WAITING),
        ([LOADING, HANGING], Availability.HANGING),
        ([FAILING], Availability.FAILING),
        ([TRIED_ANEW], Availability.FAILING),
        # An earlier failure matters more than a hanging next load.
        ([NEXT_TRY], Availability.FAILING),
        ([HANGING, FAILING], Availability.FAILING),
        ([FAILING, FAILED, LOADING], Availability.FAILED),
        ([FAILED, HANGING, SERVING], Availability.AVAILABLE),
        ([RELOADING], Availability.AVAILABLE),
        ([ASLEEP], Availability.ON_DEMAND),
        ([RESTING], Availability.ON_DEMAND),
        ([AWAKENING], Availability.WAITING),
        ([ASLEEP, SERVING], Availability.AVAILABLE),
        ([ASLEEP, BROKEN], Availability.FAILED),
    ],
)
@pytest.mark.parametrize("missing", [False, True])
def test_availability(conditions: list[Condition], availability: Availability, missing: bool) -> None:
    # A source with nothing to load matters only if no version is known.
    expected = Availability.MISSING if missing and not conditions else availability
    assert availability_of(conditions, missing) is expected


@pytest.mark.parametrize(
    ("wanted", "states", "staying"),
    [
        ((1, 2), {1: State.AVAILABLE, 2: State.AVAILABLE}, {1, 2}),
        ((2,), {1: State.AVAILABLE, 2: State.AVAILABLE}, {2}),
        # No replacement serves yet, and perhaps none ever will.
        ((2,), {1: State.AVAILABLE, 2: State.LOADING}, {1}),
        ((2,), {1: State.AVAILABLE, 2: State.END}, {1}),
        ((2,), {1: State.UNLOADING, 2: State.AVAILABLE}, {2}),
        ((), {1: State.AVAILABLE}, {1}),
    ],
)
def test_which_versions_a_label_may_be_put_on(
    wanted: tuple[int, ...], states: dict[int, State], staying: set[int]
) -> None:
    conditions = {number: Condition(place(number), state) for number, state in states.items()}
    assert {number for number in states if stays(number, conditions, wanted.__contains__)} == staying


def test_what_is_loaded_on_demand_may_have_labels() -> None:
    for condition, answers in [(ASLEEP, True), (AWAKENING, True), (BROKEN, False), (RESTING, False)]:
        assert stays(1, {1: condition}, lambda _: True) is answers
