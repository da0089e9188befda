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
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from servable.embedded import Server
from servable.ray.models import read_models, to_start_with
from servable.ray.reasons import reason

NAMESPACE = "servable"
KEEPER = "keeper of {}"
"""The name of the keeper of the servers of a name."""
FLAGS: dict[str, Any] = {"host": "0.0.0.0"}
"""Flags of a server on a node, if nothing else is said; its ports are free ones."""
PERIOD_SECONDS = 1.0
"""Seconds between two looks at the nodes and the servers."""
SILENCE_SECONDS = 15.0
"""Seconds after which a server that does not answer is ended, so that Ray starts it again."""
MOST_PAUSE_SECONDS = 30.0
"""Longest pause before a server that cannot start, or take over models, is tried again."""
END_SECONDS = 30.0
"""Seconds that a server has to answer what is under way, before one with other flags takes its place."""
ASK_SECONDS = 10.0
"""Seconds that a server waits for its keeper, when it starts."""
CALLS = 16
"""Calls to a server at once: it answers a look while models load, for which changes before may wait, too."""
OTHER = "it was begun with other flags or options, and is begun anew once all others are ready"
"""The problem of a server that waits for that."""

_log = logging.getLogger("servable.ray")


class ServerProcess:
    """A server in a process of its own, on a node. Its methods are called at the same time.

    spec: as the keeper's. The models are those that the keeper wants when it starts, as far as it can be
    asked: Ray starts it again with the spec of its beginning. It starts if one of them can be served.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        import ray

        self._begun = _begun(spec)
        # None: a change is under way, or has failed, and something between two of them is served.
        models = _wanted(spec)
        self._models: Mapping[str, Any] | None = models
        self._host = ray.util.get_node_ip_address()
        configs, self._refused = to_start_with(read_models(models))
        self._server = Server(configs, **{**FLAGS, **spec["flags"]}).start(partly=True)

    def look(self) -> dict[str, Any]:
        """Returns what it serves and where, why models do not serve, and what it was begun with.

        Raises ``RuntimeError`` if it does not run.
        """
        if not self._server.is_running:
            raise RuntimeError("the server does not run")
        lacks = [] if self._models is None else [*self._refused.values(), *self._server.problems().values()]
        found: dict[str, Any] = {"pid": os.getpid(), "models": self._models, "begun": self._begun}
        found["problem"] = "; ".join(lacks)
        for name, address in self._server.addresses().items():
            found[name] = f"{self._host}:{address.rpartition(':')[2]}"
        return found

    def apply(self, models: Mapping[str, Any]) -> None:
        """Serves these models from now on, without a pause. Raises ``StatusError``."""
        self._models = None
        self._server.apply({name: model.config(name) for name, model in read_models(models).items()})
        self._models, self._refused = models, {}

    def stop(self) -> None:
        """Answers what is under way, and ends."""
        self._server.stop()


def _begun(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a server cannot take over while it runs."""
    return {"flags": spec["flags"], "options": spec["options"]}


