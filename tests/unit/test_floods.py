"""How ``benches/floods.py`` reads the end of a connection, and what it calls a missed aim."""

from __future__ import annotations

import random
from dataclasses import replace

import hpack
import malformed
import pytest
from flood_attacks import NOTHING, Ending
from floods import Row
from hyperframe.frame import GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

ROW = Row("PING", 1.0, {"closed": 1}, (0.2, 0.2), (1.0, 1.9), (80.0, 90.0, 129.0), 3.0, 0.1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", NOTHING),
        (b"HTTP/1.1 408 Request Timeout\r\n\r\n", "408"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n", "400"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", NOTHING),
    ],
)
def test_ends_over_http1(data: bytes, expected: str) -> None:
    ending = Ending(over_http2=False)
    for byte in data:
        ending.take(bytes([byte]))
    assert (ending.said(), ending.is_answered()) == (expected, expected != NOTHING)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([SettingsFrame(0)], NOTHING),
        ([SettingsFrame(0), GoAwayFrame(0, error_code=11)], "GOAWAY ENHANCE_YOUR_CALM"),
        ([RstStreamFrame(1, error_code=8)], "RST_STREAM CANCEL"),
        (
            [HeadersFrame(1, hpack.Encoder().encode([(":status", "200"), ("grpc-status", "8")]))],
            "grpc-status 8",
        ),
        ([HeadersFrame(1, hpack.Encoder().encode([(":status", "200")]))], NOTHING),
        ([HeadersFrame(1, hpack.Encoder().encode([(":status", "431")]))], "status 431"),
    ],
)
def test_ends_over_http2(frames: list[object], expected: str) -> None:
    ending = Ending(over_http2=True)
    for byte in b"".join(frame.serialize() for frame in frames):  # type: ignore[attr-defined]
        ending.take(bytes([byte]))
    assert (ending.said(), ending.is_answered()) == (expected, expected != NOTHING)
    ending.take(b"")
    assert ending.is_answered() and ending.said() in (expected, "closed")


def test_missed_aims() -> None:
    assert ROW.misses() == []
    assert replace(ROW, p99=(1.0, 2.1)).misses() == ["p99"]
    assert replace(ROW, memory=(80.0, 90.0, 131.0)).misses() == ["memory"]
    assert replace(ROW, ends={"500": 2, NOTHING: 1, "400": 9}).misses() == ["2 x 500", f"1 x {NOTHING}"]
    assert replace(ROW, attack="busy", p99=(1.0, 9.0)).misses() == []


def test_the_same_seed_makes_the_same_requests() -> None:
    for make in (malformed.rest, malformed.grpc):
        one, other = random.Random(3), random.Random(3)
        assert [make(one) for _ in range(200)] == [make(other) for _ in range(200)]
