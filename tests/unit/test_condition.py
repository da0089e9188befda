"""Every event in every reachable condition of a version: the result, or that it cannot happen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from servable.errors import StatusError
from servable.lifecycle.condition import Condition, Stage, TransitionError
from servable.lifecycle.state import State
from servable.sources import AspiredVersion

PLACE = AspiredVersion(1, "/models/m/1")
REPAIRED = AspiredVersion(1, "/models/m/1", "whole")
ERROR = StatusError("DATA_LOSS", "half copied")

EVENTS: dict[str, Callable[[Condition], Condition]] = {
    "load_queued": Condition.load_queued,
    "load_begun": lambda condition: condition.load_begun(100.0),
    "settings_read": Condition.settings_read,
    "reported": Condition.reported,
    "load_returned": Condition.load_returned,
    "loaded": Condition.loaded,
    "failed_for_now": lambda condition: condition.load_failed(ERROR, 160.0),
    "failed_for_good": lambda condition: condition.load_failed(ERROR, None),
    "failure_told": Condition.failure_told,
    "retry_queued": Condition.retry_queued,
    "given_up": Condition.given_up,
    "withdrawn": Condition.withdrawn,
    "repaired": lambda condition: condition.repaired(REPAIRED),
    "moved": lambda condition: condition.moved(REPAIRED),
    "reload_queued": Condition.reload_queued,
    "retries_renewed": Condition.retries_renewed,
    "reload_ended": Condition.reload_ended,
    "unload_begun": Condition.unload_begun,
    "shut_down": Condition.shut_down,
    "unloaded": Condition.unloaded,
}

TABLE = """
START                                load_queued: LOADING queued; withdrawn: END; moved: =

# The first load, and one that goes on when its version serves.
LOADING queued                       load_begun: LOADING settings; given_up: END
LOADING settings                     settings_read: LOADING core; reported: =; load_returned: LOADING returned
LOADING core                         reported: =; load_returned: LOADING returned
LOADING returned                     loaded: AVAILABLE; failed_for_now: LOADING telling error retry
                                     failed_for_good: END telling error; given_up: END

# Between two tries.
LOADING telling error retry          failure_told: LOADING error retry; retry_queued: LOADING queued error
                                     withdrawn: END telling error; repaired: LOADING queued error
                                     reload_queued: LOADING queued error reloading
LOADING error retry                  retry_queued: LOADING queued error; withdrawn: END error
                                     repaired: LOADING queued error
                                     reload_queued: LOADING queued error reloading

# The next try.
LOADING queued error                 load_begun: LOADING settings error; given_up: END; retries_renewed: =
LOADING settings error               settings_read: LOADING core error; reported: =; retries_renewed: =
                                     load_returned: LOADING returned error
LOADING core error                   reported: =; load_returned: LOADING returned error; retries_renewed: =
LOADING returned error               loaded: AVAILABLE; failed_for_now: LOADING telling error retry
                                     failed_for_good: END telling error; given_up: END; retries_renewed: =

# Failed; the last row is for the moment in which that is told of a load that somebody asked for.
END telling error                    failure_told: END error; repaired: START
                                     reload_queued: LOADING queued error reloading
END error                            repaired: START; reload_queued: LOADING queued error reloading
END telling error reloading          failure_told: END error; repaired: START

# A failed version is loaded because somebody asked for it.
LOADING queued error reloading       load_begun: LOADING settings error reloading; given_up: END
LOADING settings error reloading     settings_read: LOADING core error reloading; reported: =
                                     load_returned: LOADING returned error reloading
LOADING core error reloading         reported: =; load_returned: LOADING returned error reloading
LOADING returned error reloading     loaded: AVAILABLE; given_up: END
                                     failed_for_now: LOADING telling error retry reloading
                                     failed_for_good: END telling error reloading
LOADING telling error retry reloading  failure_told: LOADING error retry
                                     retry_queued: LOADING queued error reloading
                                     repaired: LOADING queued error reloading
                                     withdrawn: END telling error reloading

# It serves, and is loaded again meanwhile.
AVAILABLE                            moved: =; reload_queued: AVAILABLE queued reloading
                                     unload_begun: UNLOADING; shut_down: UNLOADING
AVAILABLE queued reloading           moved: =; load_begun: AVAILABLE settings reloading
                                     reload_ended: AVAILABLE; unload_begun: UNLOADING queued reloading
                                     shut_down: UNLOADING queued
AVAILABLE settings reloading         moved: =; settings_read: AVAILABLE core reloading; reported: =
                                     load_returned: AVAILABLE returned reloading
                                     unload_begun: UNLOADING settings reloading
                                     shut_down: UNLOADING settings
AVAILABLE core reloading             moved: =; reported: =; load_returned: AVAILABLE returned reloading
                                     unload_begun: UNLOADING core reloading; shut_down: UNLOADING core