def _wanted(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    import ray
    from ray.exceptions import RayError

    wanted: Mapping[str, Any] = spec["models"]
    with suppress(ValueError, RayError):
        keeper = ray.get_actor(KEEPER.format(spec["name"]), NAMESPACE)
        wanted = ray.get(keeper.models.remote(), timeout=ASK_SECONDS)
    return wanted


@dataclass(frozen=True)
class Failure:
    """Why a server could not start or take over models, and when that is tried again, after such a pause."""

    reason: str
    pause: float
    again_at: float

    @staticmethod
    def after(before: Failure | None, error: Exception) -> Failure:
        """Returns the failure that follows another one in a row."""
        pause = min(2 * before.pause, MOST_PAUSE_SECONDS) if before else PERIOD_SECONDS
        return Failure(reason(error), pause, time.monotonic() + pause)


class Kept:
    """One server, as its keeper knows it.

    told: its last answer. applying: a change of models under way. refused: why the last one failed.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.asked: Any = None
        self.asked_at = 0.0
        self.told: dict[str, Any] | None = None
        self.problem = ""
        self.applying: Any = None
        self.refused: Failure | None = None


@dataclass(frozen=True)
class Ending:
    """A server that ends: it is killed once it has stopped, or the time is over."""

    actor: Any
    stopping: Any
    until: float


class Keeper:
    """Has one server on each node, as long as it is there.

    spec: name, models, flags, the resources that a node needs to have (``resource``), and options of the
    actors. A keeper whose spec differs from its predecessor's changes the servers that are there: they take
    over other models; with other flags or options, each is ended and begun anew, once all others are ready;
    those on other nodes than are wanted are ended.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = dict(spec)
        self._kept: dict[str, Kept] = {}
        self._failed: dict[str, Failure] = {}
        self._ending: dict[str, Ending] = {}
        self._has_looked = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def models(self) -> Mapping[str, Any]:
        """Returns what is to be served."""
        models: Mapping[str, Any] = self._spec["models"]
        return models

    def status(self) -> list[dict[str, Any]]:
        """Returns the servers: node, state, addresses, problem; see ``Servers.status``."""
        with self._lock:
            nodes = sorted(self._kept.keys() | self._failed.keys())
            ending = sorted(self._ending.keys() - nodes)
            return [
                *(_told(node, self._kept.get(node), self._failed.get(node)) for node in nodes),
                *({"node": node, "state": "stopping", "problem": ""} for node in ending),
            ]

    def end(self, seconds: float) -> None:
        """Ends the servers: what is under way is answered first, for so many seconds."""
        import ray

        self._ended.set()
        with self._lock:
            actors = list(self._named().values())
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
            if not self._has_looked:
                self._end_others(nodes)
                self._has_looked = True
            for node in self._kept.keys() - nodes:
                # Ray would try for ever to start it on a node that is gone.
                ray.kill(self._kept.pop(node).actor)
            for node in self._failed.keys() - nodes:
                del self._failed[node]
            self._follow_ends()
            for node in nodes - self._kept.keys() - self._ending.keys():
                failure = self._failed.get(node)
                if failure is None or failure.again_at <= time.monotonic():
                    self._kept[node] = Kept(self._started(node))
            for node, one in list(self._kept.items()):
                self._ask(node, one)
            self._replace_one()

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
            "max_concurrency": CALLS,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
            **self._spec["options"],
        }
        actor = ray.remote(ServerProcess).options(**options)
        return actor.remote(self._spec)

    def _named(self) -> dict[str, Any]:
        """Returns the servers of this name that Ray knows, by node; those of former keepers, too."""
        import ray

        found = {}
        for one in ray.util.list_named_actors(all_namespaces=True):
            name, _, node = one["name"].rpartition("@")
            if (one["namespace"], name) == (NAMESPACE, self._spec["name"]):
                with suppress(ValueError):
                    found[node] = ray.get_actor(one["name"], NAMESPACE)
        return found

    def _end_others(self, nodes: set[str]) -> None:
        """Ends the servers that a former keeper has left on nodes that are not wanted."""
        for node, actor in self._named().items():
            if node not in nodes:
                self._end(node, actor)

    def _replace_one(self) -> None:
        """Ends a server that was begun otherwise, if all others are ready: the next look begins it anew."""
        if self._ending or self._failed or any(one.told is None for one in self._kept.values()):
            return
        for node, one in self._kept.items():
            if self._is_other(one):
                self._end(node, one.actor)
                del self._kept[node]
                return

    def _is_other(self, one: Kept) -> bool:
        return one.told is not None and one.told["begun"] != _begun(self._spec)

    def _end(self, node: str, actor: Any) -> None:
        self._ending[node] = Ending(actor, actor.stop.remote(), time.monotonic() + END_SECONDS)

    def _follow_ends(self) -> None:
        """Kills the servers that have stopped, and forgets them once their names are free."""
        import ray

        over = [
            node
            for node, one in self._ending.items()
            if ray.wait([one.stopping], timeout=0)[0] or one.until <= time.monotonic()
        ]
        for node in over:
            ray.kill(self._ending[node].actor)
        left = self._named() if over else {}
        for node in over:
            if node not in left:
                del self._ending[node]

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
            one.told = ray.get(one.asked)
            self._failed.pop(node, None)
            self._follow(one)
            lacks: str = one.told.get("problem", "")
            one.problem = one.refused.reason if one.refused else OTHER if self._is_other(one) else lacks
        except ActorDiedError as error:
            # It could not be started; Ray does not try again.
            self._failed[node] = Failure.after(self._failed.get(node), error)
            _log.warning("the server on node %s ended: %s", node, error)
            del self._kept[node]
        except RayActorError as error:
            one.told, one.problem = None, reason(error)
        except RayError as error:
            one.told, one.problem = None, reason(error)
            ray.kill(one.actor, no_restart=False)

    def _follow(self, one: Kept) -> None:
        """Has a server serve what it should; what it refuses is tried again after a pause."""
        import ray
        from ray.exceptions import RayError

        if one.applying is not None:
            if ray.wait([one.applying], timeout=0)[0]:
                applied, one.applying = one.applying, None
                try:
                    ray.get(applied)
                except RayError as error:
                    one.refused = Failure.after(one.refused, error)
                    _log.warning("a server cannot take over its models: %s", one.refused.reason)
            # The next look tells what it serves now.
            return
        if one.told is not None and one.told["models"] == self._spec["models"]:
            one.refused = None
        elif one.refused is None or one.refused.again_at <= time.monotonic():
            one.applying = one.actor.apply.remote(self._spec["models"])


def _told(node: str, one: Kept | None, failure: Failure | None) -> dict[str, Any]:
    if one is None or one.told is None:
        problem = one.problem if one is not None else ""
        state = "unreachable" if problem else "starting"
        return {"node": node, "state": state, "problem": problem or (failure.reason if failure else "")}
    told = {name: value for name, value in one.told.items() if name not in ("models", "begun", "problem")}
    return {"node": node, "state": "ready", "problem": one.problem, **told}
