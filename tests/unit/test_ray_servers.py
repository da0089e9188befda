"""A handle of servers on nodes; and Ray as it may be installed."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from fake_ray import ActorDiedError, FakeRay, Method, fake_ray as fake_ray

import servable.ray
from servable.errors import FailedPreconditionError, MissingPackageError
from servable.ray.node_servers import Servers
from servable.ray.package import ray_and_serve


class GoneKeeper:
    """A keeper that another one has followed."""

    def __init__(self) -> None:
        self.status, self.end = Method(), Method()
        self.status.answer = self.end.answer = ActorDiedError("The actor died")


def test_a_handle_of_servers_that_were_begun_again_says_so(fake_ray: FakeRay) -> None:
    servers = Servers(GoneKeeper(), "all")
    calls: list[Any] = [servers.status, servers.addresses, servers.close, lambda: servers.wait(1)]
    for call in calls:
        with pytest.raises(FailedPreconditionError, match="the servers all were closed, or begun again"):
            call()
    assert not fake_ray.killed


@pytest.mark.parametrize(
    ("version", "is_enough"),
    [("1.13.0", False), ("2.59.1", False), ("2.60.0", True), ("2.100", True), ("3.0.0.dev0", True)],
)
def test_a_ray_that_is_too_old_is_named(version: str, is_enough: bool, fake_ray: FakeRay) -> None:
    fake_ray.__version__ = version  # type: ignore[attr-defined]
    if is_enough:
        assert ray_and_serve() == (fake_ray, sys.modules["ray.serve"])
        return
    for call in (ray_and_serve, lambda: servable.ray.servers("/m"), lambda: servable.ray.deployment("/m")):
        with pytest.raises(MissingPackageError, match=f"Ray 2.60 or newer is needed, got {version}"):
            call()
