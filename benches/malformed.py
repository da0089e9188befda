"""Requests that are none: for each protocol a random one, whole on a connection of its own."""

from __future__ import annotations

import random
from collections.abc import Callable

from hostile import BODY, PREDICT, PREFACE, call_head, frame

GOOD_CALL = (
    b"\x0a\x0f\x0a\x0dhalf_plus_two"
    b"\x12\x13\x0a\x01x\x12\x0e\x08\x01\x12\x04\x12\x02\x08\x01\x2a\x04\0\0\x80\x3f"
)
"""A PredictRequest: half_plus_two of 1."""


def _post(body: bytes, *lines: str, path: str = PREDICT) -> bytes:
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode("latin-1") + body


def _random_bytes(source: random.Random) -> bytes:
    return source.randbytes(source.randrange(1, 300)) + b"\r\n\r\n"


def _damaged(source: random.Random) -> bytes:
    """A good request with bytes of its body replaced, and one before it: what follows a value is ignored."""
    body = bytearray(BODY)
    for _ in range(source.randrange(1, 4)):
        body[source.randrange(len(body))] = source.choice(b'\0\x80\xff{}[]":,e\\')
    return _post(b"]" + bytes(body))


_REST: tuple[Callable[[random.Random], bytes], ...] = (
    _random_bytes,
    _damaged,
    lambda source: _post(b"[" * source.randrange(1, 100_000)),
    lambda source: _post(BODY[: source.randrange(len(BODY))]),
    lambda source: _post(b'{"instances": [1e' + b"9" * source.randrange(1, 5000) + b"]"),
    lambda source: _post(b'{"instances": ["\\ud800' + source.randbytes(9)),
    lambda source: _post(BODY, path="/v1/models/" + "x" * source.randrange(1, 5000)),
    lambda source: _post(BODY, path=f"/v1/models/half_plus_two/versions/{source.randrange(10**30)}:predict"),
    lambda source: _post(BODY, path="/v1/models/%ff%00:predict"),
    lambda source: _post(BODY, "Transfer-Encoding: gzip"),
    lambda source: _post(BODY, "Transfer-Encoding: chunked"),
    lambda source: _post(BODY, "Content-Encoding: gzip"),
    lambda source: _post(BODY, "Content-Length: 1"),
    lambda source: _post(BODY, "Host: y"),
    lambda source: _post(BODY, "Padding: " + "x" * 200_000),
    lambda source: f"POST {PREDICT} HTTP/{source.randrange(10)}.{source.randrange(2, 10)}\r\n\r\n".encode(),
    lambda source: f"GET\t{PREDICT}\r\n\r\n".encode(),
    lambda source: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + source.randbytes(30),
    lambda source: b"\x16\x03\x01" + source.randbytes(100),
)


def rest(source: random.Random) -> bytes:
    """Returns a malformed request of REST."""
    return source.choice(_REST)(source)


def _call(message: bytes, announced: int | None = None) -> bytes:
    """Returns a connection with one call."""
    length = len(message) if announced is None else announced
    data = b"\0" + length.to_bytes(4, "big") + message
    return PREFACE + frame(4, 0, 0) + frame(1, 4, 1, call_head()) + frame(0, 1, 1, data)


_GRPC: tuple[Callable[[random.Random], bytes], ...] = (
    lambda source: source.randbytes(source.randrange(1, 300)),
    lambda source: PREFACE + source.randbytes(source.randrange(1, 300)),
    lambda source: _call(b"\xff" + source.randbytes(source.randrange(1, 300))),
    lambda source: _call(GOOD_CALL[: source.randrange(1, len(GOOD_CALL))]),
    lambda source: _call(GOOD_CALL, announced=source.randrange(1 << 31)),
    lambda source: _call(b"\x0b" * source.randrange(1, 5000)),
    lambda source: PREFACE + frame(4, 0, 0) + frame(1, 4, 1, source.randbytes(50)),
    lambda source: PREFACE + frame(4, 0, 0) + frame(0, 0, source.randrange(1, 99), b"x"),
    lambda source: PREFACE + frame(4, 0, 0, source.randbytes(source.choice((3, 5, 7)))),
    lambda source: PREFACE + frame(4, 0, 0) + frame(8, 0, 0, b"\0\0\0\0"),
    lambda source: PREFACE + frame(4, 0, 0) + frame(6, 0, 1, source.randbytes(8)),
    lambda source: PREFACE + frame(4, 0, 0) + frame(1, 4, 2 * source.randrange(99), call_head()),
    lambda source: PREFACE + b"\xff\xff\xff" + source.randbytes(6),
)


def grpc(source: random.Random) -> bytes:
    """Returns a connection to the gRPC port that carries a malformed request, or none."""
    return source.choice(_GRPC)(source)
