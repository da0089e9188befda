"""Slow clients: heads and bodies that trickle, replies not taken, idle connections."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import Served
from http2 import CONTINUATION, DATA, END_HEADERS, HEADERS, PREFACE, RST_STREAM, SETTINGS, Raw, frame, headers
from servers import ADMIN, MODELS, admin_url, resident_megabytes, run_to_its_end, serving, until
from stubs import floats_request
from wire import Wire, message, predict

pytestmark = pytest.mark.needs_tensorflow

PATIENT = 1.5
"""Seconds that these servers allow."""
LIMITS = (
    f"--header_timeout_seconds={PATIENT}",
    f"--transfer_grace_seconds={PATIENT}",
    "--min_transfer_rate=1000",
)
PREDICT = "/v1/models/half_plus_two:predict"
BODY = json.dumps({"instances": [1.0]}).encode()
WINDOW_UPDATE, GOAWAY = 8, 7


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(MODELS / "half_plus_two", "--port=0", *LIMITS) as server:
        yield server


@pytest.fixture(autouse=True)
def answers_afterwards(served: Served) -> Iterator[None]:
    yield
    assert predict(served, "half_plus_two", {"instances": [1.0]}).status == 200


class Trickle:
    """Sends a byte of ``data`` every 50 ms to each of ``sockets``, until stopped or cut off."""

    def __init__(self, data: bytes, *sockets: socket.socket) -> None:
        self._stop = threading.Event()
        self._data, self._sockets = data, list(sockets)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Trickle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for byte in self._data:
            for sock in list(self._sockets):
                try:
                    sock.send(bytes([byte]))
                except OSError:
                    self._sockets.remove(sock)
            if self._stop.wait(0.05):
                return


# ---- REST


def test_a_head_that_trickles_is_answered_408(served: Served) -> None:
    head = message("POST", PREDICT, BODY, Padding="x" * 2000)
    with Wire(served) as wire, Trickle(head, wire.sock):
        reply = wire.reply()
        assert reply.status == 408
        assert reply.error.startswith(
            "Request Timeout: the request's line and headers took longer than 1.5 s"
        )
        assert wire.closed()


def test_a_body_that_trickles_is_answered_408(served: Served) -> None:
    head = message("POST", PREDICT, None, Content_Length="2000")
    with Wire(served) as wire, Trickle(b" " * 2000, wire.send(head).sock):
        reply = wire.reply()
        assert reply.status == 408
        assert "--min_transfer_rate" in reply.error
        assert wire.closed()


def test_a_body_that_stops_is_answered_408(served: Served) -> None:
    with Wire(served) as wire:
        reply = wire.send(message("POST", PREDICT, None, Content_Length="2000") + b"{").reply()
        assert reply.status == 408
        assert wire.closed()


def test_who_waits_between_two_requests_is_left_alone(served: Served) -> None:
    pause = threading.Event()
    with Wire(served) as wire:
        for _ in range(2):
            assert wire.send(message("POST", PREDICT, BODY)).reply().status == 200
            pause.wait(2 * PATIENT)
        assert wire.send(message("POST", PREDICT, BODY)).reply().status == 200


def test_a_body_that_keeps_the_pace_is_answered(served: Served) -> None:
    """It takes longer than the grace."""
    body = BODY + b" " * 20_000
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    pause = threading.Event()
    with Wire(served) as wire:
        wire.send(message("POST", PREDICT, None, Content_Length=str(len(body))))
        for piece in pieces:
            wire.send(piece)
            pause.wait(3 * PATIENT / len(pieces))
        assert wire.reply().status == 200


def test_a_reply_that_is_not_taken_ends_its_connection(served: Served) -> None:
    """Its memory is freed while the client is still there."""
    rows = 600_000
    body = json.dumps({"instances": [0.123456] * rows}).encode()
    with ExitStack() as stack:
        # What the first request of this size leaves in the process is not the connections'.
        assert predict(served, "half_plus_two", json.loads(body)).status == 200
        before = resident_megabytes(served)
        for _ in range(8):
            wire = stack.enter_context(Wire(served))
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(message("POST", PREDICT, body))
        assert until(lambda: resident_megabytes(served) < before + 30, 60), resident_megabytes(served)


def test_five_hundred_slow_clients_hold_nobody_up(served: Served) -> None:
    head = message("POST", PREDICT, None, Content_Length="2000")
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(served)).send(head) for _ in range(500)]
        stack.enter_context(Trickle(b" " * 2000, *(wire.sock for wire in wires)))
        for _ in range(100):
            assert predict(served, "half_plus_two", {"instances": [1.0]}).status == 200
        assert {wire.reply().status for wire in wires} == {408}


# ---- gRPC


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        PREFACE[:10],
        PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 0, 0)[:5],
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, headers("/x")),
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, headers("/x")) + frame(CONTINUATION, 0, 1),
    ],
    ids=["nothing", "half a preface", "half a frame", "half a header block", "another half"],
)
def test_what_a_client_begins_it_has_to_finish(served: Served, begun: bytes) -> None:
    with Raw(served) as raw:
        # Returns when the server closes.
        raw.send(begun).rest()


def call_head(path: str = "/tensorflow.serving.PredictionService/Predict") -> bytes:
    return frame(HEADERS, END_HEADERS, 1, headers(path))


def test_a_message_that_trickles_ends_its_call_alone(served: Served) -> None:
    data = b"\0" + (2000).to_bytes(4, "big") + bytes(2000)
    pieces = b"".join(frame(DATA, 0, 1, bytes([byte])) for byte in data)
    with Raw(served) as raw, Trickle(pieces, raw.open().send(call_head()).socket):
        for kind, _, stream, payload in raw.frames():
            if kind == HEADERS and stream == 1:
                # DEADLINE_EXCEEDED: 4, in Huffman code.
                assert b"\x81k" in payload
                break


def test_a_reply_in_a_window_of_nothing_resets_its_stream(served: Served) -> None:
    wire = floats_request("half_plus_two", 1.0).SerializeToString()
    with Raw(served) as raw:
        raw.send(PREFACE + frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0"))
        raw.send(call_head() + frame(DATA, 1, 1, b"\0" + len(wire).to_bytes(4, "big") + wire))
        for kind, _, stream, _ in raw.frames():
            if kind == RST_STREAM:
                assert stream == 1
                break


@pytest.mark.parametrize(
    "flood",
    [
        frame(2, 0, 1, b"\0\0\0\0\x09"),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        frame(6, 1, 0, b"anything"),
        frame(6, 0, 0, b"anything"),
        frame(SETTINGS, 0, 0),
        frame(0xEE, 0, 0, b"?"),
    ],
    ids=["PRIORITY", "WINDOW_UPDATE", "PING acknowledged", "PING", "SETTINGS", "unknown"],
)
def test_a_flood_of_frames_that_ask_for_nothing_is_told_to_calm_down(served: Served, flood: bytes) -> None:
    with Raw(served) as raw:
        raw.open()
        reader = threading.Thread(target=lambda: received.append(raw.rest()))
        received: list[bytes] = []
        reader.start()
        for _ in range(300):
            raw.send(flood * 100)
        reader.join(30)
        assert received
        goaway = received[0].rfind(b"\0\0\x08\x07\0\0\0\0\0")
        assert goaway >= 0 and received[0][goaway + 13 : goaway + 17] == b"\0\0\0\x0b", received[0][-40:]


# ---- descriptors


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_more_idle_connections_than_descriptors() -> None:
    """A hundred, with 64 descriptors: requests, the administration and gRPC are answered; no core is busy."""
    flags = ("--port=0", ADMIN)
    with serving(MODELS / "half_plus_two", *flags, before_exec=few_descriptors) as served:
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(Wire(served))
                assert served.grpc_port is not None
            before = cpu_seconds(served.process.pid)
            began = time.monotonic()
            for _ in range(20):
                assert predict(served, "half_plus_two", {"instances": [1.0]}).status == 200
                with urllib.request.urlopen(f"{admin_url(served)}/livez", timeout=10) as reply:
                    assert reply.status == 200
            answered = time.monotonic()
            assert until(lambda: time.monotonic() > answered + 2)
            share = (cpu_seconds(served.process.pid) - before) / (time.monotonic() - began)
            assert share < 0.5
        warnings = [line for line in served.lines if " W server: " in line]
        assert any("--max_connections" in line for line in warnings), served.log
        assert len(warnings) < 5, served.log


def test_the_most_connections_are_a_flags_to_say() -> None:
    with serving(MODELS / "half_plus_two", "--max_connections=5") as served, ExitStack() as stack:
        silent, *speaking = [stack.enter_context(Wire(served)) for _ in range(5)]
        # Twice: the server's threads accept connections in any order, and by then all five are known.
        for wire in speaking * 2:
            assert wire.send(message("POST", PREDICT, BODY)).reply().status == 200
        newer = stack.enter_context(Wire(served))
        assert newer.send(message("POST", PREDICT, BODY)).reply().status == 200
        # The connection that has been silent for longest.
        assert silent.closed()
        for wire in [*speaking, newer]:
            assert wire.send(message("POST", PREDICT, BODY)).reply().status == 200


def test_flags_that_are_no_limits_are_refused() -> None:
    for flag in (
        "--header_timeout_seconds=-1",
        "--min_transfer_rate=-1",
        "--max_connections=-1",
        "--transfer_grace_seconds=nan",
    ):
        done = run_to_its_end(MODELS / "half_plus_two", flag)
        assert done.returncode != 0
        assert flag.split("=")[0] in done.stderr
