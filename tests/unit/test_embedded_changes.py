"""An embedded server over a fake core: its start, and changes of what it serves, with loads on demand."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_core import FakeCore, FakeError
from http_stub import answering
from servers import until
from test_archive import zip_of
from test_server import config, model

from servable.config.values import All, Folder, Latest, LifecycleOptions, ModelConfig, Specific
from servable.embedded import changing, outcomes, running, versions
from servable.embedded.server import _only
from servable.errors import DataLossError, InvalidArgumentError, NotFoundError, StatusError, UnavailableError
from servable.lifecycle.availability import Availability
from servable.lifecycle.state import State
from servable.serving.server import Server

EAGER = LifecycleOptions(retries=0)
LAZY = LifecycleOptions(retries=0, lazy_load=True)
SECONDS = 10.0
LONG = 600.0
"""More than a test may take: whoever waits for its end fails."""


class Embedded:
    """A server that has started. Loads from paths with ``broken`` in them fail."""

    def __init__(
        self,
        models: tuple[ModelConfig, ...],
        lifecycle: LifecycleOptions,
        cache_dir: str = "",
        partly: bool = False,
        on_load: Callable[..., None] | None = None,
    ) -> None:
        self.core = FakeCore()
        self.paths: list[str] = []
        self.core.on_load = on_load or self._on_load
        given = replace(config(*models, lifecycle=lifecycle), cache_dir=cache_dir)
        self.server = Server(given, lambda _: self.core)
        try:
            running._start(self.server, partly)
        except BaseException:
            self.server.stop()
            raise

    def _on_load(self, name: str, version: int, path: str, options: object) -> None:
        self.paths.append(path)
        if "broken" in path:
            raise FakeError("DATA_LOSS", "it is broken")

    def apply(self, *models: ModelConfig) -> None:
        changing.apply(self.server, models, SECONDS)


Make = Callable[..., Embedded]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Embedded] = []

    def build(*models: ModelConfig, lifecycle: LifecycleOptions = EAGER, **more: Any) -> Embedded:
        made.append(Embedded(models, lifecycle, **more))
        return made[-1]

    yield build
    for one in made:
        assert one.server.stop()


def test_models_that_are_loaded_on_demand_are_there_at_once(make: Make, tmp_path: Path) -> None:
    embedded = make(model(tmp_path, "m", 1), lifecycle=LAZY)
    changing.load(embedded.server, model(tmp_path, "n", 1), SECONDS)
    both = ModelConfig("both", str(tmp_path / "both"), policy=Specific((1, 2)))
    model(tmp_path, "both", 1, 2)
    embedded.apply(both)
    assert embedded.paths == []
    assert embedded.core.state["both", 2] == "START"
    with pytest.raises(StatusError, match="no version was found"):
        changing.load(embedded.server, ModelConfig("none", str(tmp_path / "none")), SECONDS)


def test_the_only_model_is_the_one_that_is_served_now(make: Make, tmp_path: Path) -> None:
    embedded = make(model(tmp_path, "m", 1))
    now: Any = SimpleNamespace(server=embedded.server)
    assert _only(now) == "m"
    embedded.apply(model(tmp_path, "n", 1))
    assert _only(now) == "n"
    changing.load(embedded.server, ModelConfig("m", str(tmp_path / "m")), SECONDS)
    with pytest.raises(InvalidArgumentError, match="there are several models") as several:
        _only(now)
    assert several.value.hint == "give model=, one of n, m"
    embedded.apply()
    with pytest.raises(InvalidArgumentError, match="there is no model"):
        _only(now)


def at(base: Path, place: str, *versions: int) -> ModelConfig:
    """Returns the model ``m``, with these versions in a folder ``place``."""
    return ModelConfig("m", model(base, place, *versions).base_path)


def test_the_same_number_at_another_path_is_another_version(make: Make, tmp_path: Path) -> None:
    one, other = at(tmp_path, "one", 1), at(tmp_path, "other", 1)
    embedded = make(one)
    embedded.apply(other)
    assert embedded.paths == [f"{tmp_path}/one/1", f"{tmp_path}/other/1"]
    assert ("unload", "m", 1) not in embedded.core.calls
    embedded.apply(other)
    assert len(embedded.paths) == 2
    # The same place, in other words.
    embedded.apply(replace(other, base_path=f"{tmp_path}/one/../other/"))
    embedded.apply(replace(other, base_path=f"{tmp_path}/other/1", policy=Folder(1)))
    assert len({os.path.normpath(path) for path in embedded.paths}) == 2


def test_a_path_whose_version_cannot_be_loaded_is_told_and_the_former_one_goes_on(
    make: Make, tmp_path: Path
) -> None:
    one = at(tmp_path, "one", 1)
    embedded = make(one)
    for number in (1, 2):
        broken = at(tmp_path, f"broken{number}", number)
        with pytest.raises(DataLossError, match=f"model m version {number}: it is broken"):
            embedded.apply(broken)
        assert embedded.server.manager.conditions("m")[1].state is State.AVAILABLE
        embedded.apply(one)
    with pytest.raises(NotFoundError, match="no version was found in"):
        embedded.apply(ModelConfig("m", str(tmp_path / "none")))
    assert embedded.server.manager.conditions("m")[1].state is State.AVAILABLE
    assert [path for path in embedded.paths if "broken" not in path] == [f"{tmp_path}/one/1"]


@pytest.mark.parametrize("number", [1, 7])
def test_other_numbers_at_another_path_replace_all_that_was(make: Make, tmp_path: Path, number: int) -> None:
    embedded = make(at(tmp_path, "one", 3))
    embedded.apply(at(tmp_path, "other", number))
    assert embedded.core.state["m", number] == "AVAILABLE"
    assert embedded.core.state["m", 3] != "AVAILABLE"


def test_a_version_that_is_not_loaded_is_loaded_from_where_it_is_then(make: Make, tmp_path: Path) -> None:
    embedded = make(at(tmp_path, "one", 1), lifecycle=LAZY)
    embedded.apply(at(tmp_path, "other", 1))
    embedded.server.manager.awaken("m", None, None, SECONDS)
    assert embedded.paths == [f"{tmp_path}/other/1"]
    embedded.apply(ModelConfig("m", str(tmp_path / "one")))
    assert embedded.paths == [f"{tmp_path}/other/1", f"{tmp_path}/one/1"]


def test_a_version_that_is_listed_and_not_there_is_told_at_once(make: Make, tmp_path: Path) -> None:
    two = model(tmp_path, "two", 1, 2)
    embedded = make(model(tmp_path, "m", 1))
    absent = "Version 99 of servable two is not among those found: 1, 2"
    listed = replace(two, policy=Specific((1, 99)))
    with pytest.raises(NotFoundError, match=absent):
        changing.load(embedded.server, listed, LONG)
    # It is served no longer, and the next one can be loaded.
    changing.load(embedded.server, replace(two, policy=Specific((2, 1))), LONG)
    for policy in (Specific((2, 99)), Specific((1, 99, 2))):
        with pytest.raises(NotFoundError, match=absent):
            changing.apply(embedded.server, [replace(two, policy=policy)], LONG)
    # Once it is there, it is waited for.
    (tmp_path / "two" / "99").mkdir()
    changing.apply(embedded.server, [listed], LONG)
    assert embedded.core.state["two", 99] == "AVAILABLE"


def test_a_version_that_is_not_in_the_store_is_told_at_once(make: Make, tmp_path: Path) -> None:
    bucket = f"memory://bucket-{uuid.uuid4().hex}"
    pytest.importorskip("fsspec").filesystem("memory").pipe(f"{bucket}/m/1/saved_model.pb", b"x")
    embedded = make(cache_dir=str(tmp_path))
    with pytest.raises(NotFoundError, match="Version 99 of servable m is not among those found: 1"):
        changing.load(embedded.server, ModelConfig("m", f"{bucket}/m", policy=Specific((1, 99))), LONG)


def test_a_version_that_came_to_the_store_since_its_last_look_is_waited_for(
    make: Make, tmp_path: Path
) -> None:
    bucket = f"memory://bucket-{uuid.uuid4().hex}"
    files = pytest.importorskip("fsspec").filesystem("memory")
    files.pipe(f"{bucket}/m/1/saved_model.pb", b"x")
    both = ModelConfig("m", f"{bucket}/m", policy=Specific((1, 2)))
    embedded = make(both, cache_dir=str(tmp_path))
    # Its next look by itself would be half a minute later.
    with pytest.raises(NotFoundError, match="Version 2 of servable m is not among those found: 1"):
        embedded.apply(both)
    files.pipe(f"{bucket}/m/2/saved_model.pb", b"x")
    embedded.apply(both)
    assert embedded.core.state["m", 2] == "AVAILABLE"


def test_a_version_that_is_not_in_the_archive_is_told_once_that_was_fetched(
    make: Make, tmp_path: Path
) -> None:
    packed = zip_of(**{f"m/{version}/saved_model.pb": b"x" for version in (1, 2)})
    absent = "Version 99 of servable m is not among those found: 1, 2"
    with answering((200, packed)) as site:
        embedded = make(cache_dir=str(tmp_path / "cache"))
        m = ModelConfig("m", f"{site.address}/m.zip", policy=Specific((1, 99)))
        with pytest.raises(NotFoundError, match=absent):
            changing.load(embedded.server, m, LONG)
        changing.load(embedded.server, replace(m, policy=Specific((1,))), LONG)
        with pytest.raises(NotFoundError, match=absent):
            embedded.apply(m)
        embedded.apply(replace(m, policy=Specific((2, 1))))
        assert {embedded.core.state["m", version] for version in (1, 2)} == {"AVAILABLE"}


def test_nobody_waits_for_a_version_of_a_server_that_stops(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = make(model(tmp_path, "m", 1))
    two = replace(model(tmp_path, "two", 1), policy=Specific((1, 99)))
    monkeypatch.setattr(versions, "absent", lambda _: embedded.server.manager.cancel_wait() or "")
    with pytest.raises(UnavailableError, match="stopping"):
        changing.load(embedded.server, two, LONG)


@pytest.mark.parametrize("policy", [All(), Latest(2)])
def test_a_model_is_loaded_once_all_its_versions_are(
    policy: All | Latest, make: Make, tmp_path: Path
) -> None:
    embedded = make(model(tmp_path, "m", 1))
    returned = threading.Event()
    embedded.core.on_load = slow_first(returned)
    for name, numbers in (("two", (1, 3)), ("broken", (1, 2))):
        returned.clear()
        changing.load(embedded.server, replace(model(tmp_path, name, *numbers), policy=policy), LONG)
        assert embedded.core.state[name, 1] == "AVAILABLE"
        returned.set()


@pytest.mark.parametrize("policy", [All(), Latest(2), Specific((1, 2)), Specific((1, 3))])
def test_a_server_has_started_once_all_versions_are_loaded(
    policy: All | Latest | Specific, make: Make, tmp_path: Path
) -> None:
    returned = threading.Event()
    numbers = policy.versions if isinstance(policy, Specific) else (1, 3)
    embedded = make(
        replace(model(tmp_path, "two", *numbers), policy=policy), partly=True, on_load=slow_first(returned)
    )
    assert embedded.core.state["two", 1] == "AVAILABLE"
    told = outcomes.problems(embedded.server.manager)
    # Versions that are listed are missed, one by one.
    assert told == ({"two": "model two version 2: it is broken"} if 2 in numbers else {})
    returned.set()


def slow_first(returned: threading.Event) -> Callable[..., None]:
    """Returns loads of which that of version 1 takes a while, and that of version 2 fails."""

    def on_load(name: str, version: int, path: str, options: object) -> None:
        if version == 2:
            raise FakeError("DATA_LOSS", "it is broken")
        if version == 1:
            # Whoever has returned before asks for it too early.
            returned.wait(0.3)

    return on_load


def test_a_start_with_a_part_of_the_models_tells_of_the_rest(make: Make, tmp_path: Path) -> None:
    good, broken = model(tmp_path, "good", 1), model(tmp_path, "broken", 1)
    missing = ModelConfig("missing", str(tmp_path / "missing"))
    listed = replace(good, name="listed", policy=Specific((1, 99)))
    embedded = make(broken, good, missing, listed, partly=True)
    manager = embedded.server.manager
    assert outcomes.problems(manager) == {
        "broken": "model broken version 1: it is broken",
        "missing": f"model missing: no version was found in {tmp_path}/missing",
        "listed": "model listed version 99: it is not available",
    }
    # What comes later is served.
    model(tmp_path, "missing", 1)
    assert manager.wait(lambda now: now["missing"] is Availability.AVAILABLE, SECONDS)
    assert sorted(outcomes.problems(manager)) == ["broken", "listed"]
    with pytest.raises(DataLossError, match="model broken version 1: it is broken"):
        make(broken, ModelConfig("none", str(tmp_path / "none")), partly=True)
    with pytest.raises(DataLossError, match="model broken version 1: it is broken"):
        make(good, broken)


def test_a_model_that_is_being_loaded_is_a_problem_until_then(make: Make, tmp_path: Path) -> None:
    embedded = make(model(tmp_path, "m", 1))
    gate = threading.Event()
    embedded.core.on_load = lambda *_: gate.wait(20) and None
    manager = embedded.server.manager
    manager.apply([model(tmp_path, "n", 1)])
    assert until(lambda: ("load", "n", 1) in embedded.core.calls)
    assert outcomes.problems(manager) == {"n": "model n: it is still being loaded"}
    gate.set()
    assert until(lambda: outcomes.problems(manager) == {})


def test_a_start_with_a_part_serves_the_version_before_one_that_fails(make: Make, tmp_path: Path) -> None:
    bad = {2, 3}

    def on_load(name: str, version: int, path: str, options: object) -> None:
        if version in bad:
            raise FakeError("DATA_LOSS", "it is broken")

    m = model(tmp_path, "m", 1, 2, 3)
    embedded = make(m, partly=True, on_load=on_load)
    manager = embedded.server.manager
    assert manager.configured() == (m,)
    assert embedded.core.state["m", 1] == "AVAILABLE"
    told = {"m": "model m version 3: it is broken; version 1 serves in its place"}
    assert until(lambda: outcomes.problems(manager) == told)
    # As in a server that ran before, a version that comes takes over.
    model(tmp_path, "m", 4)
    assert until(lambda: embedded.core.state.get(("m", 1)) == "END" and outcomes.problems(manager) == {})
    assert manager.is_available("m", 4)
    bad.add(4)
    with pytest.raises(DataLossError, match="version 4: it is broken"):
        make(m, on_load=on_load)
    bad.add(1)
    with pytest.raises(DataLossError, match="version 4: it is broken"):
        make(m, partly=True, on_load=on_load)
