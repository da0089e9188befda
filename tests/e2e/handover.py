"""Clients that go on through the change of a server, and what stands in for a server or for systemd."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from conftest import STOP_SECONDS, Served
from servers import FRIENDLY, until
from stubs import floats_request, own_message

PREDICT = "/v1/models/half_plus_two:predict"
BODY = json.dumps({"instances": [1.0]}).encode()
RPC = "/tensorflow.serving.PredictionService/Predict"

LAUNCH = """
import os, sys
copies = [os.dup(int(passed)) for passed in sys.argv[1:3]]
for descriptor, copy in zip((3, 4), copies):
    os.dup2(copy, descriptor)
    os.set_inheritable(descriptor, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Becomes the program argv[3:], with two descriptors in the places that systemd gives them."""


@dataclass
class Load:
    """Clients of both protocols that ask without pause until the end of the block.

    lost: requests without an answer. retried: those of persistent connections that were sent again, as the
    server had closed the connection before a byte of the reply.
    """

    rest: int
    grpc: int
    answered: dict[str, int] = field(default_factory=lambda: {"closing": 0, "persistent": 0, "grpc": 0})
    lost: list[str] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        clients = (self._closing, self._closing, self._persistent, self._persistent, self._calls, self._calls)
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in clients]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Sends no more, and waits for the last answers."""
        self._done.set()
        for thread in self._threads:
            thread.join(90)

    def goes_on(self) -> bool:
        """Waits until each kind of client has a hundred answers more, or one has failed; whether none has."""
        before = dict(self.answered)
        enough = lambda: all(now > before[kind] + 100 for kind, now in self.answered.items())  # noqa: E731
        return until(lambda: self.lost or enough(), 90) and not self.lost

    def _run(self, client: Callable[[], None]) -> None:
        try:
            client()
        except Exception as error:
            self.lost.append(f"{client.__name__}: {error!r}")

    def _closing(self) -> None:
        """A new connection for each request."""
        while not self._done.is_set():
            with closing(self._connection()) as connection:
                connection.request("POST", PREDICT, BODY, {"Connection": "close"})
                self._check("closing", connection.getresponse())

    def _persistent(self) -> None:
        """One connection for as long as the server keeps it. A request that it closes on is sent again."""
        connection = self._connection()
        is_new = True
        while not self._done.is_set():
            try:
                connection.request("POST", PREDICT, BODY)
                reply = connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                connection.close()
                if is_new:
                    raise
                self.retried.append(repr(error))
                is_new = True
                continue
            is_new = reply.will_close
            self._check("persistent", reply)
        connection.close()

    def _calls(self) -> None:
        """One channel, which connects again by itself."""
        request = floats_request("half_plus_two", 1.0).SerializeToString()
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc}") as channel:
            ask = channel.unary_unary(RPC, response_deserializer=own_message("PredictResponse").FromString)
            while not self._done.is_set():
                assert list(ask(request, timeout=60).outputs["y"].float_val) == [2.5]
                self.answered["grpc"] += 1

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.rest, timeout=60)

    def _check(self, kind: str, reply: http.client.HTTPResponse) -> None:
        content = reply.read()
        assert (reply.status, json.loads(content)) == (200, {"predictions": [2.5]}), content
        self.answered[kind] += 1


@dataclass
class Successor:
    """Stands in for the next server at a handover socket: it gets the ports, and does nothing with them."""

    connection: socket.socket
    ports: dict[str, socket.socket]

    def ready(self) -> dict[str, object]:
        """Says that it accepts; returns the former server's answer."""
        self.connection.send(b'{"ready": true}')
        answer = json.loads(self.connection.recv(4096))
        assert isinstance(answer, dict)
        return answer


@contextmanager
def successor(path: Path) -> Iterator[Successor]:
    """Connects to the server at ``path``, and ends without a word."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.send(json.dumps({"handover": 1, "pid": os.getpid()}).encode())
        data, descriptors, _, _ = socket.recv_fds(connection, 4096, 8)
        sockets = [socket.socket(fileno=one) for one in descriptors]
        try:
            yield Successor(connection, dict(zip(json.loads(data)["ports"], sockets, strict=True)))
        finally:
            for one in sockets:
                one.close()


class Systemd:
    """Stands in for systemd: holds the sockets, starts servers on them, and is told how they stand."""

    def __init__(self, folder: Path, *arguments: str | Path) -> None:
        self.rest, self.grpc = (socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(2))
        self.notices: list[str] = []
        self._arguments = arguments
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._path = folder / "notify"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while notice := self._notify.recv(4096):
            self.notices.append(notice.decode())

    def ports(self) -> tuple[int, int]:
        """Returns the ports of REST and gRPC."""
        return self.rest.getsockname()[1], self.grpc.getsockname()[1]

    def close(self) -> None:
        """Ends, with its sockets."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self._path))
        for one in (self.rest, self.grpc, self._notify):
            one.close()

    @contextmanager
    def service(self, *more: str, names: str = "rest:grpc") -> Iterator[Served]:
        """Runs a server with the sockets as descriptors 3 and 4; it has to be stopped within the block."""

        command = [*FRIENDLY, "--port=0", *map(str, self._arguments), *more]
        passed = [self.rest.fileno(), self.grpc.fileno()]
        named = {"LISTEN_FDNAMES": names} if names else {}
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *map(str, passed), *command],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "LISTEN_FDS": "2", "NOTIFY_SOCKET": str(self._path), **named},
            pass_fds=passed,
        )
        served = Served(process)
        try:
            yield served
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(STOP_SECONDS)
            served.wait_closed()
