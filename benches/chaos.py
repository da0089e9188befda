"""A Ray cluster under load in which things go wrong, with every request counted.

    GRPC_ENABLE_FORK_SUPPORT=0 PYTHONPATH=python build/ray/bin/python benches/chaos.py \\
        [--seconds 30] [--away 60]

Clients of both APIs ask Ray Serve's replicas, and others the servers that Ray keeps on each node. Meanwhile
nodes are killed and added, the process of a replica and that of a server are killed, a version is rolled by
the store and one by the configuration, replicas become more and fewer, and the store is away for a minute,
with a replica killed while it is. At the end it prints what became of all requests: answered at the first
attempt, retried, failed. Ends with status 1 if one has failed, if one was answered wrongly, or if an attempt
failed at another time than that of a kill: under way then, or begun within the second after it
(``--within``).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc_points import predict_request
from known_servers import KnownServers
from points import Feed
from ray_cluster import ON_WORKERS, RayCluster, replicas, running
from s3_store import BUCKET, Store
from steady_load import Grpc, Rest, SteadyLoad, Tally

MODEL = Path(__file__).resolve().parent.parent / "tests" / "models" / "half_plus_two" / "1"
BASE = "models/half"
BODY = b'{"instances": [1.0, 2.0, 5.0]}'
ANSWER = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
PREDICT = "/tensorflow.serving.PredictionService/Predict"
FLAGS: dict[str, Any] = {"remote_poll_wait_seconds": 1}
WAIT_SECONDS = 180.0


@dataclass
class Chaos:
    """What is there, and what has happened: kills by their times."""

    cluster: RayCluster
    store: Store
    servers: Any = None
    kills: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Prints a line with the time."""
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def deploy(self, count: int, versions: Any = "latest") -> None:
        """Runs the application with so many replicas."""
        from ray import serve

        import servable.ray

        models = {"half": {"path": f"s3://{BUCKET}/{BASE}", "versions": versions}}
        options = {"ray_actor_options": ON_WORKERS, "health_check_period_s": 2}
        made = servable.ray.deployment(models, replicas=count, options=options, **FLAGS)
        serve.run(made, name="chaos", route_prefix="/chaos")

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Waits for something; ends the program if it does not happen."""
        from ray.exceptions import RayError

        until, is_so = time.monotonic() + WAIT_SECONDS, False
        while not is_so:
            if time.monotonic() > until:
                raise SystemExit(f"chaos: waited {WAIT_SECONDS:g} s in vain until {what}")
            time.sleep(0.1)
            # The keeper may have been on a node that was killed.
            with suppress(RayError):
                is_so = condition()
        self.say(what)

    def kill_node(self) -> None:
        """Kills a node with all that runs on it, and adds another."""
        node = self.cluster.workers[0]
        self.kills.append(time.monotonic())
        self.cluster.kill(node)
        self.say("a node was killed")
        self.cluster.added()
        self.say("a node was added")
        self.until("all replicas answer again", is_whole)
        self.until("all servers answer again", lambda: len(self.servers.addresses()) == 3)

    def kill_replica(self) -> None:
        """Kills the process of a replica."""
        identity, replica = next(iter(replicas("chaos").items()))
        self.kills.append(time.monotonic())
        os.kill(replica.pid, signal.SIGKILL)
        self.say("a replica's process was killed")
        self.until("it was replaced", lambda: identity not in replicas("chaos") and is_whole())

    def kill_server(self) -> None:
        """Kills the process of a server."""
        pid = self.servers.status()[0]["pid"]
        self.kills.append(time.monotonic())
        os.kill(pid, signal.SIGKILL)
        self.say("a server's process was killed")
        self.until(
            "it was started again",
            lambda: (
                len([one for one in self.servers.status() if one["state"] == "ready" and one["pid"] != pid])
                == 3
            ),
        )


def is_whole() -> bool:
    """Returns whether three replicas answer whose processes are there: Ray learns late of an end."""
    return running("chaos") >= 3 and len(replicas("chaos")) >= 3


def main() -> None:
    """Runs it all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of quiet after each event")
    parser.add_argument("--away", type=float, default=60.0, help="seconds that the store is away")
    parser.add_argument(
        "--within", type=float, default=1.0, help="seconds after a kill in which attempts fail"
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="servable-chaos-"))
        store = Store()
        stack.callback(store.close)
        os.environ.update(store.environment, XDG_CACHE_HOME=folder)
        store.put_version(MODEL, BASE, 1)
        cluster = RayCluster(workers=3)
        stack.callback(cluster.close)
        chaos = Chaos(cluster, store)
        begin(chaos)
        known = stack.enter_context(KnownServers(chaos.servers.status))
        loads = {name: SteadyLoad(made) for name, made in clients(chaos, known).items()}
        for load in loads.values():
            stack.enter_context(load)
        rest(loads, options.seconds)
        happen(chaos, loads, options.seconds, options.away)
        tallies = {name: load.end() for name, load in loads.items()}
    sys.exit(0 if tell(chaos, tallies, options.within) else 1)


def begin(chaos: Chaos) -> None:
    """Starts the replicas and the servers."""
    import servable.ray

    chaos.deploy(3)
    chaos.servers = servable.ray.servers(
        {"half": f"s3://{BUCKET}/{BASE}"}, name="chaos", resource="worker", **FLAGS
    )
    chaos.servers.wait(3)
    chaos.say("3 nodes, 3 replicas, 3 servers")


