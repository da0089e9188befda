"""Predict without JSON: numpy's files, raw tensors, MessagePack, pictures; and what is wrong with them."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Served
from model_configs import config_file, entry
from servers import MODELS, resident_megabytes, serving, until
from wire import Reply, Wire, ask, message

from servable import Client
from servable.errors import InvalidArgumentError
from servable.messages import message_class
from servable.savedmodel.tfrecord import read_records

pytestmark = pytest.mark.needs_tensorflow

NPY, NPZ = "application/x-npy", "application/x-npz"
RAW, MSGPACK = "application/octet-stream", "application/msgpack"
BUDGET = 256 << 20
LIMIT = 64 << 20


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Served]:
    models = [MODELS / name for name in ("half_plus_two", "pair", "echo", "narrow", "loop", "add_two")]
    limits = (f"--max_memory_in_flight={BUDGET}", f"--max_request_bytes={LIMIT}")
    with serving(*models, *limits) as served:
        yield served


@pytest.fixture
def server(shared_server: Served) -> Iterator[Served]:
    """Answers a good request after each test."""
    yield shared_server
    reply = post(shared_server, "half_plus_two", npy(floats(1)), NPY)
    np.testing.assert_array_equal(read_npy(reply), floats(2.5))


def post(
    served: Served, model: str, body: bytes, content_type: str, query: str = "", **headers: str
) -> Reply:
    path = f"/v1/models/{model}:predict{query}"
    return ask(served, "POST", path, body, Content_Type=content_type, **headers)


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), **options)
    return file.getvalue()


def npz(save: Any = np.savez, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def read_npy(reply: Reply) -> Any:
    assert (reply.status, reply.headers["content-type"]) == (200, NPY), reply
    return np.load(io.BytesIO(reply.body), allow_pickle=False)


def read_npz(reply: Reply) -> dict[str, Any]:
    assert (reply.status, reply.headers["content-type"]) == (200, NPZ), reply
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.testzip() is None
    return dict(np.load(io.BytesIO(reply.body), allow_pickle=False))


def refused(reply: Reply, status: int, *words: str) -> None:
    assert reply.status == status, reply
    for word in words:
        assert word in reply.error, reply.error


# ---- MessagePack, as far as the tests need it


def packed(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, Mapping):
        members = b"".join(packed(key) + packed(one) for key, one in value.items())
        return b"\xdf" + struct.pack(">I", len(value)) + members
    return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(packed, value))


def unpacked(data: bytes) -> Any:
    value, rest = _unpacked(data)
    assert rest == b""
    return value


def _unpacked(data: bytes) -> tuple[Any, bytes]:
    first, rest = data[0], data[1:]
    if first < 0x80:
        return first, rest
    if first in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[first], rest
    if first == 0xD3:
        return struct.unpack(">q", rest[:8])[0], rest[8:]
    short = {0x80: "map", 0x90: "list", 0xA0: "text", 0xB0: "text"}.get(first & 0xF0)
    if short:
        return _sized(short, first & (0x1F if short == "text" else 0x0F), rest)
    kinds = {0xC4: "bytes", 0xD9: "text", 0xDC: "list", 0xDE: "map"}
    kind, start = next((kind, start) for start, kind in reversed(kinds.items()) if first >= start)
    bytes_of = (1, 2, 4)[first - start] if kind in ("bytes", "text") else (2, 4)[first - start]
    return _sized(kind, int.from_bytes(rest[:bytes_of], "big"), rest[bytes_of:])


def _sized(kind: str, count: int, rest: bytes) -> tuple[Any, bytes]:
    if kind in ("text", "bytes"):
        return rest[:count].decode() if kind == "text" else rest[:count], rest[count:]
    values = []
    for _ in range(2 * count if kind == "map" else count):
        value, rest = _unpacked(rest)
        values.append(value)
    return dict(zip(values[::2], values[1::2], strict=True)) if kind == "map" else values, rest


def array_map(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"dtype": array.dtype.name, "shape": array.shape, "data": array.tobytes()}


def array_of(value: Mapping[Any, Any]) -> np.ndarray[Any, Any]:
    """Reads an array of either kind."""
    if b"nd" in value:
        assert value[b"nd"] is True and value[b"kind"] == b""
        return np.frombuffer(value[b"data"], value[b"type"]).reshape(value[b"shape"])
    return np.frombuffer(value["data"], value["dtype"]).reshape(value["shape"])


# ---- both ways


def test_one_array_goes_as_a_file(server: Served) -> None:
    for values in (floats(1, 2, 3), floats()):
        back = read_npy(post(server, "half_plus_two", npy(values), NPY))
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, values / 2 + 2)
    large = np.arange(150_528, dtype=np.float32).reshape(672, 224)
    for version in ((1, 0), (2, 0)):
        back = read_npy(post(server, "add_two", npy(large, version=version), NPY))
        np.testing.assert_array_equal(back, large + 2)


def test_several_arrays_go_as_an_archive(server: Served) -> None:
    arrays = {"a": floats(1.5, 0), "b": np.array([2, -1], np.int32)}
    for save in (np.savez, np.savez_compressed):
        back = read_npz(post(server, "pair", npz(save, **arrays), NPZ))
        assert {name: array.tolist() for name, array in back.items()} == {"sum": [3.5, -1], "twice": [4, -2]}
        assert back["twice"].dtype == np.int32
    alone = read_npz(post(server, "pair", npz(**arrays), NPZ, "?outputs=twice"))
    assert list(alone) == ["twice"]


def test_the_reply_has_the_form_that_is_accepted(server: Served) -> None:
    body = npy(floats(1))
    assert read_npz(post(server, "half_plus_two", body, NPY, Accept=NPZ))["y"].tolist() == [2.5]
    in_json = post(server, "half_plus_two", body, NPY, Accept="application/json;compact=true")
    assert in_json.text == '{"outputs":[2.5]}'
    of_json = post(server, "half_plus_two", b'{"instances": [1.0]}', "application/json", Accept=NPY)
    assert read_npy(of_json).tolist() == [2.5]
    rows = b'{"instances": [{"a": 1, "b": 2}]}'
    assert read_npz(post(server, "pair", rows, "application/json", Accept=f"{NPZ}, */*;q=0.1"))["sum"] == [3]
    refused(post(server, "pair", rows, "application/json", Accept=NPY), 400, "holds one output", "?outputs=")
    one = post(server, "pair", rows, "application/json", "?outputs=sum", Accept=NPY)
    assert read_npy(one).tolist() == [3]


def test_the_elements_go_alone_and_headers_say_what_they_are(server: Served) -> None:
    headers = {"X_Tensor_Shape": "2, 3", "X_Tensor_Dtype": "float32"}
    values = floats(1, 2, 3, 4, 5, 6)
    for more in ({}, {"X_Tensor_Name": "x"}, {"X_Signature_Name": "serving_default"}):
        reply = post(server, "add_two", values.tobytes(), RAW, **headers, **more)
        assert reply.status == 200 and reply.headers["content-type"] == RAW
        assert reply.headers["x-tensor-shape"] == "2,3"
        assert (reply.headers["x-tensor-dtype"], reply.headers["x-tensor-name"]) == ("float32", "y")
        np.testing.assert_array_equal(np.frombuffer(reply.body, np.float32), values + 2)
    refused(post(server, "add_two", b"", RAW, **headers, X_Signature_Name="other"), 400, '"other" not found')
    refused(post(server, "add_two", values.tobytes(), RAW, **headers, X_Tensor_Name="z"), 400, "z")
    refused(post(server, "add_two", values.tobytes(), RAW, X_Tensor_Shape="6"), 400, "X-Tensor-Dtype")
    refused(post(server, "pair", values.tobytes(), RAW, **headers), 400, "a (float), b (int32)")
    scalar = {"X_Tensor_Shape": "", "X_Tensor_Dtype": "int64"}
    done = post(server, "loop", struct.pack("<q", 3), RAW, **scalar)
    assert (done.body, done.headers["x-tensor-shape"]) == (struct.pack("<q", 3), "")


def test_octets_without_these_headers_are_json_as_ever(server: Served) -> None:
    reply = post(server, "half_plus_two", b'{"instances": [1.0]}', RAW)
    assert json.loads(reply.body) == {"predictions": [2.5]}


def test_numbers_of_16_bits_and_strings(server: Served) -> None:
    halves, brains = np.array([0.1, 2], np.float16), np.array([1.5, -3], np.float32)
    bits = (brains.view(np.uint32) >> 16).astype(np.uint16).view("V2")
    back = read_npz(post(server, "narrow", npz(h=halves, b=bits), NPZ))
    np.testing.assert_array_equal(back["halves"], halves)
    np.testing.assert_array_equal(back["brains"].view(np.uint16), bits.view(np.uint16))
    texts = np.array([b"a", b"", b"b\0c"])
    both = read_npz(post(server, "echo", npz(x=texts), NPZ))
    assert both["text"].tolist() == both["raw_bytes"].tolist() == [b"a", b"", b"b\0c"]
    lost = post(server, "echo", packed({"inputs": [b"a\0"]}), MSGPACK, Accept=NPZ)
    refused(lost, 400, "ends with a zero byte")


def test_messagepack_has_the_documents_of_json(server: Served) -> None:
    def reply(model: str, document: Any, query: str = "") -> Any:
        answer = post(server, model, packed(document), MSGPACK, query)
        assert (answer.status, answer.headers["content-type"]) == (200, MSGPACK), answer
        return unpacked(answer.body)

    for value in ([1.0, 2, 3.5], array_map(floats(1, 2, 3.5)), {"x": [1.0, 2, 3.5]}):
        np.testing.assert_array_equal(
            array_of(reply("half_plus_two", {"inputs": value})["outputs"]), [2.5, 3, 3.75]
        )
    rows = {"instances": [{"a": 1.5, "b": 2}, {"b": -1, "a": 0.0}], "signature_name": "serving_default"}
    both = reply("pair", rows)["predictions"]
    assert {name: array_of(one).tolist() for name, one in both.items()} == {
        "sum": [3.5, -1],
        "twice": [4, -2],
    }
    assert array_of(reply("pair", {**rows, "outputs": ["sum"]})["predictions"]).tolist() == [3.5, -1]
    assert array_of(reply("pair", rows, "?outputs=twice")["predictions"]).tolist() == [4, -2]
    assert array_of(reply("add_two", {"instances": [[1, 2], [3, 4]]})["predictions"]).tolist() == [
        [3, 4],
        [5, 6],
    ]
    arrays = {"instances": [array_map(floats(1, 2)), array_map(floats(3, 4))]}
    assert array_of(reply("add_two", arrays)["predictions"]).tolist() == [[3, 4], [5, 6]]
    texts = reply("echo", {"inputs": [b"\xff", "ä"]}, "?outputs=text")["outputs"]
    assert texts == {"dtype": "string", "shape": [2], "data": [b"\xff", "ä".encode()]}


def test_messagepack_of_numpy_is_answered_in_kind(server: Served) -> None:
    values = floats(1, 2)
    theirs = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2], b"data": values.tobytes()}
    reply = unpacked(post(server, "half_plus_two", packed({"inputs": theirs}), MSGPACK).body)["outputs"]
    assert list(reply) == [b"nd", b"type", b"kind", b"shape", b"data"]
    assert array_of(reply).tolist() == [2.5, 3]


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "image/webp"])
def test_a_picture_is_the_body(server: Served, kind: str) -> None:
    picture = bytes(range(256)) * 20
    as_ever = {"instances": [{"b64": base64.b64encode(picture).decode()}]}
    expected = post(server, "echo", json.dumps(as_ever).encode(), "application/json", "?outputs=raw_bytes")
    reply = post(server, "echo", picture, kind, "?outputs=raw_bytes")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.body == expected.body
    refused(post(server, "half_plus_two", picture, kind), 400, "x (float)", "application/x-npy")
    refused(post(server, "pair", picture, kind), 400, "a (float), b (int32)")
    refused(post(server, "echo", b"", kind), 400, "no bytes")


def test_who_asks_for_signatures_is_told_what_can_be_sent(server: Served) -> None:
    offered = ask(server, "GET", "/v1/models/echo/metadata").headers["accept-post"]
    assert {NPY, NPZ, RAW, MSGPACK, "image/*"} <= set(offered.split(", "))
    assert "accept-post" not in ask(server, "GET", "/v1/models/echo").headers


# ---- what is wrong


def header(dict_text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(dict_text)) + dict_text.encode() + data


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no .npy file"),
        (npy(floats(1, 2))[:-1], "takes 8 bytes, and 7 came"),
        (npy(floats(1, 2)) + b"x", "takes 8 bytes, and 9 came"),
        (npy(floats(1, 2))[:60], "ends in its header"),
        (npy(np.asfortranarray(np.ones((2, 3), np.float32))), "np.ascontiguousarray"),
        (npy(np.array([1.0], ">f4")), "big-endian"),
        (npy(np.array([None]), allow_pickle=True), "never read"),
        (npy(np.array(["a"])), "np.char.encode"),
        (npy(np.zeros(2, [("a", "f4")])), "for each field"),
        (npy(np.array([1.0])), "send array.astype(float32)"),
        (npy(np.array([b"a"])), "send array.astype(float32)"),
        (header("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (1,)}"), "in quotes"),
        (
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999)}"),
            "more than",
        ),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "not negative"),
        (header("[" * 10_000), "expected '{'"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff", "10000 at most"),
    ],
)
def test_files_that_lie(server: Served, body: bytes, words: str) -> None:
    with Wire(server) as wire:
        path = "/v1/models/half_plus_two:predict"
        refused(wire.send(message("POST", path, body, Content_Type=NPY)).reply(), 400, words)
        good = wire.send(message("POST", path, npy(floats(1)), Content_Type=NPY)).reply()
        assert read_npy(good).tolist() == [2.5]


def test_archives_that_lie(server: Served) -> None:
    good = npz(a=floats(1), b=np.array([2], np.int32))
    refused(post(server, "pair", good[:-1], NPZ), 400, "no .npz archive")
    refused(post(server, "pair", b"PK\5\6" + bytes(18), NPZ), 400, "Missing but required: {a,b}")
    refused(post(server, "pair", npz(a=floats(1)), NPZ), 400, "Missing but required: {b}")
    refused(post(server, "pair", npz(a=floats(1), c=floats(1)), NPZ), 400, "c")
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", npy(floats(1)))
        archive.writestr("a.npy", npy(floats(1)))
    refused(post(server, "pair", twice.getvalue(), NPZ), 400, "twice")
    refused(post(server, "pair", npz(a=floats(1), b=floats(1)), NPZ), 400, "send array.astype(int32)")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends within a value"),
        (b"{}", "expected a map"),
        (packed({"inputs": [1.0]})[:-1], "ends within a value"),
        (packed({"inputs": [1.0]}) + b"\xc0", "something follows"),
        (packed({}), "neither came"),
        (packed({"inputs": [1.0], "instances": [1.0]}), "both came"),
        (packed({"inputs": None}), "nil is not of the expected type: float"),
        (packed({"inputs": [[1.0], 2.0]}), "different depths"),
        (packed({"inputs": ["a"]}), "a text is not of the expected type: float"),
        (packed({"inputs": {"x": [1.0], "z": [1.0]}}), 'no input "z"'),
        (packed({"instances": []}), "at least one"),
        (packed({"inputs": [1.0], "outputs": ["y", "y"]}), "1 names at most"),
        (packed({"inputs": [1.0], "outputs": ["z"]}), "output tensor alias not found in signature: z"),
        (packed({"inputs": array_map(floats(1)) | {"shape": [2]}}), "takes 8 bytes"),
        (packed({"inputs": array_map(np.array([1.0]))}), "send array.astype(float32)"),
        (packed({"signature_name": "z", "inputs": [1.0]}), '"z" not found'),
        (
            packed({"instances": [array_map(floats()) | {"shape": [2**62, 0]}] * 4}),
            "which no tensor can have",
        ),
        (packed({"inputs": array_map(floats()) | {"shape": [2, 2**62, 0]}}), "more than there can be"),
        (b"\x81\xa6inputs" + b"\x91" * 1_000_000 + b"\x01", "levels deep"),
        (b"\x81\xa6inputs\xdd\xff\xff\xff\xff\x01", "ends within a value"),
        (b"\x81\xa6inputs\xdf\xff\xff\xff\xff\x01\x01", "ends within a value"),
        (b"\x81\xa6inputs\xc1", "no value begins with the byte 0xc1"),
    ],
)
def test_messagepack_that_is_wrong(server: Served, body: bytes, words: str) -> None:
    with Wire(server) as wire:
        path = "/v1/models/half_plus_two:predict"
        refused(wire.send(message("POST", path, body, Content_Type=MSGPACK)).reply(), 400, words)
        good = wire.send(message("POST", path, packed({"inputs": [1.0]}), Content_Type=MSGPACK)).reply()
        assert array_of(unpacked(good.body)["outputs"]).tolist() == [2.5]


def test_bombs_are_refused_and_their_memory_comes_back(server: Served) -> None:
    before = resident_megabytes(server)
    zeros = np.zeros(100 << 20, np.uint8)
    refused(post(server, "half_plus_two", npz(np.savez_compressed, x=zeros), NPZ), 413, "unpack to too much")
    # Each of 40 million texts without a byte takes many in memory.
    texts = b"\x81\xa6inputs\xdd" + struct.pack(">I", 40_000_000) + b"\xa0" * 40_000_000
    refused(post(server, "echo", texts, MSGPACK), 413, "of memory")
    missing = post(server, "nobody", texts, MSGPACK)
    assert missing.status == 404
    many = header("{'descr': '|S1', 'fortran_order': False, 'shape': (40000000,), }", bytes(40_000_000))
    refused(post(server, "echo", many, NPY), 413, "of memory")
    assert until(lambda: resident_megabytes(server) < before + 80, 60)


# ---- what goes with every request


def test_the_client_sends_arrays_as_they_are(server: Served) -> None:
    large = np.arange(1000, dtype=np.float32).reshape(2, 500)
    with Client(server.rest) as client, Client(server.rest, json=True) as in_json:
        assert NPZ in client.metadata("pair").accepts
        for model, inputs, outputs in (
            ("add_two", {"x": large}, None),
            ("pair", {"a": [0.5, 1], "b": [1, 2]}, None),
            ("pair", {"a": [0.5], "b": [1]}, ["twice", "sum"]),
            ("pair", {"a": [0.5], "b": [1]}, ["twice"]),
            ("echo", {"x": ["text", b"\xff\0"]}, None),
            ("narrow", {"h": [0.1], "b": [0.1]}, ["brains", "sum"]),
            ("loop", {"steps": 3}, None),
        ):
            answers = [one.predict(model, inputs, outputs=outputs) for one in (client, in_json)]
            assert [list(answer) for answer in answers] == [list(answers[0])] * 2
            for name, array in answers[0].items():
                np.testing.assert_array_equal(array, answers[1][name])
                assert array.dtype == answers[1][name].dtype and array.flags.writeable
        # JSON has no dimensions after an empty one.
        assert client.predict("add_two", np.zeros((0, 3), np.float32)).shape == (0, 3)
        with pytest.raises(InvalidArgumentError):
            client.predict("pair", {"a": [0.5, 1], "b": [1, 2, 3]})


def test_logs_recordings_and_metrics_are_the_same(tmp_path: Path) -> None:
    prefix = tmp_path / "log"
    entries = [
        entry(
            "m",
            MODELS / "half_plus_two",
            loggingConfig={
                "logCollectorConfig": {"type": "tfrecord", "filenamePrefix": str(prefix)},
                "samplingConfig": {"samplingRate": 1.0},
            },
        )
    ]
    flags = (f"--model_config_file={config_file(tmp_path, *entries)}", "--access_log=all")
    log = tmp_path / "access"
    with serving(*flags, f"--access_log_file={log}", "--metrics_path=/metrics") as served:
        values = floats(1, 2)
        raw = {"X_Tensor_Shape": "2", "X_Tensor_Dtype": "float32"}
        for body, content_type, headers in (
            (npy(values), NPY, {}),
            (npz(x=values), NPZ, {}),
            (values.tobytes(), RAW, raw),
            (packed({"inputs": array_map(values)}), MSGPACK, {}),
        ):
            assert post(served, "m", body, content_type, **headers).status == 200
        page = ask(served, "GET", "/metrics").text
        (count,) = [line for line in page.splitlines() if line.startswith("servable_requests_total{")]
        assert 'model="m"' in count and 'method="predict"' in count and count.endswith(" 4")
    kind = message_class("tensorflow.serving.PredictionLog")
    files = sorted(tmp_path.glob("log-*"))
    logged = [kind.FromString(data) for file in files for data in read_records(str(file))]
    assert [list(one.predict_log.request.inputs["x"].float_val) for one in logged] == [[1, 2]] * 4 or all(
        one.predict_log.request.inputs["x"].tensor_content == values.tobytes() for one in logged
    )
    assert len(logged) == 4
    assert log.read_text().count("method=predict model=m") == 4


def test_the_documents_examples(server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    document = (ROOT / "docs" / "bodies.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```\n```\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {}
    for code, expected in blocks:
        exec(compile(re.sub(r"http://localhost:\d+", server.rest, code), "bodies.md", "exec"), names)
        assert capsys.readouterr().out == expected