AVAILABLE returned reloading         moved: =; reload_ended: AVAILABLE
                                     unload_begun: UNLOADING returned reloading
                                     shut_down: UNLOADING returned

# An unload, which waits for a reload.
UNLOADING                            unloaded: END
UNLOADING queued reloading           reload_ended: UNLOADING; shut_down: UNLOADING queued
UNLOADING settings reloading         settings_read: UNLOADING core reloading; reported: =
                                     load_returned: UNLOADING returned reloading
                                     shut_down: UNLOADING settings
UNLOADING core reloading             reported: =; load_returned: UNLOADING returned reloading
                                     shut_down: UNLOADING core
UNLOADING returned reloading         reload_ended: UNLOADING; shut_down: UNLOADING returned
END

# The end of the server does not wait for a reload.
UNLOADING queued                     reload_ended: UNLOADING; unloaded: END queued
UNLOADING settings                   settings_read: UNLOADING core; reported: =; unloaded: END settings
                                     load_returned: UNLOADING returned
UNLOADING core                       reported: =; load_returned: UNLOADING returned; unloaded: END core
UNLOADING returned                   reload_ended: UNLOADING; unloaded: END returned
END queued                           reload_ended: END
END settings                         settings_read: END core; reported: =; load_returned: END returned
END core                             reported: =; load_returned: END returned
END returned                         reload_ended: END
"""
"""Condition, then event: result (``=``: the same). Events not listed cannot happen."""


def described(condition: Condition) -> str:
    """Describes a condition as in the table: state, stage of its load, and anything else set."""
    words = [condition.state.name, "" if condition.stage is Stage.NONE else condition.stage.value]
    words += ["error" * (condition.error is not None), "retry" * (condition.retry_at is not None)]
    return " ".join(filter(None, [*words, "reloading" * condition.reloading]))


def read_table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    condition = ""
    for line in TABLE.splitlines():
        if not line or line.startswith("#"):
            continue
        if not line.startswith(" "):
            condition, _, line = line.partition("  ")
            table[condition] = {}
        for entry in filter(None, line.strip().split("; ")):
            event, result = entry.split(": ")
            table[condition][event] = condition if result == "=" else result
    return table


def reached() -> dict[str, Condition]:
    """Returns every condition reachable by events from an announcement, one per description."""
    found: dict[str, Condition] = {}
    ahead = [Condition(PLACE)]
    while ahead:
        condition = ahead.pop(0)
        if described(condition) not in found:
            found[described(condition)] = condition
            ahead += filter(None, (after(condition, event) for event in EVENTS))
    return found


def after(condition: Condition, event: str) -> Condition | None:
    """Returns the next condition, or None if the event cannot happen."""
    try:
        return EVENTS[event](condition)
    except TransitionError:
        return None


def test_the_table_is_of_every_condition_that_can_be() -> None:
    assert reached().keys() == read_table().keys()


@pytest.mark.parametrize("condition", read_table())
def test_what_comes_of_every_event(condition: str) -> None:
    before = reached()[condition]
    # Told late, it changes nothing if there is nothing left to tell.
    expected = {"failure_told": condition, **read_table()[condition]}
    results = {event: after(before, event) for event in EVENTS}
    assert {event: described(one) for event, one in results.items() if one is not None} == expected


def test_an_event_that_cannot_happen_says_what_and_to_whom() -> None:
    with pytest.raises(TransitionError, match=r"loaded cannot happen to Condition\(place=.*'/models/m/1'"):
        Condition(PLACE).loaded()


def follow(condition: Condition, *events: str) -> Condition:
    for event in events:
        condition = EVENTS[event](condition)
    return condition


FIRST_LOAD = ("load_queued", "load_begun", "settings_read", "load_returned")
NEXT_TRY = ("retry_queued", "load_begun", "load_returned")


def test_tries_are_counted_until_somebody_begins_anew() -> None:
    twice = follow(Condition(PLACE), *FIRST_LOAD, "failed_for_now", *NEXT_TRY)
    assert twice.tries == 2
    assert twice.retries_renewed().tries == 0
    waiting = follow(twice, "failed_for_now")
    assert [waiting.repaired(REPAIRED).tries, waiting.reload_queued().tries] == [0, 0]
    serving = follow(twice, "loaded", "reload_queued", "load_begun")
    assert serving.tries == 2


def test_a_version_is_where_it_was_announced_last_if_that_was_taken_over() -> None:
    failed = follow(Condition(PLACE), *FIRST_LOAD, "failed_for_good")
    assert failed.repaired(REPAIRED) == Condition(REPAIRED)
    waiting = follow(Condition(PLACE), *FIRST_LOAD, "failed_for_now")
    assert waiting.repaired(REPAIRED).place == REPAIRED
    assert follow(Condition(PLACE), *FIRST_LOAD, "loaded", "moved").place == REPAIRED


@pytest.mark.parametrize(
    ("events", "aspired"),
    [
        ((), True),
        ((*FIRST_LOAD, "loaded"), True),
        # The next try may follow.
        ((*FIRST_LOAD, "failed_for_good"), True),
        # Being unloaded; it counts, and becomes new once it is gone.
        ((*FIRST_LOAD, "loaded", "unload_begun"), True),
        ((*FIRST_LOAD, "loaded", "unload_begun", "unloaded"), False),
        (("load_queued", "given_up"), False),
    ],
)
def test_what_is_wanted_is_aspired_unless_it_was_unloaded(events: tuple[str, ...], aspired: bool) -> None:
    condition = follow(Condition(PLACE), *events)
    assert condition.announced(True).aspired is aspired
    assert condition.announced(False).aspired is False
    assert condition.announced(False).may_be_forgotten is (condition.state is State.END)


def test_the_end_of_the_server_aspires_to_nothing() -> None:
    assert not follow(Condition(PLACE), *FIRST_LOAD, "loaded", "shut_down").aspired


def test_a_version_that_is_withdrawn_ends_with_its_last_error_if_it_had_one() -> None:
    assert Condition(PLACE).withdrawal.code == "CANCELLED"
    assert follow(Condition(PLACE), *FIRST_LOAD, "failed_for_now").withdrawal is ERROR


def test_long_loads_are_reported_ever_more_rarely_and_each_load_from_the_start() -> None:
    condition = follow(Condition(PLACE), "load_queued", "load_begun")
    times = []
    for _ in range(4):
        times.append(condition.report_at(30.0))
        condition = condition.reported()
    assert times == [130.0, 160.0, 220.0, 340.0]
    failed = follow(condition, "load_returned", "failed_for_now")
    assert failed.report_at(30.0) is None
    assert follow(failed, "retry_queued", "load_begun").report_at(30.0) == 130.0


# ---- in any sequence

QUEUING = {"load_queued", "retry_queued", "reload_queued", "repaired"}
ENDING = {"loaded", "failed_for_now", "failed_for_good", "given_up", "reload_ended"}
FINAL = {"END queued", "END settings", "END core", "END returned", "END"}
ROUTES = {
    (State.START, State.LOADING),
    (State.START, State.END),
    (State.LOADING, State.AVAILABLE),
    (State.LOADING, State.END),
    (State.AVAILABLE, State.UNLOADING),
    (State.UNLOADING, State.END),
}


def check_invariants(one: Condition) -> None:
    if one.retry_at is not None:
        assert one.state is State.LOADING and one.error is not None
        assert one.stage in (Stage.NONE, Stage.TELLING)
    if one.error is not None:
        assert one.state in (State.LOADING, State.END)
    assert (one.loading_since is not None) == (one.stage in (Stage.SETTINGS, Stage.CORE))
    if one.state is State.START:
        assert one == Condition(one.place, aspired=one.aspired)
    if one.state is State.LOADING:
        # Something continues with it.
        assert one.stage is not Stage.NONE or one.retry_at is not None
    if one.state is State.AVAILABLE:
        assert one.reloading == (one.stage is not Stage.NONE)


@given(st.lists(st.integers(min_value=0), max_size=40))
def test_no_sequence_of_events_leads_anywhere_else(choices: list[int]) -> None:
    condition, loads = Condition(PLACE), 0
    for choice in choices:
        before = condition
        possible = {event: one for event in EVENTS if (one := after(before, event)) is not None}
        event = sorted(possible)[choice % len(possible)]
        condition = possible[event].announced(choice % 3 > 0)
        check_invariants(condition)
        if before.state is not condition.state:
            revived = before.has_failed and event in ("repaired", "reload_queued")
            assert revived or (before.state, condition.state) in ROUTES
        if described(before) in FINAL:
            assert described(condition) in FINAL
        # Never two at once, including those that wait for a thread.
        loads += event in QUEUING and condition.stage is Stage.QUEUED
        loads -= event in ENDING
        assert loads == (condition.stage in (Stage.QUEUED, Stage.SETTINGS, Stage.CORE, Stage.RETURNED))
        assert loads in (0, 1)


def test_a_version_that_is_put_off_is_one_whose_load_is_asked_for() -> None:
    asleep = Condition(PLACE).put_off()
    assert asleep.sleeps
    assert asleep.answers
    serving = asleep.load_queued().load_begun(0.0).load_returned().loaded()
    assert serving.may_rest
    assert not serving.sleeps
    for busy in (serving.reload_queued(), serving.unload_begun(), asleep, asleep.load_queued()):
        assert not busy.may_rest
        with pytest.raises(TransitionError, match="rested"):
            busy.rested()
    resting = serving.rested()
    assert resting.sleeps
    assert resting.unloaded().was_unloaded
    with pytest.raises(TransitionError, match="put_off"):
        serving.put_off()
