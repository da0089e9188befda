"""Servable on Ray: as replicas of Ray Serve, and as servers that Ray keeps running.

    import servable.ray
    from ray import serve

    serve.run(servable.ray.deployment("s3://bucket/models/half_plus_two", replicas={"max_replicas": 4}))

``deployments.py`` makes applications of Ray Serve, whose replicas are ``replica.py``; ``grpc_service.py``
tells Ray's gRPC proxies of the services. ``requested_model.py`` finds out for which model a request is, and
``multiplexing.py`` has it loaded, if by ``finding.py`` it is there, which ``looks.py`` waits for, and by
``failures.py`` it has not just failed; ``scope.py`` reads what HTTP says. ``server_actors.py`` and
``node_servers.py`` keep servers with ports of their own on the nodes. ``models.py`` reads what is to be
served; ``configuration.py`` reads a file with all of it, by ``yaml_text.py``, which ``running.py`` runs.
``cluster_address.py`` tries an address before Ray does; ``reasons.py`` finds the reason in Ray's messages.
Ray is imported where it is needed, by ``package.py`` first, and nothing of it by this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servable.ray.deployments import deployment as deployment
    from servable.ray.grpc_service import GRPC_FUNCTIONS as GRPC_FUNCTIONS
    from servable.ray.node_servers import Servers as Servers, servers as servers

__all__ = ["GRPC_FUNCTIONS", "Servers", "deployment", "servers"]

_HOMES = {
    "GRPC_FUNCTIONS": "servable.ray.grpc_service",
    "Servers": "servable.ray.node_servers",
    "deployment": "servable.ray.deployments",
    "servers": "servable.ray.node_servers",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
