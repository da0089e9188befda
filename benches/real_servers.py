"""The servers of ``real.py``: Servable with one model, and another one, running or started alike."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from models import Model
from process import START_SECONDS, Process, wait_until
from start import Command, free_port

REST_PORT = r"REST API at:\S+?:(\d+)"
GRPC_PORT = r"Running gRPC ModelServer at \S+:(\d+)"


@dataclass(frozen=True)
class Server:
    """A server: HOST:PORT of each protocol (None: not served), its process if that is known.

    fresh: no request has reached the model yet.
    """

    rest: str | None
    grpc: str | None
    pid: int | None
    fresh: bool


@contextmanager
def servable(command: Command, model: Model, flags: Sequence[str]) -> Iterator[Server]:
    """Runs Servable with the model alone."""
    with command.serve(model.base, 0, flags) as process:
        rest, grpc = (process.wait_for(pattern)[1] for pattern in (REST_PORT, GRPC_PORT))
        process.wait_for(r"ready: 1 of 1 models")
        yield Server(f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}", process.pid, fresh=True)


@contextmanager
def started(command: str, model: Model, log: Path) -> Iterator[Server]:
    """Runs another server by a command with {name}, {base}, {rest_port} and {grpc_port} in it.

    It is ready when it takes connections on its REST port: TensorFlow Serving opens that once it has loaded.
    """
    rest, grpc = free_port(), free_port()
    words = shlex.split(command)
    given = {"name": model.name, "base": model.base, "rest_port": rest, "grpc_port": grpc}

    def listens() -> bool:
        process.printed("$")  # raises if the process has ended
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", rest)) == 0

    with Process([word.format(**given) for word in words], log) as process:
        wait_until(listens, START_SECONDS, f"{words[0]} to listen on port {rest}", every=0.05)
        yield Server(f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}", process.pid, fresh=True)


def running(url: str | None, grpc: str | None, pid: int | None) -> Server:
    """Returns a server that was started by somebody else, with every model."""
    return Server(urlsplit(url).netloc if url else None, grpc, pid, fresh=False)
