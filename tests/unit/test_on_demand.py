"""The manager with a fake core, where models are loaded once they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fake_core import FakeError
from test_manager import Gate, Setup, fail_on

from servable.config.base_paths import Way
from servable.config.traffic import Traffic, TrafficShare
from servable.config.values import Latest, LifecycleOptions, ModelConfig
from servable.errors import StatusError
from servable.lifecycle.availability import Availability
from servable.lifecycle.interfaces import NoRoomError
from servable.lifecycle.on_demand import FIRST_PAUSE, LONGEST_PAUSE, NO_ROOM_PAUSE, OnDemand, pause_after
from servable.sources import AspiredVersion

LAZY = LifecycleOptions(retries=5, retry_seconds=3600.0, lazy_load=True)
Make = Callable[..., Setup]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Setup] = []

    def build(*names: str, options: LifecycleOptions = LAZY) -> Setup:
        setup = Setup(options)
        setup.manager.start()
        setup.configure(*names)
        made.append(setup)
        return setup

    yield build
    for setup in made:
        setup.manager.stop()
        assert setup.core.ended


def loads(setup: Setup) -> list[tuple[Any, ...]]:
    return [call[1:] for call in setup.core.calls if call[0] == "load"]


def test_a_model_is_known_and_loaded_once_it_is_asked_for(make: Make) -> None:
    setup = make("m", "n")
    setup.aspire("m", 1)
    setup.aspire("n", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND, n=Availability.ON_DEMAND)
    assert loads(setup) == []
    assert setup.core.on_demand == {("m", 1), ("n", 1)}
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE, n=Availability.ON_DEMAND)
    assert loads(setup) == [("m", 1)]
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, times=2)
    assert loads(setup) == [("m", 1)]


def test_a_pinned_model_is_loaded_from_the_beginning_and_does_not_rest(make: Make) -> None:
    setup = make("m", "n", options=replace(LAZY, pinned_models=("m",)))
    setup.aspire("m", 1)
    setup.aspire("n", 1)
    setup.wait_available_as(m=Availability.AVAILABLE, n=Availability.ON_DEMAND)
    assert not setup.manager.rest("m", 1)
    assert [setup.manager.stays_loaded(name) for name in ("m", "n", "none")] == [True, False, False]


def test_a_model_whose_traffic_is_spread_is_loaded_from_the_beginning_and_does_not_rest(make: Make) -> None:
    setup = make()
    canary = Traffic(shares=(TrafficShare("2", 5.0),))
    setup.manager.apply(
        [ModelConfig("m", "/models/m", policy=Latest(2), traffic=canary), ModelConfig("n", "/models/n")]
    )
    setup.aspire("m", 1, 2)
    setup.aspire("n", 1)
    setup.wait_available_as(m=Availability.AVAILABLE, n=Availability.ON_DEMAND)
    assert not setup.manager.rest("m", 1)


def test_versions_that_were_put_off_are_loaded_once_traffic_is_spread_over_them(make: Make) -> None:
    setup = make()
    plain = ModelConfig("m", "/models/m", policy=Latest(3))
    setup.manager.apply([plain])
    setup.aspire("m", 1, 2, 3)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    assert loads(setup) == []
    setup.manager.apply([replace(plain, traffic=Traffic(shares=(TrafficShare("2", 5.0),)))])
    setup.core.wait_for(*(("m", version, "AVAILABLE") for version in (1, 2, 3)))
    assert not any(setup.manager.rest("m", version) for version in (1, 2, 3))


def test_a_model_is_pinned_by_its_configuration_as_well(make: Make) -> None:
    setup = make()
    m, n = ModelConfig("m", "/models/m", pinned=True), ModelConfig("n", "/models/n", policy=Latest(2))
    setup.manager.apply([m, n])
    setup.aspire("m", 1)
    setup.aspire("n", 1, 2)
    setup.wait_available_as(m=Availability.AVAILABLE, n=Availability.ON_DEMAND)
    assert not setup.manager.rest("m", 1)
    # Every version of one that is pinned later is loaded then, and may rest once it no longer is.
    setup.manager.apply([replace(m, pinned=False), replace(n, pinned=True)])
    setup.core.wait_told("n", 1)
    setup.core.wait_told("n", 2)
    assert setup.manager.rest("m", 1)
    assert not setup.manager.rest("n", 2)


def test_pinning_a_model_whose_load_has_just_failed_does_not_try_it_again(make: Make) -> None:
    setup = make()
    m = ModelConfig("m", "/models/m")
    setup.manager.apply([m])
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "UNAVAILABLE")
    setup.manager.apply([replace(m, pinned=True)])
    assert loads(setup) == [("m", 1)]


def no_room(*_: Any) -> None:
    raise NoRoomError("RESOURCE_EXHAUSTED", "no room")


def later(setup: Setup, seconds: float) -> None:
    """Has so much time pass for the manager."""
    models = setup.manager._models
    with models.changed:
        clock = models.clock
        models.clock = setup.manager._clock = lambda: clock() + seconds
        models.wake_all()
        models.touch("m")


@pytest.mark.parametrize(
    ("fails", "code", "pause"),
    [
        (no_room, "RESOURCE_EXHAUSTED", NO_ROOM_PAUSE),
        (fail_on(("m", 1)), "UNAVAILABLE", FIRST_PAUSE),
    ],
)
@pytest.mark.parametrize("change", [{"pinned": True}, {"traffic": Traffic(shares=(TrafficShare("1", 5.0),))}])
def test_a_model_that_comes_to_stay_is_tried_again_after_the_pause_though_nobody_asks(
    make: Make, change: dict[str, Any], fails: Callable[..., None], code: str, pause: float
) -> None:
    setup = make()
    m = ModelConfig("m", "/models/m", policy=Latest(2))
    setup.manager.apply([m])
    setup.core.on_load = fails
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, code)
    setup.manager.apply([replace(m, **change)])
    later(setup, pause)
    setup.core.wait_told("m", 1, code, times=2)
    setup.core.on_load = lambda *_: None
    later(setup, 2 * pause)
    setup.wait_available_as(m=Availability.AVAILABLE)
    assert len(loads(setup)) == 3


M = ModelConfig("m", "/models/m")


def pinned_while_broken(make: Make) -> Setup:
    """Returns a manager whose model ``M`` was pinned while it ran, and has failed."""
    setup = make()
    setup.manager.apply([M])
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.manager.apply([replace(M, pinned=True)])
    setup.core.wait_told("m", 1, "UNAVAILABLE")
    return setup


def test_a_version_that_was_mended_of_a_model_that_has_come_to_stay_is_loaded_though_nobody_asks(
    make: Make,
) -> None:
    setup = pinned_while_broken(make)
    setup.core.on_load = lambda *_: None
    setup.manager.aspire("m", (AspiredVersion(1, "/models/m/1", "another"),))
    setup.wait_available_as(m=Availability.AVAILABLE)
    assert ("m", 1) in setup.core.on_demand, "requests wait for its load as before"


def test_one_that_does_not_stay_any_more_is_not_tried_again(make: Make) -> None:
    setup = pinned_while_broken(make)
    setup.manager.apply([M, ModelConfig("n", "/models/n")])
    later(setup, LONGEST_PAUSE)
    setup.aspire("n", 1)
    setup.wait_available_as(m=Availability.FAILED, n=Availability.ON_DEMAND)
    assert loads(setup) == [("m", 1)]


def test_a_pinned_model_is_tried_until_there_is_room_for_it(make: Make) -> None:
    setup = make("m", options=replace(LAZY, pinned_models=("m",), retries=1, retry_seconds=0.0))
    tried: list[int] = []

    def on_load(*_: Any) -> None:
        tried.append(len(tried))
        if len(tried) < 5:
            no_room()

    setup.core.on_load = on_load
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)
    assert len(tried) == 5


def test_a_version_whose_files_move_before_it_is_loaded_is_loaded_from_there(make: Make) -> None:
    setup = make("m")
    paths: list[str] = []
    setup.core.on_load = lambda _name, _version, path, _options: paths.append(path)
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.manager.aspire("m", (AspiredVersion(1, "/elsewhere/1", "changed"),))
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1)
    assert paths == ["/elsewhere/1"]


def test_files_that_cannot_be_brought_fail_a_load_and_not_the_next_one(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)

    def away(*_: object) -> None:
        raise StatusError("UNAVAILABLE", "version 1 could not be fetched from s3://bucket/m: no route")

    setup.core.on_bring = away
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "UNAVAILABLE: Model m version 1 could not be loaded: version 1 could not be")
    assert (loads(setup), setup.core.pauses["m", 1]) == ([], FIRST_PAUSE)
    assert setup.core.errors["m", 1][0] == "UNAVAILABLE"
    brought: list[tuple[str, int, str]] = []
    setup.core.on_bring = lambda *which: brought.append(which)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "")
    setup.wait_available_as(m=Availability.AVAILABLE)
    assert loads(setup) == [("m", 1)] and len(brought) == 1


def test_each_version_is_loaded_by_itself(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1, 2, 3)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.core.ask("m", 2)
    setup.core.wait_told("m", 2)
    assert loads(setup) == [("m", 2)]
    assert setup.core.state["m", 1] == setup.core.state["m", 3] == "START"


def test_a_version_that_is_not_there_is_told_at_once(make: Make) -> None:
    setup = make("m")
    setup.core.ask("m", 7)
    setup.core.wait_told("m", 7, "NOT_FOUND: Servable not found for request: Specific(m, 7)")


def test_a_failure_is_told_with_a_pause_that_grows_and_is_tried_once_for_each_demand(make: Make) -> None:
    setup = make("m")
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "UNAVAILABLE: Model m version 1 could not be loaded: nothing in /models/m/1")
    assert setup.core.pauses["m", 1] == FIRST_PAUSE
    setup.wait_available_as(m=Availability.FAILED)
    assert len(loads(setup)) == 1, "the usual tries are not made"
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "UNAVAILABLE", times=2)
    assert (len(loads(setup)), setup.core.pauses["m", 1]) == (2, 2 * FIRST_PAUSE)
    setup.core.on_load = lambda *_: None
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "")
    setup.wait_available_as(m=Availability.AVAILABLE)


def test_where_there_was_no_room_the_pause_does_not_grow(make: Make) -> None:
    setup = make("m")
    setup.core.on_load = no_room
    setup.aspire("m", 1)
    for times in (1, 2, 3):
        setup.core.ask("m", 1)
        setup.core.wait_told("m", 1, "RESOURCE_EXHAUSTED", times)
        assert setup.core.pauses["m", 1] == NO_ROOM_PAUSE
    setup.core.on_load = fail_on(("m", 1))
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "UNAVAILABLE")
    assert setup.core.pauses["m", 1] == FIRST_PAUSE


def test_the_pause_is_bounded() -> None:
    assert [pause_after(one) for one in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert pause_after(10_000) == LONGEST_PAUSE


def test_a_version_that_makes_room_is_loaded_again_by_the_next_request(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1)
    setup.core.in_flight.add(("m", 1))
    assert not setup.manager.rest("m", 1)
    setup.core.in_flight.clear()
    assert setup.manager.rest("m", 1)
    setup.events.wait_for("unloaded", "m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, times=2)
    assert loads(setup) == [("m", 1)] * 2


@pytest.mark.parametrize("replacement", ["fails", "is being loaded"])
def test_a_version_does_not_make_room_before_its_replacement_is_there(make: Make, replacement: str) -> None:
    setup = make("m", options=replace(LAZY, retries=0))
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1)
    gate = Gate(setup.core, "m", 2)
    if replacement == "fails":
        setup.core.on_load = fail_on(("m", 2))
    setup.aspire("m", 2)
    if replacement == "fails":
        setup.events.wait_for("failed", "m", 2, "NOT_FOUND", None)
    else:
        assert gate.entered.wait(10)
    # It would be forgotten, and the model answer nothing any more.
    assert not setup.manager.rest("m", 1)
    assert setup.core.state["m", 1] == "AVAILABLE"
    gate.opened.set()


def test_one_that_is_asked_for_while_it_leaves_comes_back(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1)
    gate = Gate(setup.core, "m", 1)
    setup.core.on_load = lambda *_: None
    setup.core.on_unload = lambda *_: gate.entered.set() or gate.opened.wait(10)  # type: ignore[func-returns-value,assignment]
    assert setup.manager.rest("m", 1)
    assert gate.entered.wait(10)
    setup.core.ask("m", 1)
    gate.opened.set()
    setup.core.wait_told("m", 1, times=2)
    setup.wait_available_as(m=Availability.AVAILABLE)


def test_a_new_version_of_a_model_in_use_follows_at_once(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1)
    setup.aspire("m", 2)
    setup.core.wait_for(("m", 2, "AVAILABLE"), ("m", 1, "END"))


def test_a_new_version_of_a_model_that_is_not_loaded_is_not_loaded_either(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.aspire("m", 2)
    setup.core.wait_for(("m", 1, "END"), ("m", 2, "START"))
    setup.core.ask("m", 2)
    setup.core.wait_told("m", 2)
    assert loads(setup) == [("m", 2)]
    assert ("m", 1) not in setup.core.on_demand
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "UNAVAILABLE: Model m version 1 was replaced: try again")


@pytest.mark.parametrize("first", [1, 2])
def test_who_waits_for_a_version_that_is_replaced_meanwhile_is_told_what_serves(
    make: Make, first: int
) -> None:
    setup = make("m", options=replace(LAZY, load_threads=2))
    gates = {version: Gate(setup.core, "m", version) for version in (1, 2)}
    setup.core.on_load = lambda name, version, *rest: gates[version]._on_load(name, version, *rest)
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    assert gates[1].entered.wait(10)
    setup.aspire("m", 2)
    assert gates[2].entered.wait(10)
    # Requests for the latest version still come to this one, until either is there.
    setup.core.ask("m", 1)
    assert setup.manager.wait(lambda _: not setup.core.asked, 10)
    assert setup.core.told == []
    gates[first].opened.set()
    setup.core.wait_told("m", 1)
    assert setup.core.told[0] == (
        ("m", 1, "") if first == 1 else ("m", 1, "UNAVAILABLE: Model m version 1 was replaced: try again")
    )
    gates[3 - first].opened.set()
    setup.core.wait_for(("m", 2, "AVAILABLE"), ("m", 1, "END"))


def test_a_version_that_is_waited_for_is_loaded_though_another_replaced_it_before(make: Make) -> None:
    setup = make("other", "m", options=replace(LAZY, start_threads=1))
    gates = {name: Gate(setup.core, name, 1) for name in ("other", "m")}
    setup.core.on_load = lambda name, version, *rest: gates[name]._on_load(name, version, *rest)
    gates["m"].opened.set()
    for name in ("other", "m"):
        setup.aspire(name, 1)
        setup.core.wait_for((name, 1, "START"))
    setup.manager.prefetch("other")
    assert gates["other"].entered.wait(10)
    setup.core.ask("m", 1)
    setup.wait(lambda now: now["m"] is Availability.WAITING)
    setup.aspire("m", 2)
    setup.core.wait_for(("m", 2, "START"))
    gates["other"].opened.set()
    setup.core.wait_told("m", 1)
    assert [one for one in setup.core.told if one[0] == "m"] == [("m", 1, "")]


def test_the_last_version_that_serves_stays_until_one_of_its_replacements_is_there(make: Make) -> None:
    setup = make("m", options=replace(LAZY, retries=0))
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1)
    setup.core.on_load = fail_on(("m", 2), ("m", 3))
    for version in (2, 3):
        setup.aspire("m", version)
        setup.events.wait_for("failed", "m", version, "NOT_FOUND", None)
    setup.core.on_load = lambda *_: None
    assert setup.core.state["m", 1] == "AVAILABLE"
    setup.aspire("m", 4)
    setup.core.wait_for(("m", 4, "AVAILABLE"), ("m", 1, "END"))
    assert setup.core.calls.index(("loaded", "m", 4)) < setup.core.calls.index(("unload", "m", 1))


@pytest.mark.parametrize("known", [True, False])
def test_a_lower_version_that_replaces_one_in_use_is_loaded_before_that_goes(make: Make, known: bool) -> None:
    setup = make("m")
    setup.aspire("m", *([1, 2] if known else [2]))
    setup.core.ask("m", 2)
    setup.core.wait_told("m", 2)
    setup.aspire("m", 1)
    setup.core.wait_for(("m", 1, "AVAILABLE"), ("m", 2, "END"))
    assert setup.core.calls.index(("loaded", "m", 1)) < setup.core.calls.index(("unload", "m", 2))
    assert ("m", 1) not in setup.core.on_demand, "requests go on with the former one until then"


def test_a_version_that_made_room_is_no_successor_of_a_lower_one(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1, 2)
    for version in (1, 2):
        setup.core.ask("m", version)
        setup.core.wait_told("m", version)
    assert setup.manager.rest("m", 2)
    setup.events.wait_for("unloaded", "m", 2)
    setup.core.wait_for(("m", 2, "START"), ("m", 1, "AVAILABLE"))
    assert loads(setup) == [("m", 1), ("m", 2)]


def test_labels_may_be_put_on_versions_that_are_not_loaded(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1, 2)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    labelled = ModelConfig("m", "/models/m", labels={"stable": 1})
    setup.manager.apply([labelled], way=Way.RPC)
    assert setup.core.labels["m"] == {"stable": 1}
    assert loads(setup) == []


def test_a_question_of_this_process_waits_for_the_load_that_a_request_would_wait_for(make: Make) -> None:
    setup = make()
    setup.manager.apply([ModelConfig("m", "/models/m", labels={"old": 1}, policy=Latest(3))])
    setup.aspire("m", 1, 2, 3)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.manager.awaken("m", None, "old", 10)
    assert loads(setup) == [("m", 1)]
    setup.manager.awaken("m", 2, None, None)
    setup.manager.awaken("m", None, None, 10)
    assert loads(setup) == [("m", 1), ("m", 2), ("m", 3)]
    assert {setup.core.state["m", version] for version in (1, 2, 3)} == {"AVAILABLE"}
    for nothing in (("m", None, None), ("m", 7, None), ("m", None, "none"), ("none", None, None)):
        setup.manager.awaken(*nothing, 10)
    assert len(loads(setup)) == 3


def test_a_question_of_this_process_is_told_why_a_load_failed_as_long_as_none_is_tried(make: Make) -> None:
    setup = make("m")
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    for _ in range(2):
        with pytest.raises(
            StatusError, match="m version 1 could not be loaded: nothing in /models/m/1"
        ) as told:
            setup.manager.awaken("m", None, None, 10)
        assert told.value.code == "UNAVAILABLE"
    assert loads(setup) == [("m", 1)]


def test_a_question_of_this_process_waits_as_long_as_it_says(make: Make) -> None:
    setup = make("m")
    gate = Gate(setup.core, "m", 1)
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    with pytest.raises(StatusError, match="Deadline Exceeded"):
        setup.manager.awaken("m", None, None, 0.01)
    gate.opened.set()
    setup.wait_available_as(m=Availability.AVAILABLE)


@pytest.mark.parametrize("versions", [(1, 2), (2,)])
def test_a_label_moves_to_a_version_that_is_not_loaded_before_the_other_goes(
    make: Make, versions: tuple[int, ...]
) -> None:
    setup = make()
    labelled = ModelConfig("m", "/models/m", labels={"stable": 1})
    setup.manager.apply([labelled])
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    placed: list[tuple[dict[str, int], str]] = []
    setup.core.set_labels = lambda _, labels: placed.append((labels, setup.core.state["m", 1]))  # type: ignore[method-assign]
    setup.manager.apply([replace(labelled, labels={"stable": 2})])
    assert placed == []
    setup.aspire("m", *versions)
    assert setup.manager.wait(lambda _: bool(placed), 10)
    assert placed == [({"stable": 2}, "START")]
    assert loads(setup) == []


def test_a_model_is_loaded_by_a_hint(make: Make) -> None:
    setup = make("m")
    setup.aspire("m", 1, 2)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.manager.prefetch("m")
    setup.manager.prefetch("nothing")
    setup.core.wait_for(("m", 2, "AVAILABLE"))
    assert loads(setup) == [("m", 2)]


def test_a_hint_does_not_try_a_failed_load_again_at_once(make: Make) -> None:
    setup = make("m")
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "UNAVAILABLE")
    setup.manager.prefetch("m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.FAILED)
    assert len(loads(setup)) == 1


def test_loads_are_taken_over_as_fast_as_they_have_threads(make: Make) -> None:
    setup = make("a", "b")
    gate = Gate(setup.core, "a", 1)
    for name in ("a", "b"):
        setup.aspire(name, 1)
    setup.wait_available_as(a=Availability.ON_DEMAND, b=Availability.ON_DEMAND)
    setup.core.ask("a", 1)
    assert gate.entered.wait(10)
    setup.core.ask("b", 1)
    setup.wait(lambda now: now["b"] is Availability.ON_DEMAND)
    assert setup.core.asked == [("b", 1)], "who waits for it may leave"
    gate.opened.set()
    setup.core.wait_told("b", 1)


def test_a_model_that_is_removed_while_it_is_waited_for_is_told(make: Make) -> None:
    setup = make("m")
    gate = Gate(setup.core, "m", 1)
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    assert gate.entered.wait(10)
    setup.configure()
    setup.manager.aspire("m", ())
    setup.core.wait_told("m", 1, "NOT_FOUND")
    gate.opened.set()


@pytest.mark.parametrize("is_queued", [True, False])
def test_a_version_that_is_removed_while_it_loads_does_not_count_as_available(
    make: Make, is_queued: bool
) -> None:
    setup = make("other", "m", options=replace(LAZY, start_threads=1))
    gate = Gate(setup.core, "other" if is_queued else "m", 1)
    for name in ("other", "m"):
        setup.aspire(name, 1)
        setup.core.wait_for((name, 1, "START"))
    if is_queued:
        setup.manager.prefetch("other")
        assert gate.entered.wait(10)
    setup.core.ask("m", 1)
    setup.wait(lambda now: now["m"] is Availability.WAITING)
    assert is_queued or gate.entered.wait(10)
    setup.aspire("m")
    setup.core.wait_told("m", 1, "NOT_FOUND")
    with setup.core.changed:
        assert setup.core.changed.wait_for(lambda: ("m", 1) not in setup.core.on_demand, 10)
    # It is wanted again before its load has ended.
    setup.aspire("m", 1)
    with setup.core.changed:
        assert setup.core.changed.wait_for(lambda: ("m", 1) in setup.core.on_demand, 10)
    gate.opened.set()
    setup.core.wait_for(("m", 1, "AVAILABLE"))


def test_a_defect_in_one_model_leaves_the_others_to_be_asked_for(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup = make("m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.ON_DEMAND)
    demand, fails = OnDemand.demand, [True]

    def once(*which: Any) -> None:
        if fails and fails.pop():
            raise RuntimeError("on purpose")
        demand(*which)

    monkeypatch.setattr(OnDemand, "demand", once)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "INTERNAL: RuntimeError: on purpose")
    assert "asking for m version 1 failed" in caplog.text
    setup.core.ask("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)


def test_a_file_that_was_mended_is_tried_by_the_next_request(make: Make) -> None:
    setup = make("m")
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "UNAVAILABLE")
    setup.core.on_load = lambda *_: None
    setup.manager.aspire("m", (AspiredVersion(1, "/models/m/1", "another"),))
    setup.wait_available_as(m=Availability.ON_DEMAND)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "", times=2)
    setup.wait_available_as(m=Availability.AVAILABLE)


def test_an_error_that_is_none_of_the_core_s_is_told_as_well(make: Make) -> None:
    setup = make("m")

    def no_memory(*_: Any) -> None:
        raise FakeError("RESOURCE_EXHAUSTED", "too large")

    setup.core.on_load = no_memory
    setup.aspire("m", 1)
    setup.core.ask("m", 1)
    setup.core.wait_told("m", 1, "RESOURCE_EXHAUSTED: Model m version 1 could not be loaded: too large")
