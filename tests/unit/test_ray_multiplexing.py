"""Models that a replica loads by name, with multiplexing as Ray's is and a server that tests decide about."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_ray import FakeRay, fake_ray as fake_ray
from servers import until

from servable.config.values import ModelConfig
from servable.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
    StatusError,
    UnavailableError,
)
from servable.ray import looks, multiplexing
from servable.ray.failures import MOST, Failures
from servable.ray.finding import find
from servable.ray.looks import LOOKS
from servable.ray.models import PLACE, Model
from servable.ray.multiplexing import Multiplexer


class FakeServer:
    """A server that runs. on_load: called with a name, may wait or raise."""

    def __init__(self) -> None:
        self.on_load: Callable[[str], None] = lambda _: None
        self.is_running = True
        self.served: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.refuses: StatusError | None = None

    def load(self, model: ModelConfig, timeout: float) -> None:
        self.calls.append(("load", model.name))
        if model.name in self.served:
            raise AlreadyExistsError("ALREADY_EXISTS", model.name)
        self.served[model.name] = model.base_path
        try:
            self.on_load(model.name)
        except StatusError:
            del self.served[model.name]
            raise

    def unload(self, name: str, timeout: float) -> bool:
        self.calls.append(("unload", name))
        return self.served.pop(name, None) is not None

    def apply(self, models: Any) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.served = {name: model.base_path for name, model in dict(models).items()}

    def loads(self) -> list[str]:
        return [name for call, name in self.calls if call == "load"]


class Setup:
    """A multiplexer over a folder of models."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.server = FakeServer()
        self.multiplexer = Multiplexer(self.server, self.any(), most, str(folder / "cache"))  # type: ignore[arg-type]

    def any(self) -> dict[str, Model]:
        return {PLACE: Model(f"{self.folder}/{PLACE}")}

    def put(self, *names: str) -> None:
        for name in names:
            (self.folder / name / "1").mkdir(parents=True)

    async def ask(self, name: str) -> bool:
        """Returns whether the server has the model while the request runs."""
        async with self.multiplexer.held(name):
            return name in self.server.served


@pytest.fixture
def run(fake_ray: FakeRay, tmp_path: Path) -> Callable[..., None]:
    """``run(test, *names, most=2)``: runs a test on a loop of its own, with these models."""

    def run(test: Callable[[Setup], Awaitable[None]], *names: str, most: int = 2) -> None:
        async def begun() -> None:
            setup = Setup(tmp_path, most)
            setup.put(*names)
            await asyncio.wait_for(test(setup), 30)

        asyncio.run(begun())

    return run


def behind(gate: threading.Event) -> Callable[[str], None]:
    """Returns a load that waits for it."""

    def on_load(_: str) -> None:
        gate.wait(20)

    return on_load


async def reached(condition: Callable[[], bool]) -> None:
    assert await asyncio.to_thread(until, condition)


async def turns() -> None:
    """Lets all others do what they can."""
    for _ in range(20):
        await asyncio.to_thread(int)


def test_models_are_loaded_once_and_the_oldest_gives_way(run: Any) -> None:
    async def test(setup: Setup) -> None:
        for name in ("a", "b", "a", "c"):
            assert await setup.ask(name)
        assert sorted(setup.server.served) == ["a", "c"]
        assert setup.server.calls == [("load", "a"), ("load", "b"), ("unload", "b"), ("load", "c")]

    run(test, "a", "b", "c")


def test_a_client_that_leaves_during_the_load_takes_nothing_from_others(run: Any) -> None:
    async def test(setup: Setup) -> None:
        gate = threading.Event()
        setup.server.on_load = behind(gate)
        first = asyncio.ensure_future(setup.ask("a"))
        await reached(lambda: "a" in setup.server.served)
        first.cancel()
        await turns()
        first.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await setup.ask("b")
        assert setup.server.loads() == ["a", "b"]
        # What was loaded for him counts, and gives way.
        assert await setup.ask("c")
        assert sorted(setup.server.served) == ["b", "c"]
        assert await setup.ask("a")

    run(test, "a", "b", "c")


def test_a_client_that_leaves_while_room_is_made_takes_nothing_from_others(run: Any) -> None:
    async def test(setup: Setup) -> None:
        gate, unload = threading.Event(), setup.server.unload

        def unload_late(name: str, timeout: float) -> bool:
            gate.wait(20)
            return unload(name, timeout)

        assert await setup.ask("a")
        setup.server.unload = unload_late  # type: ignore[method-assign]
        second = asyncio.ensure_future(setup.ask("b"))
        await reached(lambda: setup.multiplexer._here == {})
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        third = asyncio.ensure_future(setup.ask("a"))
        await turns()
        gate.set()
        assert await third
        assert setup.server.calls == [("load", "a"), ("unload", "a"), ("load", "a")]

    run(test, "a", "b", most=1)


