"""Connections over both protocols: sockets, time limits, headers that cannot be sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc_stub
import http_stub
import pytest

from servable.client.limits import LONGEST_SECONDS
from servable.errors import InvalidArgumentError

Ask = Callable[..., Any]
Start = Callable[..., AbstractContextManager[Any]]

STARTS: dict[str, Start] = {
    "REST": lambda socket=None: http_stub.answering(http_stub.OK, socket=socket),
    "gRPC": lambda socket=None: grpc_stub.answering(grpc_stub.no_versions, socket),
}


@pytest.fixture(params=STARTS)
def start(request: pytest.FixtureRequest) -> Start:
    """``start(socket=None)``: runs a stub without any versions."""
    return STARTS[request.param]


def test_a_unix_socket(ask: Ask, start: Start, tmp_path: Path) -> None:
    with start(tmp_path / "s") as stub:
        assert ask(stub.address, "status", "m") == []


@pytest.mark.parametrize("seconds", [float("inf"), LONGEST_SECONDS])
def test_the_longest_limits(ask: Ask, start: Start, seconds: float) -> None:
    with start() as stub:
        assert ask(stub.address, "status", "m", timeout=seconds, connect_timeout=seconds) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "geh\u00e4im"),
        ("x", "\ud800"),
        ("x", "a\nb"),
        ("x", 1),
        ("\u00e4", "a"),
        ("a b", "a"),
        ("", "a"),
    ],
)
def test_headers_that_cannot_be_sent(ask: Ask, start: Start, name: str, value: Any) -> None:
    with start() as stub, pytest.raises(InvalidArgumentError, match="header") as raised:
        ask(stub.address, "status", "m", headers={name: value})
    assert "geh" not in str(raised.value)
