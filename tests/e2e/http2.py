"""HTTP/2 on the wire: frames that no client library would send, and those received."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from conftest import Served

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Makes one HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(path: str, *more: tuple[str, str]) -> bytes:
    """Makes a header block, with every field as a literal that is not indexed."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
    fields += [("content-type", "application/grpc"), ("te", "trailers"), *more]
    return b"".join(b"\x00" + literal(name) + literal(value) for name, value in fields)


def literal(text: str) -> bytes:
    """Encodes a field's name or value without compression, preceded by its length."""
    raw = text.encode()
    assert len(raw) < 127
    return bytes([len(raw)]) + raw


class Raw:
    """A connection, to the gRPC port unless ``port`` is another, that can send anything."""

    def __init__(self, served: Served, port: int | None = None) -> None:
        port = port or served.grpc_port
        assert port is not None
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def open(self) -> Raw:
        """Sends the beginning of HTTP/2."""
        return self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data: bytes) -> Raw:
        # If the server has already cut the connection, the test has its result.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)
        return self

    def end(self) -> Raw:
        """Closes the sending side."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return self

    def rest(self) -> bytes:
        """Returns everything until the server closes; fails if it does not."""
        received = b""
        try:
            while more := self.socket.recv(65536):
                received += more
        except ConnectionResetError:
            pass
        return received

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yields kind, flags, stream and payload of each received frame."""
        stream = self.socket.makefile("rb")
        while head := stream.read(9):
            length, (kind, flags) = int.from_bytes(head[:3], "big"), head[3:5]
            yield kind, flags, int.from_bytes(head[5:9], "big"), stream.read(length)


def until_kind(
    frames: Iterator[tuple[int, int, int, bytes]], kind: int
) -> Iterator[tuple[int, int, int, bytes]]:
    """Yields ``frames`` up to the first of ``kind``, which is the last."""
    for one in frames:
        yield one
        if one[0] == kind:
            return
    raise AssertionError(f"the connection ended without a frame of kind {kind}")


def assert_none_is_reset(raw: Raw, path: str, message: bytes, *more: tuple[str, str]) -> None:
    """Makes 1,200 requests, each ended by a frame of its own; fails if one is reset, or the connection ended.

    A thousand frames to streams that are closed are what the server takes of a client.
    """
    block, ping = headers(path, *more), frame(PING, 0, 0, bytes(8))
    frames = raw.open().send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))).frames()
    for stream in range(1, 2401, 2):
        raw.send(frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, 0, stream, message) + ping)
        seen = list(until_kind(frames, PING))
        raw.send(frame(DATA, END_STREAM, stream))
        while not any(
            of == stream and kind in (HEADERS, DATA) and flags & END_STREAM for kind, flags, of, _ in seen
        ):
            seen.append(next(frames))
        raw.send(ping)
        seen += until_kind(frames, PING)
        assert not any(kind == RST_STREAM for kind, _, _, _ in seen), f"stream {stream} was reset"
