"""Servers on the nodes of a Ray cluster, each with ports of its own: no proxy of Ray's is on a request's way.

Ray places and restarts them; who asks them chooses among their addresses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from servable.embedded.configuration import parsed
from servable.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    UsageError,
)
from servable.ray.models import PLACE, read_models, shown
from servable.ray.package import ray_and_serve

if TYPE_CHECKING:
    from servable.embedded.configuration import Flag

KEPT_OPTIONS = ("name", "namespace", "lifetime", "get_if_exists", "scheduling_strategy")
"""Options of actors by which servers are found again, and are on their nodes."""
_GLANCE_SECONDS = 0.2


class Servers:
    """The servers of one name, in a cluster that ``ray.init`` has connected to."""

    def __init__(self, keeper: Any, name: str) -> None:
        self._keeper = keeper
        self._name = name

    def status(self) -> list[dict[str, Any]]:
        """Returns each server: ``node``, ``state`` (``ready``, ``starting``, ``unreachable``, ``stopping``),
        ``rest`` and ``grpc`` (``host:port``), ``pid``, ``problem``: one that is ready may have one, too.

        Raises ``FailedPreconditionError`` if they were closed, or begun again by another call.
        """
        import ray

        with self._no_other():
            found: list[dict[str, Any]] = ray.get(self._keeper.status.remote())
        return found

    def addresses(self, protocol: str = "rest") -> list[str]:
        """Returns ``host:port`` of the servers that are ready, of ``rest`` or ``grpc``."""
        return [one[protocol] for one in self.status() if protocol in one]

    def wait(self, count: int, seconds: float = 120.0) -> list[str]:
        """Waits until so many servers are ready; returns the addresses of REST.

        Raises ``DeadlineExceededError`` with what is known of the others.
        """
        until = time.monotonic() + seconds
        while len(found := self.addresses()) < count:
            if time.monotonic() > until:
                others = "; ".join(
                    f"node {one['node']}: {one['state']} {one['problem']}".rstrip()
                    for one in self.status()
                    if one["state"] != "ready"
                )
                raise DeadlineExceededError(
                    "DEADLINE_EXCEEDED",
                    f"{len(found)} of {count} servers are ready; "
                    + (others or "the cluster has no other node for one: see ray.nodes(), and resource"),
                )
            time.sleep(_GLANCE_SECONDS)
        return found

    def close(self, seconds: float = 10.0) -> None:
        """Ends the servers; requests under way are answered, for so many seconds at most.

        Raises ``FailedPreconditionError`` if they were closed, or begun again by another call.
        """
        import ray

        with self._no_other():
            ray.get(self._keeper.end.remote(seconds))
            ray.kill(self._keeper)

    @contextmanager
    def _no_other(self) -> Iterator[None]:
        """Says why the keeper is gone."""
        from ray.exceptions import ActorDiedError

        try:
            yield
        except ActorDiedError:
            raise FailedPreconditionError(
                "FAILED_PRECONDITION",
                f"the servers {self._name} were closed, or begun again by another call of "
                "servable.ray.servers: what that has returned is to be asked",
            ) from None


def servers(
    models: str | os.PathLike[str] | Mapping[str, Any],
    *,
    name: str = "servable",
    resource: str | None = None,
    options: Mapping[str, Any] | None = None,
    **flags: Flag,
) -> Servers:
    """Has a server on every node of the cluster, also on those that come later; returns at once.

    models: as for ``deployment``. name: of them all; called again with it, those that run take over the
    models, without a restart; other flags and options have one after the other ended and begun anew, and
    those on nodes that are not meant any more end. resource: only nodes that have it. options: of Ray for
    each actor, such as ``{"num_cpus": 4}``. flags: those of ``servable serve``; without ``port`` and
    ``rest_api_port``, the ports are free ones. They go on when the program ends: ``close`` ends them.

    Raises ``UsageError`` for what is wrong, and ``MissingPackageError`` without Ray.
    """
    wanted = read_models(models)
    if PLACE in wanted:
        raise UsageError(f"models: a path with {PLACE} is for any model: it needs servable.ray.deployment")
    found = {one: model.plain() for one, model in wanted.items()}
    parsed(flags)
    _check_options(options)
    ray, _ = ray_and_serve()
    from servable.ray.server_actors import KEEPER, NAMESPACE, Keeper, ServerProcess

    chosen = {"num_cpus": 1, **(options or {})}
    try:
        ray.remote(ServerProcess).options(**chosen)
    except (TypeError, ValueError) as error:
        raise UsageError(f"options: Ray refuses them: {' '.join(str(error).split())}") from None
    spec = {
        "name": name,
        "models": found,
        "flags": dict(flags),
        "resource": resource,
        "options": chosen,
    }
    place = {"name": KEEPER.format(name), "namespace": NAMESPACE}
    _replaced(ray, place)
    # Calls wait for a keeper that Ray is about to start again: each may be done twice.
    lasting = {"lifetime": "detached", "max_restarts": -1, "max_task_retries": -1}
    keeper = ray.remote(Keeper).options(**place, **lasting, num_cpus=0)
    return Servers(keeper.remote(spec), name)


def _check_options(options: object) -> None:
    if options is not None and not isinstance(options, Mapping):
        raise UsageError(f"options: expected a mapping of Ray's options of actors, got {shown(options)}")
    for key in KEPT_OPTIONS:
        if key in (options or {}):
            raise UsageError(f"options: {key} is set for each server, by which it is found and placed")


def _replaced(ray: Any, place: Mapping[str, str]) -> None:
    """Ends a keeper of that name, whose servers go on."""
    try:
        former = ray.get_actor(**place)
    except ValueError:
        return
    ray.kill(former)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            ray.get_actor(**place)
        except ValueError:
            return
        time.sleep(_GLANCE_SECONDS)
