"""Servers with ports of their own that Ray keeps on every node."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from known_servers import KnownServers
from servers import MODELS, until
from slow_web import SlowWeb
from steady_load import Rest, SteadyLoad

import servable.ray
from servable.errors import DeadlineExceededError, FailedPreconditionError
from servable.ray.server_actors import KEEPER, SILENCE_SECONDS

HALF = str(MODELS / "half_plus_two")


def ask(address: str, model: str) -> tuple[int, Any]:
    client = http.client.HTTPConnection(address, timeout=30)
    try:
        client.request("POST", f"/v1/models/{model}:predict", b'{"instances": [1.0]}')
        reply = client.getresponse()
        return reply.status, json.loads(reply.read())
    except OSError as error:
        return 0, str(error)
    finally:
        client.close()


def test_there_is_one_on_every_node_that_is_there(cluster: Any) -> None:
    half = HALF
    servers = servable.ray.servers(half, name="all", resource="worker")
    try:
        addresses = servers.wait(3)
        assert len(set(addresses)) == 3 and len(set(servers.addresses("grpc"))) == 3
        assert [ask(one, "half_plus_two") for one in addresses] == [(200, {"predictions": [2.5]})] * 3

        first = servers.status()[0]
        os.kill(first["pid"], signal.SIGKILL)
        assert until(lambda: len(servers.addresses()) == 3 and first["pid"] not in pids(servers), 60)
        assert all(ask(one, "half_plus_two")[0] == 200 for one in servers.addresses())

        cluster.added()
        addresses = servers.wait(4)
        before = pids(servers)
        servers = servable.ray.servers({"other": half}, name="all", resource="worker")
        servers.wait(4)
        assert until(lambda: all(ask(one, "other")[0] == 200 for one in servers.addresses()), 60)
        assert pids(servers) == before and ask(addresses[0], "half_plus_two")[0] == 404

        cluster.kill(cluster.workers[-1])
        assert until(lambda: len(servers.status()) == 3, 120)
        assert all(ask(one, "other")[0] == 200 for one in servers.addresses())
        addresses = servers.addresses()
    finally:
        servers.close()
    assert until(lambda: all(ask(one, "other")[0] == 0 for one in addresses), 30)


def test_a_handle_waits_for_a_keeper_that_is_started_again(cluster: Any) -> None:
    servers = servable.ray.servers(HALF, name="waits", resource="that no node has")
    try:
        assert servers.status() == []
        before = keeper_pid("waits")
        os.kill(before, signal.SIGKILL)
        assert until(lambda: not psutil.pid_exists(before), 30)
        assert servers.status() == [] and keeper_pid("waits") != before
    finally:
        servers.close()

    def refused() -> str:
        try:
            servers.status()
        except FailedPreconditionError as error:
            return error.message
        return ""

    # Ray ends the keeper in its own time.
    assert until(lambda: refused().startswith("the servers waits were closed"), 30)


def keeper_pid(name: str) -> int:
    from ray._private.state import actors

    (found,) = [
        one["Pid"] for one in actors(actor_state_name="ALIVE").values() if one["Name"] == KEEPER.format(name)
    ]
    return int(found)


def pids(servers: servable.ray.Servers) -> set[int]:
    return {one["pid"] for one in servers.status() if one["state"] == "ready"}


class Kept:
    """The servers of a name, that clients ask while their keepers change."""

    def __init__(self, cluster: Any, name: str, **flags: Any) -> None:
        self.count = len(cluster.workers)
        self._name = name
        self._flags = flags
        self.servers: Any = None

    def begin(self, models: Mapping[str, str] | None = None, resource: str = "worker", **flags: Any) -> None:
        """Has these models served beside that of the clients."""
        what = {"half_plus_two": HALF, **(models or {})}
        more = {**self._flags, **flags}
        self.servers = servable.ray.servers(what, name=self._name, resource=resource, **more)

    def problems(self) -> list[str]:
        return [one["problem"] for one in self.servers.status() if one["state"] == "ready"]

    def have(self, model: str) -> bool:
        return [ask(one, model)[0] for one in self.servers.addresses()] == [200] * self.count

    @contextmanager
    def load(self) -> Iterator[SteadyLoad]:
        answer = b'{\n    "predictions": [2.5\n    ]\n}'
        with KnownServers(lambda: self.servers.status()) as known:
            made = Rest(known.rest, "/v1/models/half_plus_two:predict", b'{"instances": [1.0]}', [answer])
            with SteadyLoad([made, made]) as load:
                yield load


def test_a_change_that_loads_for_long_cuts_nothing(cluster: Any, tmp_path: Path) -> None:
    kept = Kept(cluster, "slow", model_cache_dir=str(tmp_path), max_num_load_retries=0)
    kept.begin()
    try:
        kept.servers.wait(kept.count)
        before = pids(kept.servers)
        with kept.load() as load, SlowWeb(MODELS / "half_plus_two" / "1") as web:
            late = {"late": f"{web.url}/late.zip"}
            kept.begin(late)
            silent = time.monotonic() + SILENCE_SECONDS + 5
            while time.monotonic() < silent:
                assert load.more(50)
            assert pids(kept.servers) == before
            web.goes_on.set()
            assert until(lambda: kept.have("late"), 60)
            # One that cannot be loaded is told, and the others go on.
            kept.begin({"unknown_op": str(MODELS / "unknown_op")})
            assert until(lambda: sum("not registered" in one for one in kept.problems()) == kept.count, 60), (
                kept.servers.status()
            )
            kept.begin(late)
            assert until(lambda: kept.problems() == [""] * kept.count and kept.have("late"), 60), (
                kept.servers.status()
            )
            assert pids(kept.servers) == before
            assert load.more(50)
        tally = load.tally
        assert tally.answered and not tally.attempts and not tally.failed, tally.reasons()
    finally:
        kept.servers.close()


def test_other_flags_and_nodes_are_taken_over(cluster: Any) -> None:
    kept = Kept(cluster, "other")
    kept.begin()
    try:
        kept.servers.wait(kept.count)
        before, addresses = pids(kept.servers), kept.servers.addresses()
        with kept.load() as load:
            kept.begin(batching="auto")
            assert until(
                lambda: len(pids(kept.servers)) == kept.count and not pids(kept.servers) & before, 300
            ), kept.servers.status()
            assert load.more(50)
        assert not load.tally.failed, load.tally.reasons()
        assert kept.problems() == [""] * kept.count
        kept.begin(resource="nowhere", batching="auto")
        assert until(lambda: kept.servers.status() == [], 60), kept.servers.status()
        assert all(ask(one, "half_plus_two")[0] == 0 for one in addresses)
    finally:
        kept.servers.close()


def test_what_cannot_start_is_told(cluster: Any) -> None:
    servers = servable.ray.servers(
        str(MODELS / "unknown_op"), name="broken", resource="worker", max_num_load_retries=0
    )
    try:
        with pytest.raises(DeadlineExceededError, match="0 of 1 servers are ready"):
            servers.wait(1, 15)
        assert until(lambda: any("not registered" in one["problem"] for one in servers.status()), 30), (
            servers.status()
        )
    finally:
        servers.close()
