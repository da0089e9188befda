"""What Ray keeps running on the nodes: a server with ports of its own in each actor, and the keeper of them.

The keeper is an actor by a name, which Ray restarts; the servers have names too, by which a restarted keeper
finds them again. So neither needs the program that began them, nor each other to go on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servable.embedded import Server
from servable.ray.models import read_models
from servable.ray.reasons import reason

NAMESPACE = "servable"
FLAGS: dict[str, Any] = {"host": "0.0.0.0"}
"""Flags of a server on a node, if nothing else is said; its ports are free ones."""
PERIOD_SECONDS = 1.0
"""Seconds between two looks at the nodes and the servers."""
SILENCE_SECONDS = 15.0
"""Seconds after which a server that does not answer is ended, so that Ray starts it again."""
MOST_PAUSE_SECONDS = 30.0
"""Longest pause before a server that cannot start is tried again."""

_log = logging.getLogger("servable.ray")


class ServerProcess:
    """A server in a process of its own, on a node."""

    def __init__(self, models: Mapping[str, Any], flags: Mapping[str, Any]) -> None:
        import ray

        self._models = models
        self._host = ray.util.get_node_ip_address()
        self._server = Server(_configs(models), **{**FLAGS, **flags}).start()

    def look(self) -> dict[str, Any]:
        """Returns what it serves and where. Raises ``RuntimeError`` if it does not run."""
        if not self._server.is_running:
            raise RuntimeError("the server does not run")
        found = {"pid": os.getpid(), "models": self._models}
        for name, address in self._server.addresses().items():
            found[name] = f"{self._host}:{address.rpartition(':')[2]}"
        return found

    def apply(self, models: Mapping[str, Any]) -> None:
        """Serves these models from now on, without a pause."""
        self._server.apply(_configs(models))
        self._models = models

    def stop(self) -> None:
        """Answers what is under way, and ends."""
        self._server.stop()


def _configs(models: Mapping[str, Any]) -> dict[str, Any]:
    return {name: model.config(name) for name, model in read_models(models).items()}


class Kept:
    """One server, as its keeper knows it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.asked: Any = None
        self.asked_at = 0.0
        self.told: dict[str, Any] | None = None
        self.problem = ""
        self.applying: Any = None


@dataclass(frozen=True)
class Failure:
    """Why the server of a node could not start, and when that is tried again, after so long a pause."""

    reason: str
    pause: float
    again_at: float


class Keeper:
    """Has one server on each node, as long as it is there.

    spec: name, models, flags, the resources that a node needs to have (``resource``), and options of the
    actors. A keeper whose spec differs from its predecessor's changes the servers that are there.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = dict(spec)
        self._kept: dict[str, Kept] = {}
        self._failed: dict[str, Failure] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def status(self) -> list[dict[str, Any]]:
        """Returns the servers: node, state (``ready``, ``starting``, ``unreachable``), addresses, problem."""
        with self._lock:
            nodes = sorted(self._kept.keys() | self._failed.keys())
            return [_told(node, self._kept.get(node), self._failed.get(node)) for node in nodes]

    def end(self, seconds: float) -> None:
        """Ends the servers: what is under way is answered first, for so many seconds."""
        import ray

        self._ended.set()
        with self._lock:
            actors = [one.actor for one in self._kept.values()]
            self._kept.clear()
        ray.wait([actor.stop.remote() for actor in actors], num_returns=len(actors), timeout=seconds)
        for actor in actors:
            ray.kill(actor)

    def _keep(self) -> None:
        while not self._ended.is_set():
            try:
                self._look()
            except Exception:
                # The cluster may be in trouble: the next look finds out.
                _log.exception("the servers could not be looked at")
            self._ended.wait(PERIOD_SECONDS)

    def _look(self) -> None:
        """Starts what is missing, forgets what is gone, and asks every server how it is."""
        import ray

        nodes = self._nodes()
        with self._lock:
            if self._ended.is_set():
                return
            for node in self._kept.keys() - nodes:
                # Ray would try for ever to start it on a node that is gone.
                ray.kill(self._kept.pop(node).actor)
            for node in self._failed.keys() - nodes:
                del self._failed[node]
            for node in nodes - self._kept.keys():
                failure = self._failed.get(node)
                if failure is None or failure.again_at <= time.monotonic():
                    self._kept[node] = Kept(self._started(node))
            for node, one in list(self._kept.items()):
                self._ask(node, one)

    def _nodes(self) -> set[str]:
        import ray

        wanted = self._spec.get("resource")
        return {
            node["NodeID"]
            for node in ray.nodes()
            if node["Alive"] and (wanted is None or node["Resources"].get(wanted))
        }

    def _started(self, node: str) -> Any:
        """Returns the actor of a node: the one that is there, or a new one."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "name": f"{self._spec['name']}@{node}",
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "get_if_exists": True,
            "max_restarts": -1,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
            **self._spec["options"],
        }
        actor = ray.remote(ServerProcess).options(**options)
        return actor.remote(self._spec["models"], self._spec["flags"])

    def _ask(self, node: str, one: Kept) -> None:
        """Takes the answer to the last question, and asks again."""
        import ray

        if one.asked is not None:
            if not ray.wait([one.asked], timeout=0)[0]:
                if one.told is not None and time.monotonic() - one.asked_at > SILENCE_SECONDS:
                    one.told, one.problem = None, f"no answer for {SILENCE_SECONDS:g} s: started again"
                    one.asked_at = time.monotonic()
                    ray.kill(one.actor, no_restart=False)
                return
            self._answered(node, one)
        if self._kept.get(node) is one:
            one.asked, one.asked_at = one.actor.look.remote(), time.monotonic()

    def _answered(self, node: str, one: Kept) -> None:
        import ray
        from ray.exceptions import ActorDiedError, RayActorError, RayError

        try:
            one.told, one.problem = ray.get(one.asked), ""
            self._failed.pop(node, None)
            self._follow(one)
        except ActorDiedError as error:
            # It could not be started; Ray does not try again.
            before = self._failed.get(node)
            pause = min(2 * before.pause, MOST_PAUSE_SECONDS) if before else PERIOD_SECONDS
            self._failed[node] = Failure(reason(error), pause, time.monotonic() + pause)
            _log.warning("the server on node %s ended: %s", node, error)
            del self._kept[node]
        except RayActorError as error:
            one.told, one.problem = None, reason(error)
        except RayError as error:
            one.told, one.problem = None, reason(error)
            ray.kill(one.actor, no_restart=False)

    def _follow(self, one: Kept) -> None:
        """Has a server serve what it should."""
        import ray

        models = self._spec["models"]
        if one.applying is not None and not ray.wait([one.applying], timeout=0)[0]:
            return
        one.applying = None
        if one.told is not None and one.told["models"] != models:
            one.applying = one.actor.apply.remote(models)


def _told(node: str, one: Kept | None, failure: Failure | None) -> dict[str, Any]:
    if one is None or one.told is None:
        problem = one.problem if one is not None else ""
        state = "unreachable" if problem else "starting"
        return {"node": node, "state": state, "problem": problem or (failure.reason if failure else "")}
    told = {name: value for name, value in one.told.items() if name != "models"}
    return {"node": node, "state": "ready", "problem": "", **told}
