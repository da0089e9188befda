"""The manager with a fake core: following announcements, failures and retries, waiting, stopping."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from fake_core import FakeCore, FakeError

from servable.config import saved_model_config
from servable.config.base_paths import Way
from servable.config.traffic import Traffic, TrafficShare
from servable.config.values import All, LifecycleOptions, ModelConfig
from servable.errors import CancelledError, StatusError
from servable.lifecycle import manager
from servable.lifecycle.availability import Availability
from servable.lifecycle.interfaces import Report
from servable.lifecycle.manager import Manager
from servable.lifecycle.models import Model, Version
from servable.lifecycle.state import State
from servable.sources import AspiredVersion, Receiver

ONCE = LifecycleOptions(retries=0)
ONE_AT_A_TIME = LifecycleOptions(retries=0, start_threads=1)
MANY_TRIES = LifecycleOptions(retries=3, retry_seconds=0.0)
LONG_PAUSE = LifecycleOptions(retries=3, retry_seconds=3600.0)


class HandSource:
    """A source that announces what the test tells it to."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.receiver: Receiver | None = None
        self.stopped = False

    def watch(self, models: Sequence[ModelConfig]) -> None:
        self.models = [model.name for model in models]

    def start(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def stop(self) -> None:
        self.stopped = True


class Events:
    """A listener that records events."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.all: list[tuple[Any, ...]] = []

    def loaded(self, model: str, version: AspiredVersion, report: Report) -> None:
        self._note("loaded", model, version.version)

    def failed(self, model: str, version: AspiredVersion, error: StatusError, next_try: float | None) -> None:
        self._note("failed", model, version.version, error.code, next_try)

    def unloaded(self, model: str, version: AspiredVersion) -> None:
        self._note("unloaded", model, version.version)

    def _note(self, *event: Any) -> None:
        with self.changed:
            self.all.append(event)
            self.changed.notify_all()

    def wait_for(self, *event: Any) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: event in self.all, 10), f"no {event} in {self.all}"


class Setup:
    """A manager with the surroundings that tests examine."""

    def __init__(self, options: LifecycleOptions) -> None:
        self.core = FakeCore()
        self.source = HandSource()
        self.events = Events()
        self.manager = Manager(self.core, self.source, self.events, options=options)

    def configure(self, *names: str) -> None:
        self.manager.apply([ModelConfig(name, f"/models/{name}") for name in names])

    def aspire(self, name: str, *versions: int) -> None:
        self.manager.aspire(name, tuple(AspiredVersion(one, f"/models/{name}/{one}") for one in versions))

    def wait(self, enough: Callable[[dict[str, Availability]], bool]) -> None:
        assert self.manager.wait(enough, timeout=10), self.manager.availability()

    def wait_available_as(self, **expected: Availability) -> None:
        self.wait(lambda availability: availability == expected)


Make = Callable[..., Setup]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Setup] = []

    def build(options: LifecycleOptions = ONCE, *names: str) -> Setup:
        setup = Setup(options)
        setup.manager.start()
        setup.configure(*names)
        made.append(setup)
        return setup

    yield build
    for setup in made:
        setup.manager.stop()
        assert setup.source.stopped


def fail_on(*versions: tuple[str, int]) -> Callable[[str, int, str, Any], None]:
    def on_load(name: str, version: int, path: str, options: Any) -> None:
        if (name, version) in versions:
            raise FakeError("NOT_FOUND", f"nothing in {path}")

    return on_load


class Gate:
    """Holds the loads of one version until opened."""

    def __init__(self, core: FakeCore, name: str, version: int) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self._held = (name, version)
        core.on_load = self._on_load

    def _on_load(self, name: str, version: int, path: str, options: Any) -> None:
        if (name, version) == self._held:
            self.entered.set()
            assert self.opened.wait(10)


def test_an_announced_version_is_loaded_from_its_path(make: Make) -> None:
    setup = make(ONCE, "m")
    paths = []
    setup.core.on_load = lambda name, version, path, options: paths.append((path, options.retrying))
    setup.aspire("m", 3)
    setup.core.wait_for(("m", 3, "AVAILABLE"))
    assert paths == [("/models/m/3", False)]
    assert setup.core.calls == [("announce", "m", 3), ("load", "m", 3), ("loaded", "m", 3)]


@pytest.mark.parametrize(
    ("policy", "first", "then"),
    [
        ("availability_preserving", ("loaded", "m", 2), ("unload", "m", 1)),
        ("resource_preserving", ("unload", "m", 1), ("load", "m", 2)),
    ],
)
def test_the_order_of_a_change_is_the_policys(
    make: Make, policy: str, first: tuple[str, str, int], then: tuple[str, str, int]
) -> None:
    setup = make(LifecycleOptions(retries=0, policy=policy), "m")
    setup.aspire("m", 1)
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    setup.aspire("m", 2)
    setup.core.wait_for(("m", 2, "AVAILABLE"), ("m", 1, "END"))
    assert setup.core.calls.index(first) < setup.core.calls.index(then)


def test_a_new_version_that_fails_leaves_the_old_one(make: Make) -> None:
    setup = make(ONCE, "m")
    setup.core.on_load = fail_on(("m", 2))
    setup.aspire("m", 1)
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    setup.aspire("m", 2)
    setup.events.wait_for("failed", "m", 2, "NOT_FOUND", None)
    setup.core.wait_for(("m", 1, "AVAILABLE"), ("m", 2, "END"))
    assert setup.manager.availability() == {"m": Availability.AVAILABLE}


def test_repeating_an_announcement_changes_nothing(make: Make) -> None:
    setup = make(ONCE, "m", "other")
    setup.core.on_load = fail_on(("m", 2))
    for _ in range(3):
        setup.aspire("m", 1, 2)
        setup.wait(lambda availability: availability["m"] is Availability.AVAILABLE)
    setup.events.wait_for("failed", "m", 2, "NOT_FOUND", None)
    setup.aspire("m", 1, 2)
    setup.aspire("other", 1)
    setup.core.wait_for(("other", 1, "AVAILABLE"))
    assert setup.core.calls.count(("load", "m", 1)) == 1
    assert setup.core.calls.count(("load", "m", 2)) == 1


def test_a_failed_version_is_tried_again_after_it_was_withdrawn_and_came_back(make: Make) -> None:
    setup = make(ONCE, "m")
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.FAILED)
    setup.core.on_load = lambda *_: None
    setup.aspire("m")
    setup.wait_available_as(m=Availability.MISSING)
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)


def test_an_unloaded_version_can_come_back(make: Make) -> None:
    setup = make(ONCE, "m")
    for _ in range(3):
        setup.aspire("m", 1)
        setup.wait_available_as(m=Availability.AVAILABLE)
        setup.aspire("m")
        setup.wait_available_as(m=Availability.MISSING)
    assert setup.core.calls.count(("unload", "m", 1)) == 3


def test_a_version_wanted_again_before_it_has_left_is_a_replacement_still_to_come(make: Make) -> None:
    setup = make(ONCE, "m", "other")
    setup.aspire("m", 1, 2)
    setup.core.wait_for(("m", 1, "AVAILABLE"), ("m", 2, "AVAILABLE"))
    leaving, may_leave = threading.Event(), threading.Event()

    def hold_up(name: str, version: int) -> None:
        leaving.set()
        assert may_leave.wait(10)

    setup.core.on_unload = hold_up
    setup.aspire("m", 1)
    assert leaving.wait(10)
    setup.aspire("m", 2)
    setup.aspire("other", 1)
    setup.core.wait_for(("other", 1, "AVAILABLE"))
    may_leave.set()
    setup.core.wait_for(("m", 2, "AVAILABLE"), ("m", 1, "END"))
    assert [call for call in setup.core.calls if call[1] == "m"][-5:] == [
        ("unload", "m", 2),
        ("announce", "m", 2),
        ("load", "m", 2),
        ("loaded", "m", 2),
        ("unload", "m", 1),
    ]


def test_a_version_that_fails_is_retried_and_stays_loading_meanwhile(make: Make) -> None:
    setup = make(MANY_TRIES, "m")
    retrying = []

    def on_load(name: str, version: int, path: str, options: Any) -> None:
        retrying.append(options.retrying)
        if len(retrying) < 3:
            raise FakeError("DATA_LOSS", "half copied")

    setup.core.on_load = on_load
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)
    assert retrying == [True, True, True]
    assert ("m", 1) not in setup.core.errors


def test_retries_run_out(make: Make) -> None:
    setup = make(MANY_TRIES, "m")
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.FAILED)
    assert setup.core.calls.count(("load", "m", 1)) == 4
    assert setup.core.errors["m", 1] == ("NOT_FOUND", "nothing in /models/m/1")
    assert [event[-1] for event in setup.events.all] == [0.0, 0.0, 0.0, None]


def test_a_failure_that_no_retry_mends_is_final_at_once(make: Make) -> None:
    why = "ONNX Runtime not found: install it"
    setup = make(LifecycleOptions(retries=3, retry_seconds=3600.0, final_errors=("another", why)), "m")

    def on_load(name: str, version: int, path: str, options: Any) -> None:
        raise FakeError("FAILED_PRECONDITION", why)

    setup.core.on_load = on_load
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.FAILED)
    assert setup.core.errors["m", 1] == ("FAILED_PRECONDITION", why)
    assert setup.core.calls.count(("load", "m", 1)) == 1
    assert [event[-1] for event in setup.events.all] == [None]


def test_a_try_that_cannot_be_begun_ends_nothing_else(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    setup = make(MANY_TRIES, "bad", "good")
    setup.core.on_load = fail_on(("bad", 1))
    retried = threading.Event()

    def retry(model: Model, version: Version) -> None:
        version.condition = version.condition.retry_queued()
        retried.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(setup.manager._reconciler, "retry", retry)
    setup.aspire("bad", 1)
    assert retried.wait(10)
    setup.aspire("good", 1)
    setup.wait_available_as(bad=Availability.FAILING, good=Availability.AVAILABLE)
    assert caplog.text.count("following bad failed") == 1


def test_a_version_withdrawn_between_tries_is_given_up(make: Make) -> None:
    setup = make(LONG_PAUSE, "m")
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.FAILING)
    setup.aspire("m")
    setup.core.wait_for(("m", 1, "END"))
    assert setup.core.errors["m", 1] == ("NOT_FOUND", "nothing in /models/m/1")
    assert setup.core.calls.count(("load", "m", 1)) == 1


def test_a_failing_model_holds_up_no_other_even_with_one_load_thread(make: Make) -> None:
    setup = make(LifecycleOptions(start_threads=1, retries=3, retry_seconds=3600.0), "bad", "good")
    setup.core.on_load = fail_on(("bad", 1))
    setup.aspire("bad", 1)
    setup.aspire("good", 1)
    setup.wait_available_as(bad=Availability.FAILING, good=Availability.AVAILABLE)


def test_a_version_withdrawn_while_it_waits_for_a_thread_is_never_loaded(make: Make) -> None:
    setup = make(LifecycleOptions(start_threads=1, retries=0), "slow", "m")
    gate = Gate(setup.core, "slow", 1)
    setup.aspire("slow", 1)
    assert gate.entered.wait(10)
    setup.aspire("m", 1)
    setup.core.wait_for(("m", 1, "START"))
    setup.aspire("m")
    gate.opened.set()
    setup.core.wait_for(("slow", 1, "AVAILABLE"), ("m", 1, "END"))
    assert ("load", "m", 1) not in setup.core.calls
    assert setup.core.errors["m", 1][0] == "CANCELLED"


def test_a_version_withdrawn_while_it_loads_is_unloaded_after(make: Make) -> None:
    setup = make(ONCE, "m")
    gate = Gate(setup.core, "m", 1)
    setup.aspire("m", 1)
    assert gate.entered.wait(10)
    setup.aspire("m")
    gate.opened.set()
    setup.core.wait_for(("m", 1, "END"))
    assert setup.core.calls[-1] == ("unload", "m", 1)


def cancellable(setup: Setup) -> threading.Event:
    """Makes loads of the core end when they are cancelled; returns what is set once one has begun."""
    begun, cancelled = threading.Event(), threading.Event()

    def wait(name: str, version: int, path: str, options: Any) -> None:
        begun.set()
        assert cancelled.wait(10)
        raise CancelledError("CANCELLED", "not wanted")

    setup.core.on_load = wait
    setup.core.on_cancel = lambda *_: cancelled.set()
    return begun


def test_a_load_that_is_not_wanted_any_more_is_cancelled(make: Make) -> None:
    setup = make(LONG_PAUSE, "m")
    begun = cancellable(setup)
    setup.aspire("m", 1)
    assert begun.wait(10)
    setup.aspire("m")
    setup.events.wait_for("failed", "m", 1, "CANCELLED", None)
    setup.core.wait_for(("m", 1, "END"))


@pytest.mark.parametrize("options", [ONCE, LONG_PAUSE])
def test_a_version_that_is_wanted_again_after_its_load_was_cancelled_is_loaded(
    make: Make, options: LifecycleOptions
) -> None:
    setup = make(options, "m")
    begun = cancellable(setup)
    ends = setup.core.on_load

    def wanted_again(*load: Any) -> None:
        try:
            ends(*load)
        finally:
            setup.core.on_load = lambda *_: None
            setup.aspire("m", 1)

    setup.core.on_load = wanted_again
    setup.aspire("m", 1)
    assert begun.wait(10)
    setup.aspire("m")
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    setup.events.wait_for("failed", "m", 1, "CANCELLED", 0.0)


def test_so_many_loads_at_once_as_there_are_threads(make: Make) -> None:
    setup = make(LifecycleOptions(start_threads=3, retries=0), "m")
    barrier = threading.Barrier(3, timeout=10)
    setup.core.on_load = lambda *_: barrier.wait() and None
    setup.aspire("m", 1, 2, 3)
    setup.core.wait_for(("m", 1, "AVAILABLE"), ("m", 2, "AVAILABLE"), ("m", 3, "AVAILABLE"))


def test_a_defect_in_the_core_fails_that_version_alone(make: Make) -> None:
    setup = make(ONCE, "m", "n")

    def on_load(name: str, version: int, path: str, options: Any) -> None:
        if name == "m":
            raise ZeroDivisionError("oops")

    setup.core.on_load = on_load
    setup.aspire("m", 1)
    setup.aspire("n", 1)
    setup.wait_available_as(m=Availability.FAILED, n=Availability.AVAILABLE)
    assert setup.manager.errors()["m"][1].message == "ZeroDivisionError: oops"


@pytest.mark.parametrize("options", [ONCE, MANY_TRIES], ids=["one try", "many tries"])
def test_a_defect_in_the_reading_of_settings_fails_that_version_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch, options: LifecycleOptions
) -> None:
    def options_for(path: str, given: Any) -> Any:
        if path == "/models/m/1":
            raise ZeroDivisionError("oops")
        return given

    monkeypatch.setattr(saved_model_config, "options_for", options_for)
    setup = make(options, "m", "n")
    setup.aspire("m", 1)
    setup.aspire("n", 1)
    setup.wait_available_as(m=Availability.FAILED, n=Availability.AVAILABLE)
    assert setup.core.errors["m", 1] == ("INTERNAL", "ZeroDivisionError: oops")
    setup.events.wait_for("failed", "m", 1, "INTERNAL", None)
    assert setup.manager.reload("m", 10)


def test_a_defect_in_the_listener_keeps_no_version_from_anything(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Events):
        def _note(self, *event: Any) -> None:
            raise ZeroDivisionError("oops")

    setup = make(LifecycleOptions(retries=0, unload_threads=1), "m", "n")
    setup.manager._loader._listener = Broken()
    setup.core.on_load = fail_on(("n", 1))
    setup.aspire("m", 1)
    setup.aspire("n", 1)
    setup.wait_available_as(m=Availability.AVAILABLE, n=Availability.FAILED)
    assert setup.manager.reload("m", 10)
    setup.core.on_load = fail_always
    assert setup.manager.reload("m", 10)
    for version in (2, 3):
        setup.core.on_load = lambda *_: None
        setup.aspire("m", version)
        setup.core.wait_for(("m", version, "AVAILABLE"), ("m", version - 1, "END"))
    assert "notifying of m version 1 failed" in caplog.text


def test_missing_is_no_reason_to_unload(make: Make) -> None:
    setup = make(ONCE, "m", "n")
    setup.aspire("m", 1)
    setup.wait(lambda availability: availability["m"] is Availability.AVAILABLE)
    setup.manager.missing("m")
    setup.manager.missing("n")
    setup.wait_available_as(m=Availability.AVAILABLE, n=Availability.MISSING)
    assert setup.core.state["m", 1] == "AVAILABLE"


def test_apply_hands_the_models_to_the_source_and_the_labels_to_the_core(make: Make) -> None:
    setup = make(ONCE)
    labelled = ModelConfig("a", "/a", labels={"stable": 7})
    setup.manager.apply([labelled, ModelConfig("b", "/b")], allow_unavailable_labels=True)
    assert setup.source.models == ["a", "b"]
    assert setup.core.labels == {"a": {"stable": 7}, "b": {}}
    setup.manager.apply([ModelConfig("b", "/b")])
    assert setup.source.models == ["b"]
    assert setup.core.labels["a"] == {}
    assert setup.manager.availability() == {"b": Availability.WAITING}


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            [ModelConfig("m", "/m"), ModelConfig("m", "/n")],
            "Illegal to list model m multiple times in config list",
        ),
        ([ModelConfig("m", "rel")], "Expected model m to have an absolute path or URI; got base_path()=rel"),
        ([ModelConfig("n", "/n", platform="other")], "Model n requests unsupported platform other"),
        (
            [ModelConfig("m", "/m", platform="other")],
            "Illegal to change a model's platform. For model m platform was tensorflow "
            "and new platform requested is other",
        ),
        (
            [ModelConfig("m", "/m", labels={"x": 5})],
            "Request to assign label to version 5 of model m, which is not currently available for inference",
        ),
    ],
)
def test_a_refused_configuration_changes_nothing(make: Make, models: list[ModelConfig], message: str) -> None:
    setup = make(ONCE, "m")
    setup.core.labels.clear()
    with pytest.raises(StatusError) as error:
        setup.manager.apply(models, way=Way.RPC)
    assert error.value.message == message
    assert setup.source.models == ["m"]
    assert setup.core.labels == {}
    setup.configure("m")


def test_a_label_moves_to_available_versions_and_by_flag_a_new_one_may_wait(make: Make) -> None:
    setup = make(ONCE, "m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)

    def reload(labels: dict[str, int], allow_new: bool = False) -> None:
        setup.manager.apply([ModelConfig("m", "/m", labels=labels)], allow_new, Way.RPC)

    reload({"stable": 1})
    assert setup.core.labels["m"] == {"stable": 1}
    reload({"stable": 1, "next": 2}, allow_new=True)
    assert setup.core.labels["m"] == {"stable": 1, "next": 2}
    with pytest.raises(
        StatusError, match="FAILED_PRECONDITION: Request to assign label to version 2 of model m"
    ):
        reload({"stable": 2}, allow_new=True)
    # An unchanged label stays allowed, whether its version is available or not.
    reload({"next": 2})
    assert setup.core.labels["m"] == {"next": 2}


def test_a_label_of_a_config_file_moves_when_its_version_serves(make: Make) -> None:
    setup = make(ONCE, "m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)
    setup.manager.apply([ModelConfig("m", "/m", labels={"stable": 1})])
    setup.manager.apply([ModelConfig("m", "/m", labels={"stable": 2, "new": 2})])
    assert setup.core.labels["m"] == {"stable": 1, "new": 2}
    moved_before: list[dict[str, int]] = []
    setup.core.on_retire = lambda *_: moved_before.append(dict(setup.core.labels["m"]))
    setup.aspire("m", 2)
    setup.core.wait_for(("m", 1, "END"), ("m", 2, "AVAILABLE"))
    assert setup.core.labels["m"] == {"stable": 2, "new": 2}
    # No request found the label on a version that was being unloaded.
    assert moved_before == [{"stable": 2, "new": 2}]


def test_a_promotion_by_label_is_told_while_the_rules_name_both(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    setup = make(ONCE, "m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)
    spread = ModelConfig(
        "m",
        "/m",
        policy=All(),
        labels={"stable": 2, "canary": 1},
        traffic=Traffic("stable", (TrafficShare("canary", 5),)),
    )
    setup.manager.apply([spread])
    promoted = dataclasses.replace(spread, labels={"stable": 1, "canary": 1})
    with pytest.raises(StatusError, match="stable and canary are both version 1"):
        setup.manager.apply([promoted])
    setup.manager.change(lambda _: [promoted])
    assert setup.core.labels["m"] == {"stable": 1, "canary": 1}
    assert "traffic of model m: stable and canary are both version 1" in caplog.text


def test_a_labelled_model_may_be_added_again_by_the_administration(make: Make) -> None:
    setup = make(ONCE, "m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)
    labelled = ModelConfig("m", "/m", labels={"stable": 1})
    setup.manager.change(lambda _: [labelled])
    setup.manager.change(lambda _: [])
    setup.aspire("m")
    setup.core.wait_for(("m", 1, "END"))
    setup.manager.change(lambda _: [labelled])
    assert setup.core.labels["m"] == {"stable": 1}
    with pytest.raises(StatusError, match="FAILED_PRECONDITION"):
        setup.manager.change(lambda _: [ModelConfig("m", "/m", labels={"stable": 9})])


def test_a_model_that_is_removed_while_its_load_fails_ends_nothing_else(make: Make) -> None:
    """Its failure touches the model twice, and the loop drops it in between."""
    setup = make(MANY_TRIES, "good", "bad")
    entered, removed, dropped = threading.Event(), threading.Event(), threading.Event()

    def fails(name: str, version: int, path: str, options: Any) -> None:
        entered.set()
        assert removed.wait(10)
        raise FakeError("INTERNAL", "on purpose")

    class Slow(Events):
        def failed(self, *_: Any) -> None:
            assert dropped.wait(10)

    setup.core.on_load, setup.manager._loader._listener = fails, Slow()
    setup.aspire("bad", 1)
    assert entered.wait(10)
    setup.configure("good")
    setup.aspire("bad")
    removed.set()
    with setup.manager._changed:
        assert setup.manager._changed.wait_for(lambda: "bad" not in setup.manager._models.by_name, 10)
    dropped.set()
    assert setup.manager._loader._loaders.wait_idle(10)
    setup.core.on_load = lambda *_: None
    for version in (1, 2):
        setup.aspire("good", version)
        setup.core.wait_for(("good", version, "AVAILABLE"))


def test_a_request_that_goes_on_for_ever_holds_up_its_own_version_only(make: Make) -> None:
    setup = make(LifecycleOptions(retries=0, unload_threads=1), "stuck", "m")
    over = threading.Event()
    setup.core.on_retire = lambda name, version: (name == "stuck" and over.wait(10)) or None
    setup.aspire("stuck", 1)
    setup.aspire("m", 1)
    setup.core.wait_for(("stuck", 1, "AVAILABLE"), ("m", 1, "AVAILABLE"))
    setup.aspire("stuck")
    setup.aspire("m", 2)
    setup.core.wait_for(("m", 2, "AVAILABLE"), ("m", 1, "END"))
    assert setup.core.state["stuck", 1] == "AVAILABLE"
    over.set()
    setup.core.wait_for(("stuck", 1, "END"))


def test_a_pause_of_any_length_can_be_waited_for(make: Make) -> None:
    setup = make(LifecycleOptions(retries=3, retry_seconds=2.0**62), "m", "other")
    setup.core.on_load = fail_on(("m", 1))
    setup.aspire("m", 1)
    setup.wait(lambda availability: availability["m"] is Availability.FAILING)
    setup.aspire("other", 1)
    setup.core.wait_for(("other", 1, "AVAILABLE"))


def test_waiting_can_be_cancelled_and_times_out(make: Make) -> None:
    setup = make(ONCE, "m")
    assert not setup.manager.wait(lambda _: False, timeout=0.0)
    setup.manager.cancel_wait()
    assert not setup.manager.wait(lambda _: False)


def test_the_end_unloads_everything(make: Make) -> None:
    setup = make(ONCE, "m", "n")
    setup.aspire("m", 1, 2)
    setup.aspire("n", 1)
    setup.core.wait_for(("m", 1, "AVAILABLE"), ("m", 2, "AVAILABLE"), ("n", 1, "AVAILABLE"))
    setup.manager.stop()
    assert setup.manager.unload_all(10)
    assert set(setup.core.state.values()) == {"END"}


def test_the_end_does_not_wait_for_a_load_beyond_its_time(make: Make) -> None:
    setup = make(ONCE, "m")
    gate = Gate(setup.core, "m", 1)
    setup.aspire("m", 1)
    assert gate.entered.wait(10)
    setup.manager.stop()
    assert not setup.manager.unload_all(0.0)
    gate.opened.set()
    assert setup.manager.unload_all(10)
    assert setup.core.state["m", 1] == "END"


def test_the_end_unloads_what_serves_though_a_load_hangs(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager, "LAST_LOADS_SECONDS", 0.01)
    setup = make(ONCE, "good", "hangs")
    setup.aspire("good", 1)
    setup.core.wait_for(("good", 1, "AVAILABLE"))
    setup.wait(lambda now: now["good"] is Availability.AVAILABLE)
    gate = Gate(setup.core, "hangs", 1)
    setup.aspire("hangs", 1)
    assert gate.entered.wait(10)
    setup.manager.stop()
    try:
        assert not setup.manager.unload_all(10)
        assert setup.core.state["good", 1] == "END"
    finally:
        gate.opened.set()
    assert "the load of hangs version 1 is left where it is: its files are being read" in caplog.text


def test_the_end_unloads_what_waits_for_its_reload(make: Make) -> None:
    """The reload is behind another one, and is dropped before it begins."""
    setup = make(ONCE, "first", "m")
    setup.aspire("first", 1)
    setup.aspire("m", 1)
    setup.wait_available_as(first=Availability.AVAILABLE, m=Availability.AVAILABLE)
    gate = Gate(setup.core, "first", 1)
    assert not setup.manager.reload("first", 0)
    assert gate.entered.wait(10)
    assert not setup.manager.reload("m", 0)
    version = withdrawn_during_its_reload(setup)
    setup.manager.stop()
    gate.opened.set()
    assert setup.manager.unload_all(10)
    assert setup.core.state["m", 1] == "END"
    assert version.condition.state is State.END


def test_the_end_unloads_what_waits_for_a_reload_that_hangs(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "LAST_LOADS_SECONDS", 0.01)
    setup = make(ONCE, "m")
    setup.aspire("m", 1)
    setup.wait_available_as(m=Availability.AVAILABLE)
    gate = Gate(setup.core, "m", 1)
    assert not setup.manager.reload("m", 0)
    assert gate.entered.wait(10)
    version = withdrawn_during_its_reload(setup)
    setup.manager.stop()
    try:
        assert not setup.manager.unload_all(10)
        assert version.condition.state is State.END
    finally:
        gate.opened.set()
    # The end of the reload does not unload it once more.
    assert setup.manager.unload_all(10)
    assert setup.core.calls.count(("unload", "m", 1)) == 1


def withdrawn_during_its_reload(setup: Setup) -> Version:
    """Returns the version of ``m`` once it is to be unloaded after its reload."""
    setup.aspire("m")
    (version,) = setup.manager._models.by_name["m"].versions.values()
    with setup.manager._changed:
        assert setup.manager._changed.wait_for(lambda: version.condition.unload_waits, 10)
    return version


# ---- loads that hang


def test_a_load_that_hangs_is_told_of_and_gives_its_place_to_the_next(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager, "PATIENCE", 0.05)
    setup = make(ONE_AT_A_TIME, "hangs", "good")
    gate = Gate(setup.core, "hangs", 1)
    try:
        setup.aspire("hangs", 1)
        assert gate.entered.wait(10)
        setup.aspire("good", 1)
        setup.wait_available_as(hangs=Availability.HANGING, good=Availability.AVAILABLE)
        loading = setup.manager.loading("hangs", 1)
        assert loading is not None
        assert loading[0] >= 0.05 and loading[1] == "its files are being read"
        assert setup.manager.loading("good", 1) is None
    finally:
        gate.opened.set()
    setup.wait_available_as(hangs=Availability.AVAILABLE, good=Availability.AVAILABLE)
    assert setup.manager.loading("hangs", 1) is None
    assert "hangs version 1 has been loading for 0 s: its files are being read" in caplog.text


def test_a_phase_that_cannot_be_told_ends_nothing_else(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager, "PATIENCE", 0.05)
    monkeypatch.setattr(manager, "LAST_LOADS_SECONDS", 0.01)
    setup = make(ONE_AT_A_TIME, "hangs", "good")

    def phase(name: str, version: int) -> str:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(setup.core, "phase", phase)
    gate = Gate(setup.core, "hangs", 1)
    try:
        setup.aspire("hangs", 1)
        assert gate.entered.wait(10)
        setup.wait(lambda now: now["hangs"] is Availability.HANGING)
        setup.aspire("good", 1)
        setup.wait_available_as(hangs=Availability.HANGING, good=Availability.AVAILABLE)
        assert "following hangs failed" in caplog.text
        setup.manager.stop()
        assert not setup.manager.unload_all(10)
        assert setup.core.state["good", 1] == "END"
    finally:
        gate.opened.set()


def test_a_load_that_hangs_in_the_models_settings_says_so(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, opened = threading.Event(), threading.Event()

    def options_for(path: str, options: Any) -> Any:
        entered.set()
        assert opened.wait(10)
        return options

    monkeypatch.setattr(saved_model_config, "options_for", options_for)
    setup = make(ONCE, "m")
    try:
        setup.aspire("m", 1)
        assert entered.wait(10)
        loading = setup.manager.loading("m", 1)
        assert loading is not None and loading[1] == "its settings are being read"
    finally:
        opened.set()
    setup.wait_available_as(m=Availability.AVAILABLE)


def test_everything_is_told_before_a_model_stands_otherwise(make: Make) -> None:
    """The start reports as soon as all models have settled, so everything must be known by then."""
    setup = make(ONCE, "m")
    told, opened = threading.Event(), threading.Event()

    class Slow(Events):
        def loaded(self, *_: Any) -> None:
            told.set()
            assert opened.wait(10)

    setup.manager._loader._listener = Slow()
    setup.aspire("m", 1)
    assert told.wait(10)
    # The loop runs once meanwhile.
    setup.aspire("m", 1)
    with setup.manager._changed:
        assert setup.manager._changed.wait_for(lambda: not setup.manager._models.touched, 10)
    try:
        assert setup.manager.availability() == {"m": Availability.WAITING}
    finally:
        opened.set()
    setup.wait_available_as(m=Availability.AVAILABLE)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_that_nothing_was_found_is_true_of_where_it_was_looked_for(make: Make, elsewhere: bool) -> None:
    setup = make(ONCE, "m")
    setup.manager.missing("m")
    setup.wait_available_as(m=Availability.MISSING)
    setup.manager.apply([ModelConfig("m", "/models/elsewhere" if elsewhere else "/models/m")])
    expected = Availability.WAITING if elsewhere else Availability.MISSING
    assert setup.manager.availability() == {"m": expected}


def test_a_thousand_models(make: Make) -> None:
    names = [f"m{index}" for index in range(1000)]
    setup = make(LifecycleOptions(retries=0, start_threads=8), *names)
    setup.core.on_load = fail_on(("m500", 1))
    for name in names:
        setup.aspire(name, 1)
    setup.wait(
        lambda availability: all(
            one in (Availability.AVAILABLE, Availability.FAILED) for one in availability.values()
        )
    )
    assert setup.manager.availability()["m500"] is Availability.FAILED
    setup.configure()
    for name in names:
        setup.aspire(name)
    setup.core.wait_for(*[(name, 1, "END") for name in names])


# ---- repaired versions


def aspired(setup: Setup, fingerprint: str) -> None:
    assert setup.source.receiver is not None
    setup.source.receiver.aspire("m", (AspiredVersion(1, "/models/m/1", fingerprint),))


def fail_always(name: str, version: int, path: str, options: object) -> None:
    raise FakeError("INTERNAL", "half copied")


@pytest.fixture(params=[ONCE, LONG_PAUSE], ids=["at END", "waiting for its next try"])
def one_failed(make: Make, request: pytest.FixtureRequest) -> Setup:
    """Version 1 of ``m`` could not be loaded, but can be from now on."""
    setup = make(request.param, "m")
    setup.core.on_load = fail_always
    aspired(setup, "half")
    setup.events.wait_for("failed", "m", 1, "INTERNAL", None if request.param is ONCE else 3600.0)
    setup.core.on_load = lambda *_: None
    return setup


def test_a_failed_version_is_tried_again_when_its_files_change(one_failed: Setup) -> None:
    aspired(one_failed, "half")
    aspired(one_failed, "whole")
    one_failed.core.wait_for(("m", 1, "AVAILABLE"))
    aspired(one_failed, "overwritten while it serves")
    one_failed.configure("m", "other")
    assert [call[0] for call in one_failed.core.calls].count("loaded") == 1


# ---- reloads


@pytest.fixture
def serving_one(make: Make) -> Setup:
    """Version 1 of ``m`` serves."""
    setup = make(ONCE, "m")
    aspired(setup, "first")
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    setup.events.wait_for("loaded", "m", 1)
    return setup


def loads(setup: Setup) -> int:
    return [call[0] for call in setup.core.calls].count("load")


def test_a_reload_loads_what_serves_again(serving_one: Setup) -> None:
    assert serving_one.manager.reload("m", 10)
    assert loads(serving_one) == 2
    assert serving_one.manager.reload("unknown", 10)
    assert "unload" not in [call[0] for call in serving_one.core.calls]


def test_a_version_withdrawn_during_its_reload_is_unloaded_after_it(serving_one: Setup) -> None:
    gate = Gate(serving_one.core, "m", 1)
    assert not serving_one.manager.reload("m", 0)
    assert gate.entered.wait(10)
    assert serving_one.source.receiver is not None
    serving_one.source.receiver.aspire("m", ())
    with pytest.raises(AssertionError):
        serving_one.core.wait_for(("m", 1, "END"), seconds=0.05)
    gate.opened.set()
    serving_one.core.wait_for(("m", 1, "END"))
    assert [call[0] for call in serving_one.core.calls][-2:] == ["loaded", "unload"]


def test_a_reload_that_fails_is_told_and_changes_nothing(serving_one: Setup) -> None:
    serving_one.core.on_load = fail_always
    assert serving_one.manager.reload("m", 10)
    serving_one.events.wait_for("failed", "m", 1, "INTERNAL", None)
    assert serving_one.manager.availability() == {"m": Availability.AVAILABLE}


def test_a_reload_tries_a_failed_version_once_more(one_failed: Setup) -> None:
    assert one_failed.manager.reload("m", 10)
    assert one_failed.manager.availability() == {"m": Availability.AVAILABLE}


def test_a_reload_is_waited_for_though_the_failure_before_it_is_told_late(make: Make) -> None:
    setup = make(LifecycleOptions(retries=0, start_threads=2), "m")
    told, opened = threading.Event(), threading.Event()

    class Slow(Events):
        def failed(self, *_: Any) -> None:
            told.set()
            assert opened.wait(10)

    setup.manager._loader._listener = Slow()
    setup.core.on_load = fail_always
    setup.aspire("m", 1)
    assert told.wait(10)
    gate = Gate(setup.core, "m", 1)
    try:
        assert not setup.manager.reload("m", 0)
        assert gate.entered.wait(10)
        opened.set()
        assert not setup.manager.reload("m", 0.05)
    finally:
        gate.opened.set()
    assert setup.manager.reload("m", 10)
    assert setup.manager.availability() == {"m": Availability.AVAILABLE}


# ---- versions that are followed: a model's file has no further ones


def follow(setup: Setup, fingerprint: str) -> None:
    setup.manager.aspire("m", (AspiredVersion(1, "/models/m.onnx", fingerprint, reloads=True),))


def wait_for_loads(setup: Setup, count: int) -> None:
    with setup.core.changed:
        assert setup.core.changed.wait_for(lambda: setup.core.calls.count(("loaded", "m", 1)) == count, 10)


def test_a_file_that_changes_is_reloaded_while_it_serves(make: Make) -> None:
    setup = make(ONCE, "m")
    follow(setup, "first")
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    follow(setup, "second")
    wait_for_loads(setup, 2)
    follow(setup, "second")
    follow(setup, "third")
    wait_for_loads(setup, 3)
    assert ("unload", "m", 1) not in setup.core.calls


def test_a_file_that_changes_during_a_load_is_loaded_once_more(make: Make) -> None:
    setup = make(ONCE, "m")
    gate = Gate(setup.core, "m", 1)
    follow(setup, "first")
    assert gate.entered.wait(10)
    follow(setup, "second")
    gate.opened.set()
    wait_for_loads(setup, 2)


def test_a_file_that_changes_during_its_reload_is_reloaded_once_more(make: Make) -> None:
    setup = make(ONCE, "m")
    follow(setup, "first")
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    gate = Gate(setup.core, "m", 1)
    follow(setup, "second")
    assert gate.entered.wait(10)
    follow(setup, "third")
    gate.opened.set()
    wait_for_loads(setup, 3)


def test_a_changed_file_that_cannot_be_loaded_leaves_what_serves(make: Make) -> None:
    setup = make(ONCE, "m")
    follow(setup, "first")
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    setup.core.on_load = fail_always
    follow(setup, "cut")
    setup.events.wait_for("failed", "m", 1, "INTERNAL", None)
    setup.wait_available_as(m=Availability.AVAILABLE)
    setup.core.on_load = lambda *_: None
    follow(setup, "whole")
    wait_for_loads(setup, 2)
    setup.manager.aspire("m", ())
    setup.core.wait_for(("m", 1, "END"))


@pytest.mark.parametrize("retries", [0, 2])
def test_a_reload_of_a_file_is_tried_again_as_often_as_a_load(make: Make, retries: int) -> None:
    setup = make(LifecycleOptions(retries=retries, retry_seconds=0.0), "m")
    follow(setup, "first")
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    setup.core.on_load = fail_always
    follow(setup, "second")
    setup.events.wait_for("failed", "m", 1, "INTERNAL", None)
    setup.wait_available_as(m=Availability.AVAILABLE)
    assert setup.events.all.count(("failed", "m", 1, "INTERNAL", 0.0)) == retries
    # The next change has its own tries.
    setup.core.on_load = lambda *_: None
    follow(setup, "third")
    wait_for_loads(setup, 2)


def test_a_reload_of_a_file_that_failed_in_passing_succeeds(make: Make) -> None:
    setup = make(MANY_TRIES, "m")
    follow(setup, "first")
    setup.core.wait_for(("m", 1, "AVAILABLE"))

    def fail_once(*_: Any) -> None:
        setup.core.on_load = lambda *_: None
        raise FakeError("UNAVAILABLE", "half of it was written")

    setup.core.on_load = fail_once
    follow(setup, "second")
    setup.events.wait_for("failed", "m", 1, "UNAVAILABLE", 0.0)
    wait_for_loads(setup, 2)


def test_what_waits_for_its_next_reload_follows_and_goes_at_once(make: Make) -> None:
    setup = make(LONG_PAUSE, "m")
    follow(setup, "first")
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    setup.core.on_load = fail_always
    follow(setup, "second")
    setup.events.wait_for("failed", "m", 1, "INTERNAL", 3600.0)
    setup.core.on_load = lambda *_: None
    follow(setup, "third")
    wait_for_loads(setup, 2)
    setup.core.on_load = fail_always
    follow(setup, "fourth")
    setup.wait_available_as(m=Availability.AVAILABLE)
    setup.manager.aspire("m", ())
    setup.core.wait_for(("m", 1, "END"))


def test_a_withdrawal_is_waited_for(make: Make) -> None:
    setup = make(ONCE, "m", "n")
    withdrawn = setup.manager.wait_for_withdrawal
    assert withdrawn("x", 0, wholly=True)
    setup.core.on_load = fail_on(("m", 2))
    setup.aspire("m", 1, 2)
    setup.events.wait_for("failed", "m", 2, "NOT_FOUND", None)
    setup.core.wait_for(("m", 1, "AVAILABLE"))
    assert withdrawn("m", 0), "it is configured"
    gate = Gate(setup.core, "n", 1)
    setup.aspire("n", 1)
    assert gate.entered.wait(10)
    setup.configure()
    assert (withdrawn("m", 0), withdrawn("n", 0)) == (False, False), "the source has not noticed"
    setup.aspire("m")
    setup.aspire("n")
    assert withdrawn("m", 10, wholly=True)
    setup.core.wait_for(("m", 1, "END"))
    assert withdrawn("n", 10)
    assert not withdrawn("n", 0, wholly=True), "it is being loaded"
    gate.opened.set()
    assert withdrawn("n", 10, wholly=True)


def test_who_gives_up_waits_no_longer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "GLANCE_SECONDS", 0.01)
    setup = make(ONCE, "m")
    gate = Gate(setup.core, "m", 1)
    setup.aspire("m", 1)
    assert gate.entered.wait(10)
    looks: list[bool] = []

    def gives_up() -> bool:
        looks.append(len(looks) == 2)
        return looks[-1]

    assert not setup.manager.wait(lambda _: False, 60, gives_up)
    assert looks == [False, False, True]
    looks.clear()
    setup.configure()
    assert not setup.manager.wait_for_withdrawal("m", 60, wholly=True, gives_up=gives_up)
    assert looks == [False, False, True]
    assert not setup.manager.wait(lambda _: False, 0.05, lambda: False), "the time is over"
    gate.opened.set()
    setup.aspire("m")
    assert setup.manager.wait_for_withdrawal("m", 60, wholly=True, gives_up=lambda: False)
