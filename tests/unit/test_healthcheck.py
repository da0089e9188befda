"""The image's health check: what it asks of a server that it may not ask everything."""

from __future__ import annotations

import socket
from pathlib import Path

import healthcheck
import pytest


def running(folder: Path, *flags: str) -> Path:
    """Writes what Linux tells of a server with these flags."""
    process = folder / "1"
    process.mkdir()
    words = ["tensorflow_model_server", *flags]
    (process / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    return folder


@pytest.mark.parametrize(
    "flag", ["--tls_client_ca_file=ca.pem", "--auth_file=tokens", "--proxy_protocol=require"]
)
def test_an_open_port_is_enough_where_the_check_may_not_ask(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        processes = running(tmp_path, f"--rest_api_port={port}", flag)
        assert healthcheck.trouble(processes) == ""
    assert str(port) in healthcheck.trouble(processes)


def test_elsewhere_it_asks(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.close()
        assert "nothing answers" in healthcheck.trouble(running(tmp_path, f"--rest_api_port={port}"))
