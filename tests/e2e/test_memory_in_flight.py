"""Memory that clients can make the server hold: expanded inputs, unpacked bodies, replies not taken."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from conftest import Served
from http2 import DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, Raw, frame, headers
from servers import MODELS, resident_megabytes, run_to_its_end, serving, until
from stubs import call, failure, floats_request, own_message
from wire import Wire, message, predict

pytestmark = pytest.mark.needs_tensorflow

MIB = 1 << 20
BUDGET = 128
"""MiB."""
PREDICT = "/v1/models/half_plus_two:predict"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    flags = (f"--max_memory_in_flight={BUDGET * MIB}", "--transfer_grace_seconds=5")
    with serving(MODELS / "half_plus_two", "--port=0", *flags) as server:
        yield server


class Highest:
    """Records the peak of the server's memory meanwhile."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.before = self.most = resident_megabytes(served)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Highest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.most = max(self.most, resident_megabytes(self._served))

    @property
    def grown(self) -> float:
        """MiB."""
        return self.most - self.before

    def comes_back(self) -> bool:
        return until(lambda: resident_megabytes(self._served) < self.before + 50, 60)


def drawn_out(elements: int) -> Any:
    """Makes a Predict of some dozen bytes whose tensor has ``elements`` elements."""
    return floats_request("half_plus_two", 1.0, size=elements)


# ---- expanded inputs, replies not taken


def test_replies_that_nobody_takes_are_bounded(served: Served) -> None:
    """Twelve calls of 40 bytes for 24 MB each, with empty windows."""
    wire = drawn_out(6_000_000).SerializeToString()
    sent = b"\0" + len(wire).to_bytes(4, "big") + wire
    head = headers("/tensorflow.serving.PredictionService/Predict")
    with Highest(served) as highest, Raw(served) as raw:
        raw.send(PREFACE + frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0"))
        for stream in range(1, 25, 2):
            raw.send(frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, 1, stream, sent))
        refused = 0
        for kind, flags, _, _ in raw.frames():
            # A status alone: the call was refused.
            refused += kind == HEADERS and flags & 1
            if refused >= 8:
                break
        for _ in range(20):
            assert predict(served, "half_plus_two", {"instances": [1.0]}).status == 200
        # The held replies are given up while the client is still there.
        assert highest.comes_back()
    assert highest.grown < 2 * BUDGET


def test_what_is_drawn_out_beyond_the_budget_is_refused(served: Served) -> None:
    with Highest(served) as highest, grpc.insecure_channel(served.grpc) as channel:
        status, text = failure(lambda: call(channel, "Predict", drawn_out(60_000_000), own_message))
        assert status == "RESOURCE_EXHAUSTED"
        assert "bytes of memory" in text
        assert f"raise --max_memory_in_flight (now {BUDGET * MIB})" in text
        # One that fits is answered.
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(served.grpc, options=options) as large:
            reply = call(large, "Predict", drawn_out(4_000_000), own_message)
            assert reply.outputs["y"].tensor_shape.dim[0].size == 4_000_000
    assert highest.grown < BUDGET


def test_strings_that_are_drawn_out_are_counted(served: Served) -> None:
    request = drawn_out(100)
    tensor = request.inputs["x"]
    del tensor.float_val[:]
    tensor.dtype = 7
    tensor.string_val.append(b"x" * MIB)
    with grpc.insecure_channel(served.grpc) as channel:
        assert failure(lambda: call(channel, "Predict", request, own_message))[0] == "RESOURCE_EXHAUSTED"


# ---- unpacked bodies


def bomb(megabytes: int) -> bytes:
    """Makes a valid body, mostly blank."""
    return gzip.compress(b'{"instances": [1.0]' + b" " * (megabytes * MIB) + b"}")


def test_bodies_that_unpack_to_much_are_bounded(served: Served) -> None:
    """Thirty-two at once: each is answered, or refused at once."""
    packed = message("POST", PREDICT, bomb(50), Content_Encoding="gzip")
    with Highest(served) as highest, ExitStack() as stack:
        wires = [stack.enter_context(Wire(served)).send(packed) for _ in range(32)]
        replies = [wire.reply() for wire in wires]
        assert {reply.status for reply in replies} <= {200, 503}
        assert any(reply.status == 200 for reply in replies)
        for reply in replies:
            if reply.status == 503:
                assert reply.headers["retry-after"] == "1"
                assert "send it again later" in reply.error
        assert predict(served, "half_plus_two", {"instances": [1.0]}).status == 200
        assert highest.comes_back()
    assert highest.grown < 2 * BUDGET


def test_a_body_that_never_fits_is_413(served: Served) -> None:
    reply = predict(served, "half_plus_two", bomb(90), Content_Encoding="gzip")
    assert reply.status == 413
    assert f"and {BUDGET * MIB // 2} is the most for one connection" in reply.error


def test_plain_bodies_are_counted_too(served: Served) -> None:
    with Wire(served) as wire:
        wire.send(message("POST", PREDICT, None, Content_Length=str(500 * MIB)))
        wire.send_what_it_takes(b" " * (100 * MIB))
        assert wire.reply().status == 413


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_messages_that_unpack_to_much_are_refused(served: Served, compression: grpc.Compression) -> None:
    request = drawn_out(1)
    request.inputs["x"].tensor_content = bytes(80 * MIB)
    with Highest(served) as highest, grpc.insecure_channel(served.grpc, compression=compression) as channel:
        assert failure(lambda: call(channel, "Predict", request, own_message))[0] == "RESOURCE_EXHAUSTED"
    assert highest.grown < BUDGET


# ---- everything is freed


def test_clients_that_leave_leave_nothing(served: Served) -> None:
    """The whole budget is available after all of that."""
    body = json.dumps({"instances": [0.5] * 400_000}).encode()
    for _ in range(10):
        with Wire(served) as wire:
            wire.send(message("POST", PREDICT, body)[: len(body) // 2])
        with Wire(served) as wire:
            wire.send(message("POST", PREDICT, body))
    fits = predict(served, "half_plus_two", bomb(55), Content_Encoding="gzip")
    assert until(lambda: predict(served, "half_plus_two", bomb(55), Content_Encoding="gzip").status == 200), (
        fits
    )


def test_a_budget_below_nothing_is_refused() -> None:

    done = run_to_its_end(MODELS / "half_plus_two", "--max_memory_in_flight=-1")
    assert done.returncode != 0 and "--max_memory_in_flight expects at least 0" in done.stderr