def clients(chaos: Chaos, known: KnownServers) -> dict[str, list[Any]]:
    """Returns makers of clients by what they ask."""
    cluster = chaos.cluster
    message = predict_request("half", {"x": Feed("float", (1,), b"\x00\x00\x00\x40")})

    def by_grpc(addresses: Any) -> Grpc:
        return Grpc(addresses, PREDICT, message, lambda reply: b"\x00\x00\x40\x40" in reply)

    by_rest = Rest(cluster.http, "/chaos/v1/models/half:predict", BODY, [ANSWER])
    direct = Rest(known.rest, "/v1/models/half:predict", BODY, [ANSWER])
    return {
        "Ray Serve, REST": [by_rest] * 2,
        "Ray Serve, gRPC": [by_grpc(cluster.grpc)] * 2,
        "servers, REST": [direct] * 2,
        "servers, gRPC": [by_grpc(known.grpc)] * 2,
    }


def happen(chaos: Chaos, loads: dict[str, SteadyLoad], seconds: float, away: float) -> None:
    """Has everything happen, with some quiet after each."""
    events: list[Callable[[], None]] = [
        chaos.kill_replica,
        chaos.kill_server,
        chaos.kill_node,
        lambda: roll_in_the_store(chaos, 2),
        lambda: roll_by_configuration(chaos, [1]),
        lambda: scale(chaos, 5),
        lambda: scale(chaos, 3),
        lambda: be_away(chaos, away),
        lambda: roll_in_the_store(chaos, 3),
        chaos.kill_node,
    ]
    for event in events:
        event()
        rest(loads, seconds)


def rest(loads: dict[str, SteadyLoad], seconds: float) -> None:
    """Lets every client be answered for a while."""
    time.sleep(seconds)
    for name, load in loads.items():
        if not load.more(20, WAIT_SECONDS):
            raise SystemExit(f"chaos: {name}: nothing is answered any more: {load.tally.reasons()}")


def roll_in_the_store(chaos: Chaos, version: int) -> None:
    """Puts a version into the store, which the servers and replicas find by themselves."""
    chaos.store.put_version(MODEL, BASE, version)
    chaos.say(f"version {version} was put into the store")
    chaos.until(f"every server has version {version}", lambda: versions(chaos) == {version})


def roll_by_configuration(chaos: Chaos, wanted: list[int]) -> None:
    """Has the replicas serve a version again that was before, and then the newest."""
    before = replicas("chaos").keys()
    chaos.deploy(3, wanted)
    chaos.say(f"the configuration wanted versions {wanted}")
    chaos.deploy(3)
    chaos.say("and the newest again")
    assert replicas("chaos").keys() == before, "replicas were replaced"


def scale(chaos: Chaos, count: int) -> None:
    """Changes the number of replicas."""
    chaos.deploy(count)
    chaos.until(f"there are {count} replicas", lambda: running("chaos") == count)


def be_away(chaos: Chaos, seconds: float) -> None:
    """Has the store answer nothing for so long, and a replica be killed meanwhile."""
    chaos.store.leave()
    chaos.say("the store is away")
    until = time.monotonic() + seconds
    time.sleep(min(10.0, seconds / 3))
    chaos.kill_replica()
    time.sleep(max(0.0, until - time.monotonic()))
    chaos.store.come_back()
    chaos.say("the store is back")


def versions(chaos: Chaos) -> set[int]:
    """Returns the versions that the servers have, all of them together."""
    import json
    import urllib.request

    found: set[int] = set()
    for address in chaos.servers.addresses():
        with urllib.request.urlopen(f"http://{address}/v1/models/half", timeout=30) as reply:
            states = json.load(reply)["model_version_status"]
        found |= {int(one["version"]) for one in states if one["state"] == "AVAILABLE"}
    return found


def tell(chaos: Chaos, tallies: dict[str, Tally], within: float) -> bool:
    """Prints what became of the requests; returns whether all is as documented."""
    print(f"\n{len(chaos.kills)} kills in {time.monotonic() - chaos.began:.0f} s\n")
    print(f"{'':20}{'answered':>10}{'retried':>9}{'failed':>8}{'p99 ms':>9}   attempts that failed")
    is_right = True
    for name, tally in tallies.items():
        late = tally.late(chaos.kills, within)
        latencies = sorted(tally.latencies)
        p99 = 1000 * latencies[int(0.99 * len(latencies))] if latencies else 0.0
        reasons = ", ".join(f"{count} x {why}" for why, count in tally.reasons().items())
        print(
            f"{name:20}{tally.answered:>10}{tally.retried:>9}{len(tally.failed):>8}{p99:>9.1f}   "
            f"{len(tally.attempts)}: {reasons}"
        )
        for one in late:
            after = min((one.began - at for at in chaos.kills if at <= one.began), default=float("nan"))
            print(f"{'':20}{after:.1f} s after a kill: {one.why}")
        for one in tally.failed:
            print(f"{'':20}failed: {one.why}")
        is_right = is_right and not tally.failed and not late
    return is_right


if __name__ == "__main__":
    main()
