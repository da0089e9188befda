"""HTTP/1.1 on the wire: requests that no client library would send, and every byte received."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from conftest import Served

PATIENCE = 30.0


@dataclass
class Reply:
    """One response. Header names are in lower case; ``closed`` if its end was the connection's."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool = False

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    @property
    def error(self) -> str:
        """The message of a JSON error; fails if it is not one."""
        assert self.headers.get("content-type") == "application/json", self
        error = json.loads(self.body)
        assert list(error) == ["error"], self
        assert isinstance(error["error"], str) and error["error"], self
        return error["error"]


@dataclass
class Wire:
    """A connection to a server. patience: seconds without a byte after which a test fails."""

    served: Served
    patience: float = PATIENCE
    sock: socket.socket = field(init=False)
    buffer: bytes = b""

    def __post_init__(self) -> None:
        assert self.served.rest_port is not None
        self.sock = socket.create_connection(("127.0.0.1", self.served.rest_port), self.patience)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, data: bytes | str) -> Wire:
        """Sends everything, at once."""
        self.sock.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def send_what_it_takes(self, data: bytes) -> bool:
        """Sends until the server has closed; returns whether it took everything."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def half_close(self) -> Wire:
        """Closes the sending side."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def final_reply(self) -> Reply:
        """Returns the next response, skipping ``100 Continue``."""
        while (reply := self.reply()).status == 100:
            pass
        return reply

    def reply(self, head_only: bool = False) -> Reply:
        """Returns the next response. head_only: it answers a HEAD."""
        head = self._until(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = (*status_line.split(" ", 2), "")[:3]
        headers = {}
        for line in filter(None, lines):
            name, colon, value = line.partition(":")
            assert colon, head
            headers[name.lower()] = value.strip()
        reply = Reply(version, int(status), headers, b"")
        if head_only or reply.status in (100, 204, 304):
            return reply
        if headers.get("transfer-encoding") == "chunked":
            reply.body = self._chunks()
        elif "content-length" in headers:
            reply.body = self._exactly(int(headers["content-length"]))
        else:
            reply.body, reply.closed = self._to_the_end(), True
        return reply

    def closed(self) -> bool:
        """Waits for the server to end the connection; returns whether it did so without further data."""
        if self.buffer:
            return False
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> bool:
        data = self.sock.recv(1 << 16)
        self.buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not self._more():
                raise ConnectionResetError(f"closed after {self.buffer!r}")
        head, _, self.buffer = self.buffer.partition(mark)
        return head

    def _exactly(self, count: int) -> bytes:
        parts = [self.buffer[:count]]
        self.buffer = self.buffer[count:]
        missing = count - len(parts[0])
        while missing:
            data = self.sock.recv(min(missing, 1 << 20))
            if not data:
                raise ConnectionResetError(f"closed {missing} bytes before the end of a body")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            parts.append(self._exactly(size))
            self._until(b"\r\n")
        self._until(b"\r\n")
        return b"".join(parts)

    def _to_the_end(self) -> bytes:
        while self._more():
            pass
        body, self.buffer = self.buffer, b""
        return body


@contextmanager
def wires(served: Served, sent: Iterable[bytes]) -> Iterator[list[Wire]]:
    """Opens a connection for each of ``sent``, and sends it."""
    with ExitStack() as stack:
        yield [stack.enter_context(Wire(served)).send(one) for one in sent]


def message(method: str, path: str, body: bytes | str | None = None, **headers: str) -> bytes:
    """Makes a request with ``Host`` and, if there is a body, its length.

    ``_`` in header names becomes ``-``.
    """
    data = body.encode() if isinstance(body, str) else body
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if data is not None and "Content_Length" not in headers and "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + (data or b"")


def ask(served: Served, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Reply:
    """Sends one request on a connection of its own."""
    with Wire(served) as wire:
        return wire.send(message(method, path, body, **headers)).reply(head_only=method == "HEAD")


def predict(served: Served, model: str, body: Any, **headers: str) -> Reply:
    """POSTs ``body`` (JSON, or the text itself) to the model's predict."""
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return ask(served, "POST", f"/v1/models/{model}:predict", text, **headers)
