"""The core with a preparation before each load: paths, failures and states."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_core import FakeCore, FakeError

from servable.config.values import LoadOptions
from servable.errors import CancelledError, StatusError
from servable.lifecycle.preparing import FETCHING, PreparingCore
from servable.sources import VersionLoad

LAST = LoadOptions(retrying=False)
MORE = LoadOptions(retrying=True)


class FakePreparation:
    """Prepares every file as ``/saved``, and heals every model as ``/healed`` unless it is incurable."""

    def __init__(self) -> None:
        self.error: StatusError | None = None
        self.doing = ""
        self.incurable = False
        self.kept: list[tuple[str, int, str]] = []
        self.on_work: Callable[[VersionLoad], None] = lambda _: None

    def prepare(self, load: VersionLoad) -> str:
        self.on_work(load)
        if self.error is not None:
            raise self.error
        return "/saved"

    def heal(self, load: VersionLoad, error: StatusError) -> str:
        self.on_work(load)
        if self.incurable:
            raise StatusError(error.code, error.message, "it cannot be healed")
        return "/healed"

    def keep(self, model: str, version: int, place: str) -> None:
        self.kept.append((model, version, place))

    def phase(self, model: str, version: int) -> str:
        return self.doing


@pytest.fixture
def core() -> FakeCore:
    return FakeCore()


@pytest.fixture
def preparation() -> FakePreparation:
    return FakePreparation()


@pytest.fixture
def prepared(core: FakeCore, preparation: FakePreparation) -> PreparingCore:
    return PreparingCore(core, lambda: preparation)


@pytest.fixture
def keras(tmp_path: Path) -> str:
    (tmp_path / "m.keras").touch()
    return str(tmp_path / "m.keras")


@pytest.fixture
def blind(tmp_path: Path) -> str:
    """A SavedModel; ``paths_of`` makes its loads fail."""
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "saved_model.pb").touch()
    return str(tmp_path / "blind")


def paths_of(core: FakeCore, message: str = "") -> list[tuple[str, bool]]:
    """Records the loads; those of ``blind`` fail with ``message``."""
    paths: list[tuple[str, bool]] = []

    def on_load(name: str, version: int, path: str, options: Any) -> None:
        paths.append((path, options.retrying))
        if path.endswith("blind"):
            raise FakeError("FAILED_PRECONDITION", message)

    core.on_load = on_load
    return paths


def test_a_version_is_loaded_from_what_was_made_of_it(
    core: FakeCore, prepared: PreparingCore, keras: str
) -> None:
    paths = paths_of(core)
    prepared.load("m", 1, keras, LAST)
    prepared.load("n", 1, "/n", MORE)
    assert paths == [("/saved", False), ("/n", True)]


def test_no_preparation_is_made_for_nothing(core: FakeCore, tmp_path: Path) -> None:
    def make() -> Any:
        raise AssertionError("it is not needed")

    prepared = PreparingCore(core, make)
    prepared.load("n", 1, "/n", LAST)
    for file in ("saved_model.pb", "model.keras"):
        (tmp_path / file).touch()
    prepared.load("m", 1, str(tmp_path), LAST)
    assert prepared.phase("m", 1) == ""
    prepared.stop()


@pytest.mark.parametrize("by", ["stop", "cancel"])
@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("kind", ["keras", "blind"])
def test_a_load_that_is_not_wanted_ends(
    core: FakeCore, request: pytest.FixtureRequest, by: str, when: str, kind: str
) -> None:
    preparation = FakePreparation()
    prepared = PreparingCore(core, lambda: preparation)
    paths = paths_of(core, "Could not find variable kernel")

    def end(*_: Any) -> None:
        prepared.stop() if by == "stop" else prepared.cancel("m", 1)

    prepared.announce("m", 1)
    if when == "before":
        end()
    else:
        preparation.on_work = end
    with pytest.raises(CancelledError):
        prepared.load("m", 1, request.getfixturevalue(kind), LAST)
    assert "/saved" not in dict(paths) and "/healed" not in dict(paths)
    # Not final: it may be wanted again.
    assert core.state["m", 1] != "END" and ("m", 1) not in core.errors


def test_a_version_that_is_wanted_again_is_loaded(
    core: FakeCore, prepared: PreparingCore, keras: str, blind: str
) -> None:
    for path in (keras, blind):
        prepared.cancel("m", 1)
        prepared.announce("m", 1)
        prepared.load("m", 1, path, LAST)
        prepared.cancel("m", 1)
        with pytest.raises(CancelledError):
            prepared.load("m", 1, keras, LAST)
        prepared.load("m", 1, keras, LAST)


def test_what_was_made_is_kept_as_long_as_it_serves(
    core: FakeCore, prepared: PreparingCore, preparation: FakePreparation, keras: str
) -> None:
    prepared.load("m", 1, keras, LAST)
    preparation.error = StatusError("DATA_LOSS", "it is damaged")
    with pytest.raises(StatusError):
        prepared.load("m", 1, keras, LAST)
    with pytest.raises(StatusError):
        prepared.load("m", 2, keras, LAST)
    core.on_unload = lambda *_: preparation.kept.append(("the files may be", 0, "in use until here"))
    prepared.unload("m", 1)
    assert preparation.kept == [
        ("m", 1, "/saved"),
        ("m", 1, "/saved"),
        ("m", 2, ""),
        ("the files may be", 0, "in use until here"),
        ("m", 1, ""),
    ]


@pytest.mark.parametrize(("options", "state"), [(LAST, "END"), (MORE, "START")])
def test_a_failed_preparation_is_a_failed_load(
    core: FakeCore, preparation: FakePreparation, keras: str, options: LoadOptions, state: str
) -> None:
    prepared = PreparingCore(core, lambda: preparation)
    preparation.error = StatusError("DATA_LOSS", "it is damaged", "copy it")
    prepared.announce("m", 1)
    with pytest.raises(StatusError) as caught:
        prepared.load("m", 1, keras, options)
    assert caught.value is preparation.error
    assert core.state["m", 1] == state


def test_a_version_that_serves_goes_on_if_its_new_file_is_bad(
    core: FakeCore, prepared: PreparingCore, preparation: FakePreparation, keras: str
) -> None:
    prepared.load("m", 1, keras, LAST)
    preparation.error = StatusError("DATA_LOSS", "it is damaged")
    with pytest.raises(StatusError):
        prepared.load("m", 1, keras, LAST)
    assert core.state["m", 1] == "AVAILABLE"
    prepared.retire("m", 1)
    prepared.unload("m", 1)
    with pytest.raises(StatusError):
        prepared.load("m", 1, keras, LAST)
    assert core.errors["m", 1] == ("DATA_LOSS", "it is damaged")


def test_a_load_that_can_be_healed_never_ends(core: FakeCore, prepared: PreparingCore, blind: str) -> None:
    paths = paths_of(core, "Could not find variable kernel")
    prepared.load("m", 1, blind, LAST)
    assert paths == [(blind, True), ("/healed", False)]
    assert core.state["m", 1] == "AVAILABLE"
    assert ("failed", "m", 1) not in core.calls


@pytest.mark.parametrize(("options", "ends"), [(LAST, True), (MORE, False)])
def test_another_error_of_such_a_model_is_that_of_the_core(
    core: FakeCore, prepared: PreparingCore, blind: str, options: LoadOptions, ends: bool
) -> None:
    paths_of(core, "Op type not registered")
    with pytest.raises(FakeError, match="Op type not registered"):
        prepared.load("m", 1, blind, options)
    assert (core.state["m", 1] == "END") is ends
    assert core.errors.get(("m", 1)) == (("FAILED_PRECONDITION", "Op type not registered") if ends else None)


def test_other_tags_are_not_healed(core: FakeCore, prepared: PreparingCore, blind: str) -> None:
    paths = paths_of(core, "Could not find variable kernel")
    with pytest.raises(FakeError):
        prepared.load("m", 1, blind, LoadOptions(tags=("serve", "gpu")))
    assert paths == [(blind, False)]


def test_what_cannot_be_healed_says_why(
    core: FakeCore, prepared: PreparingCore, preparation: FakePreparation, blind: str
) -> None:
    preparation.incurable = True
    paths_of(core, "Could not find variable kernel")
    with pytest.raises(StatusError, match="Could not find variable kernel") as caught:
        prepared.load("m", 1, blind, LAST)
    assert caught.value.hint == "it cannot be healed"
    assert core.errors["m", 1] == ("FAILED_PRECONDITION", "Could not find variable kernel")


def test_the_phase_is_that_of_the_preparation_during_a_load(
    core: FakeCore, prepared: PreparingCore, preparation: FakePreparation, keras: str
) -> None:
    seen = []
    core.on_load = lambda *_: seen.append(prepared.phase("m", 1))
    preparation.doing = "converting it"
    prepared.load("m", 1, keras, LAST)
    preparation.doing = ""
    prepared.load("m", 1, keras, LAST)
    assert seen == ["converting it", "its files are being read"]
    preparation.doing = "converting it"
    assert prepared.phase("m", 1) == ""


def test_the_rest_is_the_cores(core: FakeCore, prepared: PreparingCore) -> None:
    prepared.fail("m", 1, "UNKNOWN", "why")
    prepared.set_labels("m", {"stable": 1})
    assert core.errors["m", 1] == ("UNKNOWN", "why")
    assert core.labels == {"m": {"stable": 1}}


# ---- files that are fetched first


class Store:
    """A fetcher whose fetches wait until they are stopped, or may end."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.may_end = threading.Event()
        self.left: list[tuple[str, int]] = []

    def bring(self, load: VersionLoad) -> None:
        self.entered.set()
        while not self.may_end.wait(0.001):
            load.check()

    def let_go(self, model: str, version: int) -> None:
        self.left.append((model, version))


def test_a_fetch_is_told_and_can_be_ended(core: FakeCore) -> None:
    store, failures = Store(), list[BaseException]()
    prepared = PreparingCore(core, FakePreparation, fetcher=store)

    def bring() -> None:
        try:
            prepared.bring("m", 1, "/models/m/1")
        except StatusError as error:
            failures.append(error)

    thread = threading.Thread(target=bring, daemon=True)
    thread.start()
    assert store.entered.wait(10)
    assert prepared.phase("m", 1) == FETCHING
    prepared.cancel("m", 1)
    thread.join(10)
    assert isinstance(failures[0], CancelledError)
    assert prepared.phase("m", 1) == ""
    # Wanted again, without having been announced anew.
    store.may_end.set()
    prepared.bring("m", 1, "/models/m/1")
    prepared.load("m", 1, "/models/m/1", LAST)
    assert store.left == []
    prepared.unload("m", 1)
    assert store.left == [("m", 1)]
