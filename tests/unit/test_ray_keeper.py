"""The keeper of servers on nodes, look by look, with a Ray whose actors tests answer for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_ray import Actor, ActorDiedError, ActorError, FakeRay, Method, RayError, fake_ray as fake_ray

from servable.errors import NotFoundError
from servable.ray import server_actors
from servable.ray.server_actors import OTHER, SILENCE_SECONDS, Keeper, ServerProcess

SPEC: dict[str, Any] = {
    "name": "s",
    "models": {"m": 1},
    "flags": {"batching": "auto"},
    "resource": "worker",
    "options": {"num_cpus": 1},
}


class Still(Keeper):
    """A keeper that looks when a test says so."""

    def _keep(self) -> None:
        pass


class Setup:
    """A keeper, and the time."""

    def __init__(self, ray: FakeRay, **spec: Any) -> None:
        self.ray = ray
        self.spec = {**SPEC, **spec}
        self.keeper = Still(self.spec)

    def server(self, node: str) -> Actor:
        return self.ray.actors[f"s@{node}"]

    def put(self, node: str) -> Actor:
        """Adds a node, whose server is there, and answers looks as this keeper wants it."""
        self.ray.nodes_now[node] = {"worker": 1}
        actor = self.ray.actors[f"s@{node}"] = Actor(f"s@{node}")
        self.serves(actor)
        return actor

    def serves(self, actor: Actor, **other: Any) -> None:
        """Has a server answer looks from now on: as wanted, but for this."""
        spec = self.spec
        begun = {"flags": spec["flags"], "options": spec["options"]}
        actor.look.answer = {"pid": 1, "rest": "h:1", "models": spec["models"], "begun": begun, **other}

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.keeper._look()

    def told(self) -> dict[str, tuple[str, str]]:
        """Returns node → state and problem."""
        return {one["node"]: (one["state"], one["problem"]) for one in self.keeper.status()}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list, as the keeper has it."""
    now = [1000.0]
    monkeypatch.setattr(server_actors, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_every_node_has_a_server_that_knows_its_spec(fake_ray: FakeRay) -> None:
    setup = Setup(fake_ray)
    fake_ray.nodes_now = {"a": {"worker": 1}, "b": {"worker": 1}, "head": {"CPU": 1}}
    setup.look()
    assert setup.told() == {"a": ("starting", ""), "b": ("starting", "")}
    assert all(one.arguments == (setup.spec,) for one in fake_ray.begun)
    # A look is answered beside a change.
    assert all(one["max_concurrency"] > 2 and one["max_restarts"] == -1 for one in fake_ray.options)
    for node in ("a", "b"):
        setup.serves(setup.server(node))
        ((_, reference),) = setup.server(node).look.calls
        reference.outcome.append(setup.server(node).look.answer)
    setup.look()
    assert setup.told() == {"a": ("ready", ""), "b": ("ready", "")}
    assert sorted(setup.keeper.status()[0]) == ["node", "pid", "problem", "rest", "state"]
    del fake_ray.nodes_now["b"]
    setup.look()
    assert list(setup.told()) == ["a"] and list(fake_ray.actors) == ["s@a"]


def test_a_server_that_loads_for_long_is_left_alone(fake_ray: FakeRay, now: list[float]) -> None:
    setup = Setup(fake_ray)
    actor = setup.put("a")
    setup.serves(actor, models={"old": 1})
    for _ in range(10):
        setup.look()
        now[0] += SILENCE_SECONDS
    assert fake_ray.killed == []
    ((arguments, applying),) = actor.apply.calls
    assert arguments == (SPEC["models"],)
    setup.serves(actor)
    applying.outcome.append(None)
    setup.look(3)
    assert len(actor.apply.calls) == 1 and setup.told() == {"a": ("ready", "")}


def test_a_server_that_is_silent_is_started_again(fake_ray: FakeRay, now: list[float]) -> None:
    setup = Setup(fake_ray)
    actor = setup.put("a")
    setup.look(2)
    actor.look.answer = None
    setup.look()
    now[0] += SILENCE_SECONDS + 1
    setup.look()
    assert fake_ray.killed == [(actor, True)]
    assert setup.told() == {"a": ("unreachable", f"no answer for {SILENCE_SECONDS:g} s: started again")}


def test_models_that_are_refused_are_told_and_tried_more_and_more_rarely(
    fake_ray: FakeRay, now: list[float]
) -> None:
    setup = Setup(fake_ray)
    actor = setup.put("a")
    setup.serves(actor, models={"old": 1})
    actor.apply.answer = RayError("trace\nservable.errors.NotFoundError: NOT_FOUND: no such folder")
    tries = []
    for _ in range(12):
        setup.look()
        tries.append(len(actor.apply.calls))
        now[0] += 0.5
    # After pauses of 1, 2 and 4 seconds.
    assert tries == [0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3]
    assert setup.told() == {"a": ("ready", "NOT_FOUND: no such folder")}
    setup.serves(actor)
    setup.look(2)
    assert setup.told() == {"a": ("ready", "")}


def test_a_server_that_cannot_start_is_told_and_tried_again(fake_ray: FakeRay, now: list[float]) -> None:
    setup = Setup(fake_ray)
    fake_ray.nodes_now = {"a": {"worker": 1}}
    setup.look()
    ((_, reference),) = setup.server("a").look.calls
    reference.outcome.append(ActorDiedError("trace\nservable.errors.NotFoundError: NOT_FOUND: no model"))
    del fake_ray.actors["s@a"]
    setup.look()
    assert setup.told() == {"a": ("starting", "NOT_FOUND: no model")}
    assert len(fake_ray.begun) == 1
    now[0] += 1
    setup.look()
    assert len(fake_ray.begun) == 2


def test_servers_of_a_former_keeper_on_other_nodes_end(fake_ray: FakeRay, now: list[float]) -> None:
    setup = Setup(fake_ray)
    left, kept = setup.put("a"), setup.put("b")
    late = setup.put("c")
    fake_ray.actors["other@a"] = others = Actor("other@a")
    fake_ray.nodes_now["a"] = fake_ray.nodes_now["c"] = {"CPU": 1}
    setup.look(2)
    assert setup.told() == {"a": ("stopping", ""), "b": ("ready", ""), "c": ("stopping", "")}
    assert fake_ray.killed == [] and len(left.stop.calls) == len(late.stop.calls) == 1
    left.stop.calls[0][1].outcome.append(None)
    setup.look()
    assert fake_ray.killed == [(left, False)] and list(setup.told()) == ["b", "c"]
    now[0] += server_actors.END_SECONDS
    setup.look()
    assert list(setup.told()) == ["b"]
    assert not kept.stop.calls and not others.stop.calls


def test_other_flags_replace_one_server_after_another(fake_ray: FakeRay) -> None:
    setup = Setup(fake_ray)
    nodes = ("a", "b", "c")
    former = {node: setup.put(node) for node in nodes}
    for actor in former.values():
        setup.serves(actor, begun={"flags": {}, "options": SPEC["options"]})
    setup.look()
    assert [one.stop.calls for one in former.values()] == [[], [], []]
    for number in range(3):
        setup.look()
        ended = [node for node in nodes if former[node].stop.calls]
        assert len(ended) == number + 1
        node = next(one for one in ended if setup.server(one) is former[one])
        setup.look()
        assert setup.told()[node] == ("stopping", "")
        assert list(setup.told().values()).count(("ready", OTHER)) == 2 - number
        former[node].stop.calls[0][1].outcome.append(None)
        setup.look()
        fresh = setup.server(node)
        assert fresh is not former[node] and fresh.arguments == (setup.spec,)
        # It is waited for before the next one ends.
        setup.look(3)
        assert len([one for one in nodes if former[one].stop.calls]) == number + 1
        setup.serves(fresh)
        fresh.look.calls[-1][1].outcome.append(fresh.look.answer)
    setup.look(2)
    assert setup.told() == {node: ("ready", "") for node in nodes}


def test_the_end_is_for_every_server_of_the_name(fake_ray: FakeRay) -> None:
    setup = Setup(fake_ray)
    setup.put("a")
    fake_ray.actors["s@b"] = of_a_former_keeper = Actor("s@b")
    for actor in fake_ray.actors.values():
        actor.stop.answer = "stopped"
    setup.keeper.end(1)
    assert fake_ray.actors == {} and len(of_a_former_keeper.stop.calls) == 1
    setup.look()
    assert fake_ray.begun == []


class FakeServer:
    """A server that refuses what is named ``broken``."""

    is_running = True

    def __init__(self, models: dict[str, Any], **_: Any) -> None:
        self.models = models

    def start(self, partly: bool) -> FakeServer:
        assert partly
        return self

    def problems(self) -> dict[str, str]:
        return {name: f"model {name} is away" for name in self.models if "away" in name}

    def addresses(self) -> dict[str, str]:
        return {"rest": "0.0.0.0:8501"}

    def apply(self, models: dict[str, Any]) -> None:
        self.models = models
        if "broken" in models:
            raise NotFoundError("NOT_FOUND", "Op type not registered")


def test_a_server_begins_with_what_is_wanted_now_and_says_if_it_has_something_else(
    fake_ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_actors, "Server", FakeServer)
    fake_ray.util.get_node_ip_address = lambda: "10.0.0.1"
    models = {"old": "s3://bucket/old"}
    spec = {**SPEC, "models": models}
    assert ServerProcess(spec).look()["models"] == models
    keeper = Actor("keeper of s")
    keeper.models = Method()  # type: ignore[attr-defined]
    keeper.models.answer = wanted = {"new": "s3://bucket/new"}  # type: ignore[attr-defined]
    fake_ray.actors[keeper.name] = keeper
    process = ServerProcess(spec)
    told = process.look()
    assert (told["models"], told["rest"]) == (wanted, "10.0.0.1:8501")
    assert told["begun"] == {"flags": SPEC["flags"], "options": SPEC["options"]}
    with pytest.raises(NotFoundError):
        process.apply({"broken": "s3://bucket/broken"})
    # It is neither the former nor the wanted: whatever is wanted now has to be applied.
    assert process.look()["models"] is None
    assert process.look()["problem"] == ""
    process.apply(wanted)
    assert (process.look()["models"], process.look()["problem"]) == (wanted, "")


def test_a_server_starts_with_what_can_be_served_and_tells_of_the_rest(
    fake_ray: FakeRay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(server_actors, "Server", FakeServer)
    fake_ray.util.get_node_ip_address = lambda: "10.0.0.1"
    (tmp_path / "text").write_text("no model")
    models = {"old": "s3://bucket/old", "away": "/none", "text": str(tmp_path / "text")}
    told = ServerProcess({**SPEC, "models": models}).look()
    assert told["problem"].startswith("model text: ") and told["problem"].endswith("; model away is away")
    setup = Setup(fake_ray)
    setup.serves(setup.put("a"), problem="model away is away")
    setup.look(2)
    assert setup.told() == {"a": ("ready", "model away is away")}


def test_a_server_that_is_away_for_a_moment_is_kept(fake_ray: FakeRay) -> None:
    setup = Setup(fake_ray)
    actor = setup.put("a")
    setup.look(2)
    actor.look.answer = ActorError("it restarts")
    setup.look(2)
    assert setup.told() == {"a": ("unreachable", "it restarts")} and fake_ray.killed == []