def test_what_a_request_holds_is_not_unloaded(run: Any) -> None:
    async def test(setup: Setup) -> None:
        async with setup.multiplexer.held("a"):
            other = asyncio.ensure_future(setup.ask("b"))
            await reached(lambda: setup.multiplexer._turn.locked())
            await turns()
            assert list(setup.server.served) == ["a"]
        assert await other
        assert list(setup.server.served) == ["b"]

    run(test, "a", "b", most=1)


def test_what_is_not_there_makes_no_room(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(setup: Setup) -> None:
        assert await setup.ask("a")
        # The core says so of what is not known, in words that have no paths.
        for name in ("none", "none", "other", ".."):
            assert not await setup.ask(name)
        assert setup.server.calls == [("load", "a")]
        setup.put("none")
        assert not await setup.ask("none")
        monkeypatch.setattr(setup.multiplexer._absent, "_clock", lambda: time.monotonic() + 60)
        assert await setup.ask("none")

    run(test, "a", most=1)


def test_the_log_says_where_a_model_was_looked_for(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(setup: Setup) -> None:
        await setup.multiplexer.change({**setup.any(), "listed": Model(f"{setup.folder}/gone")})
        assert not await setup.ask("listed") and not await setup.ask("invented")
        by_level = {record.levelname: record.getMessage() for record in caplog.records}
        assert f"model listed is not there: no such folder: {setup.folder}/gone" in by_level["WARNING"]
        assert f"model invented is not there: no such folder: {setup.folder}/invented" in by_level["INFO"]

    caplog.set_level("INFO", "servable.ray")
    run(test, "a")


def test_a_path_that_is_no_model_is_not_the_fault_of_who_asks(run: Any) -> None:
    async def test(setup: Setup) -> None:
        (setup.folder / "text").write_text("no model")
        with pytest.raises(UnavailableError, match=r"Model text could not be loaded: .* is a file"):
            await setup.ask("text")
        assert setup.server.calls == []

    run(test)


def test_a_silent_store_holds_up_no_folder(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(setup: Setup) -> None:
        silence, asked = threading.Event(), []

        def find_late(model: ModelConfig, cache: str) -> None:
            if model.base_path.startswith("s3://"):
                asked.append(model.name)
                silence.wait(20)
            else:
                find(model, cache)

        monkeypatch.setattr(multiplexing, "find", find_late)
        store = {f"away{one}": Model(f"s3://away/{one}") for one in range(2 * LOOKS)}
        await setup.multiplexer.change({**setup.any(), **store})
        waiting = [asyncio.ensure_future(setup.ask(name)) for name in store]
        await reached(lambda: len(asked) == LOOKS)
        assert await setup.ask("a")
        silence.set()
        await asyncio.gather(*waiting)

    run(test, "a")


def test_the_cache_has_models_of_a_store_that_is_silent(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(setup: Setup) -> None:
        silence = threading.Event()
        monkeypatch.setattr(looks, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(multiplexing, "find", lambda *_: silence.wait(20))
        monkeypatch.setattr(multiplexing, "is_cached", lambda model, _: model.name == "kept")
        # It would not answer a fetch either.
        monkeypatch.setattr(multiplexing, "bring_ahead", lambda *_: silence.wait(60))
        await setup.multiplexer.change({name: Model(f"s3://away/{name}") for name in ("kept", "other")})
        assert await setup.ask("kept")
        with pytest.raises(UnavailableError, match="s3://away does not answer"):
            await setup.ask("other")
        silence.set()

    run(test)


def test_a_store_that_stalls_in_a_download_holds_up_no_other_model(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(setup: Setup) -> None:
        silence, asked = threading.Event(), []

        def bring_late(model: ModelConfig, cache: str) -> None:
            asked.append(model.name)
            if model.name == "large":
                silence.wait(20)
            if model.name == "odd":
                raise OSError("no connection")

        monkeypatch.setattr(multiplexing, "find", lambda *_: None)
        monkeypatch.setattr(multiplexing, "bring_ahead", bring_late)
        store = {name: Model(f"s3://store/{name}") for name in ("large", "small", "odd")}
        await setup.multiplexer.change({**setup.any(), **store})
        waiting = [asyncio.create_task(setup.ask("large")) for _ in range(3)]
        await reached(lambda: asked == ["large"])
        # Who leaves takes it from nobody.
        waiting.pop(0).cancel()
        for name in ("a", "small", "odd"):
            assert await setup.ask(name), name
        silence.set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert setup.server.loads() == ["a", "small", "odd", "large"]
        assert asked == ["large", "small", "odd"]

    run(test, "a", most=9)


def test_a_download_that_takes_too_long_is_told(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(setup: Setup) -> None:
        monkeypatch.setattr(multiplexing, "find", lambda *_: None)
        monkeypatch.setattr(multiplexing, "bring_ahead", lambda *_: silence.wait(20))
        await setup.multiplexer.change({"large": Model("s3://store/large")})
        for _ in range(2):
            with pytest.raises(
                UnavailableError, match="Model large could not be loaded: s3://store does not"
            ):
                await setup.ask("large")
        assert setup.server.loads() == []
        silence.set()

    silence = threading.Event()
    monkeypatch.setattr(multiplexing, "LOAD_SECONDS", 0.01)
    run(test)


def test_what_cannot_be_loaded_is_tried_more_rarely(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(setup: Setup) -> None:
        now = time.monotonic()
        monkeypatch.setattr(setup.multiplexer._broken, "_clock", lambda: now)

        def refuse(name: str) -> None:
            if name == "broken":
                raise NotFoundError("NOT_FOUND", "Op type not registered")

        setup.server.on_load = refuse
        assert await setup.ask("a")
        asked = await asyncio.gather(*(setup.ask("broken") for _ in range(8)), return_exceptions=True)
        # It is there: so it is the model's fault, and no client's.
        assert all(type(one) is UnavailableError and "not registered" in str(one) for one in asked), asked
        assert setup.server.calls == [("load", "a"), ("unload", "a"), ("load", "broken")]
        assert await setup.ask("a")
        for seconds, tries in ((0.5, 1), (1, 2), (1, 2), (1.5, 3)):
            now += seconds
            with pytest.raises(UnavailableError):
                await setup.ask("broken")
            assert setup.server.loads().count("broken") == tries, seconds
        now += 100
        setup.server.on_load = lambda _: None
        assert await setup.ask("broken")

    run(test, "a", "broken", most=1)


def test_a_change_keeps_what_is_being_loaded(run: Any) -> None:
    async def test(setup: Setup) -> None:
        gate = threading.Event()
        setup.server.on_load = behind(gate)
        first = asyncio.ensure_future(setup.ask("a"))
        await reached(lambda: "a" in setup.server.served)
        change = asyncio.ensure_future(
            setup.multiplexer.change({**setup.any(), "a": Model(f"{setup.folder}/b")})
        )
        await turns()
        gate.set()
        assert await first
        await change
        assert setup.server.served == {"a": f"{setup.folder}/b"}
        assert await setup.ask("a")
        assert setup.server.loads() == ["a"]

    run(test, "a", "b")


def test_a_model_that_left_and_came_back_is_loaded_again(run: Any) -> None:
    async def test(setup: Setup) -> None:
        only_b = {"b": Model(f"{setup.folder}/b")}
        assert await setup.ask("a")
        await setup.multiplexer.change(only_b)
        assert setup.server.served == {}
        assert not await setup.ask("a")
        await setup.multiplexer.change(setup.any())
        assert all(await asyncio.gather(setup.ask("a"), setup.ask("a")))
        assert setup.server.loads() == ["a", "a"]

    run(test, "a", "b")


def test_a_change_that_is_refused_is_taken_back(run: Any) -> None:
    async def test(setup: Setup) -> None:
        assert await setup.ask("a")
        setup.server.refuses = FailedPreconditionError("FAILED_PRECONDITION", "no")
        with pytest.raises(FailedPreconditionError):
            await setup.multiplexer.change({"b": Model(f"{setup.folder}/b")})
        setup.server.refuses = None
        await setup.multiplexer.change(setup.any())
        assert await setup.ask("a")
        assert setup.server.loads() == ["a"]

    run(test, "a", "b")


def test_failures_of_many_names_are_not_all_kept() -> None:
    failures = Failures(lambda count: 10.0 * count, clock=lambda: 0.0)
    error = UnavailableError("UNAVAILABLE", "why")
    for number in range(MOST + 1):
        failures.add(str(number), error)
    failures.check("0")
    with pytest.raises(UnavailableError):
        failures.check("1")
    failures.clear()
    failures.check("1")
