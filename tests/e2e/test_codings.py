"""zstd over REST, beside gzip; HTTP/2 without TLS on the REST port."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import Served
from http2 import PREFACE, SETTINGS, Raw, assert_none_is_reset, frame
from servers import MODELS, resident_megabytes, serving, until
from wire import Wire, ask, message, predict

pytestmark = pytest.mark.needs_tensorflow

NPY = "application/x-npy"
PATH = "/v1/models/half_plus_two:predict"
V2 = "/v2/models/half_plus_two/infer"
MAGIC = b"\x28\xb5\x2f\xfd"
LIMIT = 16 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(MODELS / "half_plus_two", f"--max_request_bytes={LIMIT}") as served:
        yield served


def zstd_blocks(*blocks: tuple[int, bytes, int], announced: int | None = None) -> bytes:
    """Makes a frame of blocks: type, content and regenerated size (RFC 8878, section 3.1.1)."""
    if announced is None:
        # A window of 8 MiB, and no size.
        head = MAGIC + b"\0" + bytes([13 << 3])
    else:
        head = MAGIC + b"\xe0" + struct.pack("<Q", announced)
    body = b""
    for index, (kind, content, size) in enumerate(blocks):
        last = int(index == len(blocks) - 1)
        body += (size << 3 | kind << 1 | last).to_bytes(3, "little") + content
    return head + body


def zstd(data: bytes, says_size: bool = True) -> bytes:
    """Makes a frame that holds ``data`` as it is."""
    parts = [data[start : start + 100_000] for start in range(0, len(data), 100_000)] or [b""]
    return zstd_blocks(*((0, part, len(part)) for part in parts), announced=len(data) if says_size else None)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("says_size", [True, False])
def test_bodies_may_be_in_zstd(server: Served, says_size: bool) -> None:
    values = list(range(100_000))
    body = zstd(json.dumps({"instances": values}).encode(), says_size)
    reply = predict(server, "half_plus_two", body, Content_Encoding="zstd")
    assert json.loads(reply.body)["predictions"] == [value / 2 + 2 for value in values]
    reply = predict(
        server,
        "half_plus_two",
        zstd(npy(np.ones(3, np.float32)), says_size),
        Content_Encoding="ZSTD",
        Content_Type=NPY,
    )
    assert np.load(io.BytesIO(reply.body)).tolist() == [2.5] * 3


def test_what_only_says_so_is_taken_as_it_is(server: Served) -> None:
    reply = predict(server, "half_plus_two", {"instances": [1.0]}, Content_Encoding="zstd")
    assert json.loads(reply.body)["predictions"] == [2.5]


def test_replies_are_in_zstd_for_those_who_accept_it(server: Served) -> None:
    """The reply is sent back as it came, which the server has to understand."""
    values = np.arange(1000, dtype=np.float32)
    body, accepts = npy(values), "gzip;q=0.9, zstd"
    once = ask(server, "POST", PATH, body, Content_Type=NPY, Accept_Encoding=accepts)
    assert once.headers["content-encoding"] == "zstd" and once.headers["vary"] == "Accept-Encoding"
    assert once.body.startswith(MAGIC) and len(once.body) < len(body)
    twice = ask(server, "POST", PATH, once.body, Content_Type=NPY, Content_Encoding="zstd")
    assert "content-encoding" not in twice.headers
    np.testing.assert_array_equal(np.load(io.BytesIO(twice.body)), (values / 2 + 2) / 2 + 2)
    text = json.dumps({"instances": values.tolist()})
    for accepted in ("zstd", "identity, ZSTD"):
        assert predict(server, "half_plus_two", text, Accept_Encoding=accepted).body.startswith(MAGIC)
    liked = predict(server, "half_plus_two", text, Accept_Encoding="zstd;q=0.5, gzip;q=0.6")
    assert liked.headers["content-encoding"] == "gzip"
    for other in ("zstd;q=0", "identity", "zst"):
        reply = predict(server, "half_plus_two", text, Accept_Encoding=other)
        assert "content-encoding" not in reply.headers
    small = predict(server, "half_plus_two", {"instances": [1.0]}, Accept_Encoding="zstd")
    assert "content-encoding" not in small.headers


def test_other_bodies_may_be_in_gzip_and_damage_is_told(server: Served) -> None:
    body = gzip.compress(npy(np.ones(2, np.float32)))
    headers = {"Content_Type": NPY, "Content_Encoding": "gzip"}
    reply = ask(server, "POST", PATH, body, **headers, Accept_Encoding="gzip")
    assert np.load(io.BytesIO(reply.body)).tolist() == [2.5] * 2
    for wrong in (body[:-1], body + b"x", b"", b"x" * 30):
        refused = ask(server, "POST", PATH, wrong, **headers)
        assert refused.status == 400 and "Content-Encoding, gzip" in refused.error


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
def test_the_open_inference_protocol_has_both(server: Served, coding: str) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [1000], "parameters": {"binary_data_size": 4000}}
    head = json.dumps({"inputs": [x], "parameters": {"binary_data_output": True}}).encode()
    values = np.repeat(np.arange(10, dtype=np.float32), 100)
    body = head + values.tobytes()
    packed = zstd(body) if coding == "zstd" else gzip.compress(body)
    headers = {"Content_Encoding": coding, "Inference_Header_Content_Length": str(len(head))}
    plain = ask(server, "POST", V2, packed, **headers)
    length = int(plain.headers["inference-header-content-length"])
    np.testing.assert_array_equal(np.frombuffer(plain.body[length:], np.float32), values / 2 + 2)
    reply = ask(server, "POST", V2, packed, **headers, Accept_Encoding=coding)
    assert reply.headers["content-encoding"] == coding and len(reply.body) < len(plain.body)
    assert reply.headers["inference-header-content-length"] == str(length)
    assert reply.body.startswith(MAGIC) if coding == "zstd" else gzip.decompress(reply.body) == plain.body
    for wrong in (packed[:-1], packed + b"x", b"x" * 30):
        refused = ask(server, "POST", V2, wrong, **headers)
        assert refused.status == 400 and f"Content-Encoding, {coding}" in refused.error, refused
    told = ask(server, "GET", "/v2/models/half_plus_two/config", Accept_Encoding=coding)
    assert told.status == 200


def test_zstd_bombs_and_damage(server: Served) -> None:
    before = resident_megabytes(server)
    block = (1, b" ", 128 << 10)
    bomb = [block] * 8192
    assert ask(server, "POST", V2, zstd_blocks(*bomb), Content_Encoding="zstd").status == 413
    for body, status in (
        (zstd_blocks(*bomb), 413),
        (zstd_blocks(*bomb, announced=1 << 30), 413),
        (zstd_blocks(block, announced=8 << 20), 400),
        (zstd_blocks(block, announced=1), 400),
        (zstd(b"{}")[:-1], 400),
        (zstd(b"{}", says_size=False)[:-1], 400),
        (zstd(b"{}") + b"x", 400),
        (MAGIC, 400),
        # A window of 16 MiB.
        (MAGIC + b"\0" + bytes([14 << 3]) + b"\x11\0\0{}", 400),
    ):
        with Wire(server) as wire:
            reply = wire.send(message("POST", PATH, body, Content_Encoding="zstd")).reply()
            assert reply.status == status and reply.error, reply
            good = wire.send(message("POST", PATH, '{"instances": [1.0]}')).reply()
            assert json.loads(good.body)["predictions"] == [2.5]
    assert until(lambda: resident_megabytes(server) < before + 60, 60)


def test_neither_is_there_where_it_is_turned_off() -> None:
    off = ("--rest_api_zstd=false", "--rest_api_http2_cleartext=false")
    text = json.dumps({"instances": [1.0] * 1000})
    with serving(MODELS / "half_plus_two", *off) as served:
        reply = predict(served, "half_plus_two", text, Accept_Encoding="zstd, gzip")
        assert reply.headers["content-encoding"] == "gzip"
        assert (
            "content-encoding" not in predict(served, "half_plus_two", text, Accept_Encoding="zstd").headers
        )
        assert predict(served, "half_plus_two", zstd(text.encode()), Content_Encoding="zstd").status == 400
        with Wire(served) as wire:
            assert wire.send(PREFACE).closed()


# ---- HTTP/2


def test_http2_is_spoken_with_who_begins_with_it(server: Served) -> None:
    address = f"http://127.0.0.1:{server.rest_port}"
    with httpx.Client(base_url=address, http1=False, http2=True) as client:
        for path, expected in ((PATH, 200), ("/v1/models/nobody:predict", 404)):
            reply = client.post(path, json={"instances": [1.0]})
            assert (reply.status_code, reply.http_version) == (expected, "HTTP/2")
        large = np.arange(150_528, dtype=np.float32)
        reply = client.post(PATH, content=npy(large), headers={"Content-Type": NPY})
        np.testing.assert_array_equal(np.load(io.BytesIO(reply.content)), large / 2 + 2)
        assert client.get("/v1/models/half_plus_two").json()["model_version_status"][0]["version"] == "1"


def test_a_stream_of_http2_may_end_by_a_frame_of_its_own(server: Served) -> None:
    """As httpx ends each."""
    with Raw(server, server.rest_port) as raw:
        assert_none_is_reset(raw, PATH, b'{"instances": [1.0]}', ("content-length", "20"))


def test_it_may_begin_byte_by_byte(server: Served) -> None:
    with Wire(server) as wire:
        for byte in PREFACE:
            wire.send(bytes([byte]))
        wire.send(frame(SETTINGS, 0, 0))
        assert wire.sock.recv(9)[3] == SETTINGS
    request = message("POST", PATH, '{"instances": [1.0]}')
    with Wire(server) as wire:
        for byte in request:
            wire.send(bytes([byte]))
        assert json.loads(wire.reply().body)["predictions"] == [2.5]


def test_who_says_nothing_is_closed_after_the_idle_time() -> None:
    with serving(MODELS / "half_plus_two", "--idle_timeout_seconds=1") as served, Wire(served) as wire:
        assert wire.closed()


def test_what_is_neither_is_ended(server: Served) -> None:
    with Wire(server) as wire:
        assert wire.send(b"PRX\r\n\r\n").reply().status == 400
    with Wire(server) as wire, contextlib.suppress(ConnectionResetError):
        wire.send(b"PRI * HTTP/1.1\r\nHost: x\r\n\r\n")
        while wire.sock.recv(1 << 16):
            pass
