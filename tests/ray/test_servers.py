"""Servers with ports of their own that Ray keeps on every node."""

from __future__ import annotations

import http.client
import json
import os
import signal
from typing import Any

import pytest
from servers import MODELS, until

import servable.ray
from servable.errors import DeadlineExceededError


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
    half = str(MODELS / "half_plus_two")
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


def pids(servers: servable.ray.Servers) -> set[int]:
    return {one["pid"] for one in servers.status() if one["state"] == "ready"}


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
