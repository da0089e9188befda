"""A replica over a server that tests decide about: what it serves at its start, changes, health, answers."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from servers import until

from servable.config.values import ModelConfig
from servable.embedded.display import VersionStatus
from servable.errors import DataLossError, NotFoundError

NAME = "servable.ray.replica"


class FakeServer:
    """A server that runs. on_apply: called with the names of a change, may wait or raise."""

    def __init__(self, what: Any, **flags: Any) -> None:
        self.served: dict[str, ModelConfig] = dict(what or {})
        self.lacks: dict[str, str] = {}
        self.on_apply: Callable[[list[str]], None] = lambda _: None
        self.applied: list[list[str]] = []
        self.is_running = True

    async def astart(self, partly: bool) -> FakeServer:
        assert partly
        return self

    def apply(self, configs: Mapping[str, ModelConfig]) -> None:
        self.on_apply(list(configs))
        self.applied.append(list(configs))
        self.served = dict(configs)

    def models(self) -> dict[str, list[VersionStatus]]:
        return {name: [VersionStatus(1, "AVAILABLE")] for name in self.served if name not in self.lacks}

    def problems(self) -> dict[str, str]:
        return self.lacks

    def stop(self) -> None:
        self.is_running = False


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, without Ray's packages."""
    pytest.importorskip("grpc")
    requests, responses = types.ModuleType("starlette.requests"), types.ModuleType("starlette.responses")
    requests.Request = responses.Response = object  # type: ignore[attr-defined]
    for one in (types.ModuleType("starlette"), requests, responses):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    replica = importlib.import_module(NAME)
    monkeypatch.setattr(replica, "Server", FakeServer)
    yield replica
    # Whoever needs it next may have Ray's packages.
    del sys.modules[NAME]


Test = Callable[[Any, FakeServer], Awaitable[None]]
Run = Callable[[Test], None]


@pytest.fixture
def run(module: Any, tmp_path: Path) -> Run:
    """``run(test)``: runs a test on a replica that serves ``a`` and ``b``."""

    def run(test: Test) -> None:
        async def begun() -> None:
            replica = module.Replica({})
            await replica.reconfigure(wanted(tmp_path, "a", "b"))
            await asyncio.wait_for(test(replica, replica._server), 30)

        asyncio.run(begun())

    return run


def wanted(folder: Path, *names: str) -> dict[str, Any]:
    for name in names:
        (folder / name / "1").mkdir(parents=True, exist_ok=True)
    return {"models": {name: str(folder / name) for name in names}}


def test_requests_are_answered_while_a_change_is_under_way(run: Run, tmp_path: Path) -> None:
    async def test(replica: Any, server: FakeServer) -> None:
        gate = threading.Event()
        begun: list[list[str]] = []

        def on_apply(names: list[str]) -> None:
            begun.append(names)
            if "c" in names:
                gate.wait(20)

        server.on_apply = on_apply
        # Ray sends none before this has returned.
        await asyncio.wait_for(replica.reconfigure(wanted(tmp_path, "a", "c")), 5)
        await replica.reconfigure(wanted(tmp_path, "a", "d"))
        assert await asyncio.to_thread(until, lambda: begun)
        for _ in range(20):
            await asyncio.to_thread(int)
        server.lacks = {"a": "model a: it is still being loaded", "b": ""}
        await replica.check_health()
        server.lacks = {}
        problem = asyncio.ensure_future(replica.problem())
        assert not problem.done() and server.applied == []
        gate.set()
        assert await problem == ""
        assert server.applied == [["a", "c"], ["a", "d"]] and list(server.served) == ["a", "d"]

    run(test)


@pytest.mark.parametrize("error", [DataLossError("DATA_LOSS", "it is broken"), OSError("the disk is full")])
def test_a_change_that_fails_is_taken_back_and_told(error: Exception, run: Run, tmp_path: Path) -> None:
    async def test(replica: Any, server: FakeServer) -> None:
        def on_apply(names: list[str]) -> None:
            if "c" in names:
                raise error

        server.on_apply = on_apply
        await replica.reconfigure(wanted(tmp_path, "c"))
        said = await replica.problem()
        assert said.startswith("the models are as they were: ") and str(error.args[0])[-6:] in said
        assert server.applied == [["a", "b"]]
        await replica.check_health()
        # One that is not there at all; then one that serves.
        await replica.reconfigure({"models": {"none": str(tmp_path / "none")}})
        assert "no such folder" in await replica.problem()
        await replica.reconfigure(wanted(tmp_path, "d"))
        assert await replica.problem() == ""

    run(test)


def test_a_replica_is_well_as_long_as_a_model_serves(run: Run) -> None:
    async def test(replica: Any, server: FakeServer) -> None:
        server.lacks = {"b": "model b: no version was found"}
        await replica.check_health()
        assert await replica.problem() == "model b: no version was found"
        server.lacks["a"] = "model a version 1: it is broken"
        with pytest.raises(RuntimeError, match="model b: no version was found; model a version 1: it is"):
            await replica.check_health()
        server.lacks = {}
        server.stop()
        with pytest.raises(RuntimeError, match="server does not run"):
            await replica.check_health()

    run(test)


def test_a_start_takes_what_is_there(module: Any, tmp_path: Path) -> None:
    async def test() -> None:
        replica = module.Replica({})
        models = wanted(tmp_path, "a", "number")["models"]
        (tmp_path / "text").write_text("no model")
        given = {"none": tmp_path / "none", "seven": tmp_path / "seven" / "7", "text": tmp_path / "text"}
        await replica.reconfigure({"models": {**models, **{name: str(at) for name, at in given.items()}}})
        server = replica._server
        # What may come is waited for.
        assert sorted(server.served) == ["a", "none", "number", "seven"]
        assert server.served["seven"].policy.version == 7
        assert "model text: " in await replica.problem()
        await replica.check_health()
        # If none is there, the start fails.
        with pytest.raises(NotFoundError, match="no such folder"):
            await module.Replica({}).reconfigure({"models": {"none": str(tmp_path / "none")}})

    asyncio.run(test())


def test_the_identifier_of_a_request_is_left_to_ray(module: Any) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"text/plain"), (b"x-request-id", b"1")]
    asyncio.run(module.Answer((200, headers, b"x"))({}, None, send))
    assert sent[0]["headers"] == [(b"content-type", b"text/plain")]
