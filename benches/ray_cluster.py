"""A Ray cluster of several nodes on this machine, each with a raylet and an object store of its own."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import Any

import psutil

OBJECT_STORE_BYTES = 100 << 20
WORKER = "worker"
"""The resource of nodes other than the head."""
ON_WORKERS = {"num_cpus": 1, "resources": {WORKER: 1}}
"""Options of actors that run beside the head, which cannot be killed."""


def free_port() -> int:
    """Returns a port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class RayCluster:
    """The cluster: a head, where Ray Serve's controller is, and workers. Connects this process to it."""

    def __init__(self, workers: int, cpus: int = 8) -> None:
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster

        from servable.ray.grpc_service import GRPC_FUNCTIONS

        self._cpus = cpus
        self.http_port, self.grpc_port = free_port(), free_port()
        head = {"num_cpus": 2, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self.workers = [self.add() for _ in range(workers)]
        ray.init(address=self.address, log_to_driver=False)
        serve.start(
            proxy_location="EveryNode",
            http_options={"host": "127.0.0.1", "port": self.http_port},
            grpc_options={"port": self.grpc_port, "grpc_servicer_functions": list(GRPC_FUNCTIONS)},
        )

    def add(self) -> Any:
        """Adds a worker, and returns it once it is there."""
        return self._cluster.add_node(
            num_cpus=self._cpus, resources={WORKER: 100}, object_store_memory=OBJECT_STORE_BYTES
        )

    def added(self) -> Any:
        """Adds a worker that is one of ``workers`` from now on."""
        node = self.add()
        self.workers.append(node)
        return node

    def kill(self, node: Any) -> None:
        """Ends every process of a worker at once, as if its machine had lost its power."""
        self.workers.remove(node)
        (raylet,) = node.all_processes["raylet"]
        processes = [psutil.Process(raylet.process.pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._cluster.remove_node(node, allow_graceful=False)

    def http(self) -> list[str]:
        """Returns the address of Ray's HTTP proxies, which share one port here."""
        return [f"127.0.0.1:{self.http_port}"]

    def grpc(self) -> list[str]:
        """The same of gRPC's."""
        return [f"127.0.0.1:{self.grpc_port}"]

    def close(self) -> None:
        """Ends it all."""
        import ray
        from ray import serve

        with contextlib.suppress(Exception):
            serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()


@dataclass(frozen=True)
class Replica:
    """A replica whose process is there, which may still be starting."""

    node: str
    pid: int


def replicas(application: str) -> dict[str, Replica]:
    """Returns the replicas of an application by the identity of their actors."""
    from ray._private.state import actors

    return {
        identity: Replica(one["Address"]["NodeID"], one["Pid"])
        for identity, one in actors(actor_state_name="ALIVE").items()
        if one["Name"].startswith(f"SERVE_REPLICA::{application}#")
    }


def running(application: str) -> int:
    """Returns how many of its replicas answer."""
    from ray import serve

    found = serve.status().applications.get(application)
    if found is None:
        return 0
    states = found.deployments["servable"].replica_states
    return sum(count for state, count in states.items() if str(getattr(state, "value", state)) == "RUNNING")
