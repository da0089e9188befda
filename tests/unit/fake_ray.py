"""As much of Ray as its users here need, in this process: multiplexing, and actors that tests answer for."""

from __future__ import annotations

import asyncio
import sys
import types
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest


def multiplexed(load: Callable[[str], Awaitable[Any]], max_num_models_per_replica: int) -> Any:
    """Does what Ray 2.60's does: room is made first, under a lock, and only what was loaded is kept."""
    models: OrderedDict[str, Any] = OrderedDict()
    lock = asyncio.Lock()

    async def get(name: str) -> Any:
        if name in models:
            models.move_to_end(name)
            return models[name]
        async with lock:
            if name in models:
                return models[name]
            if len(models) >= max_num_models_per_replica:
                _, model = models.popitem(last=False)
                await asyncio.get_running_loop().run_in_executor(None, model.__del__)
            models[name] = await load(name)
            return models[name]

    return get


class RayError(Exception):
    """The class of Ray's own errors."""


class ActorError(RayError):
    """A call to an actor that is away."""


class ActorDiedError(ActorError):
    """A call to an actor that is gone for ever."""


class Reference:
    """The outcome of a call, once a test has given it."""

    def __init__(self) -> None:
        self.outcome: list[Any] = []


class Method:
    """A method of an actor. answer: what calls return at once; None: a test answers later."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], Reference]] = []
        self.answer: Any = None

    def remote(self, *arguments: Any) -> Reference:
        made = Reference()
        if self.answer is not None:
            made.outcome.append(self.answer)
        self.calls.append((arguments, made))
        return made


class Actor:
    """A server's actor. arguments: those of its beginning."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.look, self.apply, self.stop = Method(), Method(), Method()


class FakeRay(types.ModuleType):
    """The module.

    nodes_now: identity → resources. begun, options: actors and the options of each. killed: actors, and
    whether Ray starts them again.
    """

    def __init__(self) -> None:
        super().__init__("ray")
        self.__version__ = "2.60.0"
        self.nodes_now: dict[str, dict[str, float]] = {}
        self.actors: dict[str, Actor] = {}
        self.begun: list[Actor] = []
        self.killed: list[tuple[Actor, bool]] = []
        self.options: list[dict[str, Any]] = []
        self.util = types.SimpleNamespace(list_named_actors=self._list)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": one, "Alive": True, "Resources": resources}
            for one, resources in self.nodes_now.items()
        ]

    def _list(self, all_namespaces: bool) -> list[dict[str, str]]:
        assert all_namespaces
        return [{"namespace": "servable", "name": name} for name in self.actors]

    def get_actor(self, name: str, namespace: str) -> Actor:
        if name not in self.actors:
            raise ValueError(name)
        return self.actors[name]

    def wait(
        self, references: Sequence[Reference], num_returns: int = 1, timeout: float | None = None
    ) -> tuple[list[Reference], list[Reference]]:
        done = [one for one in references if one.outcome]
        return done, [one for one in references if one not in done]

    def get(self, reference: Reference, timeout: float | None = None) -> Any:
        (outcome,) = reference.outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def kill(self, actor: Actor, no_restart: bool = True) -> None:
        self.killed.append((actor, not no_restart))
        if no_restart:
            self.actors.pop(actor.name, None)

    def remote(self, _: type) -> Any:
        return types.SimpleNamespace(options=self._options)

    def _options(self, name: str, **options: Any) -> Any:
        self.options.append(options)

        def begin(*arguments: Any) -> Actor:
            if name not in self.actors:
                self.actors[name] = Actor(name, arguments)
                self.begun.append(self.actors[name])
            return self.actors[name]

        return types.SimpleNamespace(remote=begin)


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Puts it where Ray is imported from."""
    made = FakeRay()
    exceptions = types.ModuleType("ray.exceptions")
    for name, kind in (
        ("RayError", RayError),
        ("RayActorError", ActorError),
        ("ActorDiedError", ActorDiedError),
    ):
        setattr(exceptions, name, kind)
    serve = types.ModuleType("ray.serve")
    serve.multiplexed = multiplexed  # type: ignore[attr-defined]
    made.serve = serve  # type: ignore[attr-defined]
    strategies = types.ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda *_, **__: None  # type: ignore[attr-defined]
    for name, module in (
        ("ray", made),
        ("ray.exceptions", exceptions),
        ("ray.serve", serve),
        ("ray.util", types.ModuleType("ray.util")),
        ("ray.util.scheduling_strategies", strategies),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    return made
