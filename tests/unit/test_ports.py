"""Free and taken ports, and their owners."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from servable.serving.ports import is_free, owner, port_hint


def test_port_0_and_a_port_just_released_are_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert is_free("127.0.0.1:0")
    assert is_free(f"127.0.0.1:{port}")


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_that_is_listened_on_is_taken(reuse_port: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=reuse_port) as server:
        assert not is_free(f"127.0.0.1:{server.getsockname()[1]}")


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        is_free("192.0.2.1:1")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_owner_is_this_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert owner(port).endswith(f"(pid {os.getpid()})")
    assert owner(port) == ""


def test_a_taken_port_names_its_owner_and_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = port_hint(f"127.0.0.1:{port}", "rest_api_port")
    assert text.startswith(f"port {port} is taken by ")
    assert text.endswith("choose another with --rest_api_port=N, or take it over with --handover_socket")
