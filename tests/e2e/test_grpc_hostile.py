"""Broken and hostile clients of a gRPC port: each gets an error or is cut off, and no other is affected."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import Served
from http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    Raw,
    assert_none_is_reset,
    frame,
    headers,
    literal,
)
from servers import MODELS, resident_megabytes, serving
from stubs import METHODS, call, failure, floats_request, own_message

pytestmark = pytest.mark.needs_tensorflow


def good_request() -> Any:
    return floats_request("half_plus_two", 1.0)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(MODELS / "half_plus_two", "--port=0") as server:
        yield server


@pytest.fixture(autouse=True)
def answers_afterwards(served: Served) -> Iterator[None]:
    """After every test, a good request of another client must be answered."""
    yield
    with grpc.insecure_channel(served.grpc) as channel:
        reply = call(channel, "Predict", good_request(), own_message, timeout=20)
        assert list(reply.outputs["y"].float_val) == [2.5]


# ---- HTTP/2


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x00" * 5000]
)
def test_what_is_not_http2_is_cut_off(served: Served, data: bytes) -> None:
    with Raw(served) as raw:
        raw.send(data)
        raw.end().rest()


def test_silent_connections_hold_nobody_up(served: Served) -> None:
    silent = [Raw(served) for _ in range(50)]
    half = [Raw(served).open() for _ in range(50)]
    with grpc.insecure_channel(served.grpc) as channel:
        call(channel, "Predict", good_request(), own_message, timeout=20)
    for raw in silent + half:
        raw.socket.close()


def test_a_flood_of_metadata_is_cut_off(served: Served) -> None:
    with Raw(served) as raw:
        raw.open().send(frame(HEADERS, END_STREAM, 1, headers("/a/b")))
        more = headers("/a/b")[:0] + b"".join(
            b"\x00" + literal(f"x{n}") + literal("y" * 100) for n in range(100)
        )
        for _ in range(2000):
            raw.send(frame(CONTINUATION, 0, 1, more))
        raw.rest()


def test_large_metadata_is_refused(served: Served) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        stub = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        health = channel.unary_stream("/grpc.health.v1.Health/Watch")
        # A concurrent call on the same connection.
        watching = health(b"")
        assert next(watching)
        for metadata in (
            [("x-large", "y" * 17_000)],
            [("x-large", "y" * 70_000)],
            [("x-a", "y" * 100)] * 700,
        ):
            ask = partial(stub, good_request().SerializeToString(), timeout=20, metadata=metadata)
            code, text = failure(ask)
            assert code == "RESOURCE_EXHAUSTED"
            assert "metadata larger than max" in text
        assert watching.is_active()
        watching.cancel()


def test_rapid_resets_are_survived(served: Served) -> None:
    block = headers("/tensorflow.serving.PredictionService/Predict")
    with Raw(served) as raw:
        raw.open()
        for stream in range(1, 20_001, 2):
            raw.send(frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08"))
        raw.end().rest()
    assert resident_megabytes(served) < 1000


@pytest.mark.parametrize(
    "frames",
    [
        frame(DATA, 0, 7, b"x"),
        frame(HEADERS, END_HEADERS, 0, b""),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
        frame(SETTINGS, 0, 0, b"abc"),
        struct.pack(">I", 0xFFFFFF)[1:] + bytes([DATA, 0]) + struct.pack(">I", 1),
    ],
    ids=["data-of-no-stream", "headers-of-no-stream", "bad-hpack", "bad-settings", "huge-frame"],
)
def test_broken_frames_end_the_connection(served: Served, frames: bytes) -> None:
    with Raw(served) as raw:
        raw.open().send(frames).rest()


# ---- gRPC


def test_an_announced_message_that_does_not_come_costs_nothing(served: Served) -> None:
    before = resident_megabytes(served)
    block = headers("/tensorflow.serving.PredictionService/Predict", ("grpc-timeout", "300m"))
    with Raw(served) as raw:
        raw.open()
        for stream in range(1, 101, 2):
            raw.send(frame(HEADERS, END_HEADERS, stream, block))
            raw.send(frame(DATA, 0, stream, b"\x00" + struct.pack(">I", 2**31 - 1)))
        # Each is answered when its time is over, by a status alone.
        ended = (stream for kind, flags, stream, _ in raw.frames() if kind == HEADERS and flags & END_STREAM)
        assert {next(ended) for _ in range(50)} == set(range(1, 101, 2))
    # 100 GB were announced; memory given back while idle accounts for some 100 MB again.
    assert resident_megabytes(served) < before + 400


def test_a_client_that_closes_its_half_late_is_answered(served: Served) -> None:
    message = good_request().SerializeToString()
    block = headers("/tensorflow.serving.PredictionService/Predict")
    with Raw(served) as raw:
        raw.open().send(frame(HEADERS, END_HEADERS, 1, block))
        raw.send(frame(DATA, 0, 1, b"\x00" + struct.pack(">I", len(message)) + message))
        # The end of the stream was not sent, and the answer does not wait for it.
        assert any(kind == DATA and struct.pack("<f", 2.5) in data for kind, _, _, data in raw.frames())


@pytest.mark.parametrize(
    ("method", "model"), [("Predict", "half_plus_two"), ("Predict", "nobody"), ("Nothing", "half_plus_two")]
)
def test_a_stream_may_end_by_a_frame_of_its_own(served: Served, method: str, model: str) -> None:
    """As many clients end each."""
    request = floats_request(model, 1.0).SerializeToString()
    message = b"\x00" + struct.pack(">I", len(request)) + request
    with Raw(served) as raw:
        assert_none_is_reset(raw, f"/tensorflow.serving.PredictionService/{method}", message)


def test_streams_that_end_within_a_message_are_refused(served: Served) -> None:
    block = headers("/tensorflow.serving.PredictionService/Predict")
    with Raw(served) as raw:
        raw.open().send(frame(HEADERS, END_HEADERS, 1, block))
        raw.send(frame(DATA, END_STREAM, 1, b"\x00\x00\x00\x00\x09abc"))
        answer = next((kind, flags) for kind, flags, stream, _ in raw.frames() if stream == 1)
        assert answer == (HEADERS, END_HEADERS | END_STREAM)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_message_is_refused_by_every_method(served: Served, method: str) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        stub = channel.unary_unary(f"/tensorflow.serving.{METHODS[method][0]}/{method}")
        for garbage in (b"\xff", b"\x0a\x7f", b"\x0b" * 1000, b"\x0a\x03\x0a\x01\xff"):
            code, text = failure(lambda: stub(garbage, timeout=20))  # noqa: B023
            assert (code, text[:47]) == (
                "INVALID_ARGUMENT",
                "The request is not the message that this method",
            )


# ---- tensors and Examples


def _refused(served: Served, change: Callable[[Any], object]) -> tuple[str, str]:
    request = good_request()
    change(request)
    with grpc.insecure_channel(served.grpc) as channel:
        return failure(lambda: call(channel, "Predict", request, own_message, timeout=20))


@pytest.mark.parametrize(
    ("why", "dtype", "shape", "content"),
    [
        ("negative", 1, [-1], b""),
        ("overflowing", 1, [2**62, 4], b""),
        ("overflowing beside a zero", 1, [0, 2**62, 4], b""),
        ("a terabyte of one value", 1, [2**38], b""),
        ("a terabyte of one string", 7, [2**38], b""),
        ("more content than shape", 1, [1], b"12345678"),
        ("less content than shape", 1, [3], b"12345678"),
        ("strings cut off", 7, [2], b"\x01\x05abc"),
        ("more strings than shape", 7, [1], b"\x01\x01ab"),
        ("no dtype", 0, [1], b""),
        ("an unknown dtype", 99, [1], b""),
        ("a reference", 101, [1], b""),
        ("a resource", 20, [1], b""),
        ("many dimensions", 1, [1] * 300, b""),
    ],
)
def test_tensors_that_cannot_be(
    served: Served, why: str, dtype: int, shape: list[int], content: bytes
) -> None:
    def change(request: Any) -> None:
        tensor = request.inputs["x"]
        tensor.Clear()
        tensor.dtype = dtype
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = content

    assert _refused(served, change) == ("INVALID_ARGUMENT", "tensor parsing error: x"), why


def test_names_that_do_not_fit(served: Served) -> None:
    def another(request: Any) -> None:
        request.inputs["z"].CopyFrom(request.inputs["x"])

    code, text = _refused(served, another)
    assert code == "INVALID_ARGUMENT" and text.startswith("input size does not match signature: 2!=1"), text
    code, text = _refused(served, lambda request: request.output_filter.append("z"))
    assert code == "INVALID_ARGUMENT" and text.startswith("output tensor alias not found in signature: z"), (
        text
    )
    code, text = _refused(served, lambda request: request.inputs.clear())
    assert code == "INVALID_ARGUMENT" and text.startswith("input size does not match signature: 0!=1"), text


def test_an_example_that_does_not_parse(served: Served) -> None:
    request = own_message("ClassificationRequest")()
    request.model_spec.name = "half_plus_two"
    # input { example_list { examples: <garbage> } }
    wire = request.SerializeToString() + b"\x12\x05\x0a\x03\x0a\x01\xff"
    with grpc.insecure_channel(served.grpc) as channel:
        stub = channel.unary_unary("/tensorflow.serving.PredictionService/Classify")
        code, text = failure(lambda: stub(wire, timeout=20))
    assert (code, text[:29]) == ("INVALID_ARGUMENT", "Could not parse example input"), text


def test_both_version_and_label_the_last_counts(served: Served) -> None:
    version, label = b"\x12\x02\x08\x01", b"\x22\x01n"
    for spec, expected in ((version + label, "INVALID_ARGUMENT"), (label + version, "OK")):
        named = b"\x0a\x0dhalf_plus_two" + spec
        wire = b"\x0a" + bytes([len(named)]) + named + good_request().SerializeToString()[17:]
        with grpc.insecure_channel(served.grpc) as channel:
            stub = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            assert failure(lambda: stub(wire, timeout=20))[0] == expected  # noqa: B023


def test_messages_beyond_the_limit_are_refused() -> None:
    with (
        serving(MODELS / "half_plus_two", "--port=0", "--max_request_bytes=10000") as served,
        grpc.insecure_channel(served.grpc) as channel,
    ):
        request = good_request()
        request.inputs["x"].tensor_content = np.zeros(5000, np.float32).tobytes()
        code, text = failure(lambda: call(channel, "Predict", request, own_message, timeout=20))
        assert (code, text) == ("RESOURCE_EXHAUSTED", "Received message larger than max (20046 vs. 10000)")
