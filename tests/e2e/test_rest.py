"""The REST API as seen by users: the tutorial's three models, both formats, and HTTP features."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator

import pytest
from conftest import SHARED, Served
from servers import MODELS, serving
from wire import Wire, ask, message, predict, wires

pytestmark = pytest.mark.needs_tensorflow

CONFIG = """model_config_list {{
  config {{
    name: "half_plus_two" base_path: "{0}/half_plus_two" model_platform: "tensorflow"
    version_labels {{ key: "stable" value: 1 }}
  }}
  config {{ name: "add_two" base_path: "{0}/add_two" model_platform: "tensorflow" }}
  config {{ name: "pair" base_path: "{0}/pair" model_platform: "tensorflow" }}
  config {{ name: "echo" base_path: "{0}/echo" model_platform: "tensorflow" }}
  config {{ name: "loop" base_path: "{0}/loop" model_platform: "tensorflow" }}
}}
"""
STATUS = "/v1/models/half_plus_two"
PREDICT = "/v1/models/half_plus_two:predict"
ONE = '{"instances": [1.0]}'
ANSWER = '{\n    "predictions": [2.5\n    ]\n}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(CONFIG.format(MODELS))
    with serving(f"--model_config_file={config}") as served:
        yield served


# ---- the models


@pytest.mark.parametrize("choice", ["", "/versions/1", "/versions/0001", "/labels/stable"])
def test_half_plus_two(server: Served, choice: str) -> None:
    reply = predict(server, f"half_plus_two{choice}", {"instances": [1.0, 2.0, 5.0]})
    assert (reply.status, reply.text) == (200, '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}')


def test_half_plus_two_in_columns(server: Served) -> None:
    reply = predict(server, "half_plus_two", {"inputs": {"x": [1.0, 2.0]}})
    assert reply.text == '{\n    "outputs": [\n        2.5,\n        3.0\n    ]\n}'


@pytest.mark.parametrize("choice", ["/versions/2", "/labels/canary"])
def test_a_version_that_is_not_there(server: Served, choice: str) -> None:
    reply = predict(server, f"half_plus_two{choice}", ONE)
    wanted = {
        "/versions/2": (404, "Servable not found for request: Specific(half_plus_two, 2)"),
        "/labels/canary": (400, "Unrecognized servable version label: canary"),
    }
    assert (reply.status, reply.error) == wanted[choice]


def test_two_is_added_to_every_element(server: Served) -> None:
    assert predict(server, "add_two", {"instances": [[1.0, 2.0, 5.0]]}).text == (
        '{\n    "predictions": [[3.0, 4.0, 7.0]\n    ]\n}'
    )
    assert predict(server, "add_two", {"inputs": [[1, -2.5]]}).text == (
        '{\n    "outputs": [\n        [\n            3.0,\n            -0.5\n        ]\n    ]\n}'
    )


def test_a_shape_the_model_refuses_is_the_models_error(server: Served) -> None:
    reply = predict(server, "pair", {"inputs": {"a": [1.0, 2.0], "b": [1, 2, 3]}})
    assert reply.status == 400
    assert "Incompatible shapes: " in reply.error


def test_several_inputs_and_outputs(server: Served) -> None:
    rows = predict(server, "pair", {"instances": [{"a": 0.5, "b": 1}, {"b": -2, "a": 1.5}]})
    assert json.loads(rows.body) == {"predictions": [{"sum": 1.5, "twice": 2}, {"sum": -0.5, "twice": -4}]}
    columns = predict(server, "pair", {"inputs": {"a": [0.5], "b": [1]}})
    assert json.loads(columns.body) == {"outputs": {"sum": [1.5], "twice": [2]}}


def test_bytes_go_in_and_come_out_as_base64(server: Served) -> None:
    # With line breaks, as inserted by Python's base64.encodebytes; and longer than one such line.
    raw = bytes(range(128))
    body = {"instances": [{"b64": base64.encodebytes(raw).decode()}, "é"]}
    rows = json.loads(predict(server, "echo", body).body)["predictions"]
    assert [base64.b64decode(row["raw_bytes"]["b64"]) for row in rows] == [raw, "é".encode()]
    assert [row["text"] for row in rows] == [raw.decode(), "é"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have(server: Served, number: str) -> None:
    reply = predict(server, "half_plus_two", f'{{"instances": [{number}, 1]}}')
    assert reply.text == f'{{\n    "predictions": [{number}, 2.5\n    ]\n}}'


def test_a_named_signature(server: Served) -> None:
    reply = predict(server, "loop", {"signature_name": "fill", "inputs": 2})
    assert json.loads(reply.body) == {"outputs": [1.0, 1.0]}
    unknown = predict(server, "loop", {"signature_name": "drain", "inputs": 2})
    assert (unknown.status, unknown.error) == (
        400,
        'Serving signature name: "drain" not found in signature def',
    )


@pytest.mark.parametrize("suffix", ["", "/versions/1", "/labels/stable"])
def test_metadata(server: Served, suffix: str) -> None:
    reply = ask(server, "GET", f"{STATUS}{suffix}/metadata")
    metadata = json.loads(reply.body)
    assert metadata["model_spec"] == {"name": "half_plus_two", "version": "1", "signature_name": ""}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert signature["inputs"]["x"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_status(server: Served) -> None:
    status = json.loads(ask(server, "GET", STATUS).body)
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert status == {"model_version_status": [available]}


# ---- the pictures


@pytest.fixture(scope="module")
def pictures() -> Iterator[Served]:
    with serving(f"mobilenet_v2={SHARED / 'mobilenet' / 'mobilenet_v2'}") as served:
        yield served


def _photo(name: str) -> dict[str, str]:
    return {"b64": base64.b64encode((SHARED / "mobilenet" / "photos" / name).read_bytes()).decode()}


@pytest.mark.needs_shared
def test_the_panda_is_recognised(pictures: Served) -> None:
    panda = _photo("panda.jpg")
    columns = predict(pictures, "mobilenet_v2", {"inputs": [panda]})
    assert (columns.status, columns.text) == (200, '{\n    "outputs": [\n        "giant panda"\n    ]\n}')
    for row in (panda, {"image_bytes": panda}):
        rows = predict(pictures, "mobilenet_v2", {"instances": [row]})
        assert (rows.status, rows.text) == (200, '{\n    "predictions": ["giant panda"\n    ]\n}')


@pytest.mark.needs_shared
def test_pictures_in_one_batch(pictures: Served) -> None:
    body = {"instances": [_photo("macaw.jpg"), _photo("lobster_12mp.jpg"), _photo("panda.jpg")]}
    reply = predict(pictures, "mobilenet_v2", body)
    assert json.loads(reply.body) == {"predictions": ["macaw", "American lobster", "giant panda"]}


@pytest.mark.needs_shared
def test_bytes_that_are_no_picture(pictures: Served) -> None:
    reply = predict(pictures, "mobilenet_v2", {"instances": [{"b64": "AAAA"}]})
    assert reply.status == 400
    assert "Unknown image file format" in reply.error


# ---- HTTP


def test_a_compressed_request(server: Served) -> None:
    packed = gzip.compress(ONE.encode())
    reply = ask(server, "POST", PREDICT, packed, Content_Encoding="gzip")
    assert (reply.status, reply.text) == (200, ANSWER)


LARGE = json.dumps({"instances": [1.0] * 1000})


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip;q=0.5", "GZIP", "deflate, gzip ; q=1.0"])
def test_a_compressed_reply(server: Served, accepted: str) -> None:
    plain = predict(server, "half_plus_two", LARGE)
    packed = predict(server, "half_plus_two", LARGE, Accept_Encoding=accepted)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"].lower() == "accept-encoding"
    assert len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body) == plain.body


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", "gzip; q=0.0, br"])
def test_a_reply_that_may_not_be_compressed(server: Served, accepted: str) -> None:
    reply = predict(server, "half_plus_two", LARGE, Accept_Encoding=accepted)
    assert "content-encoding" not in reply.headers
    assert len(json.loads(reply.body)["predictions"]) == 1000


def test_a_connection_is_kept_and_closed_as_asked(server: Served) -> None:
    with Wire(server) as wire:
        for _ in range(5):
            assert wire.send(message("POST", PREDICT, ONE)).reply().text == ANSWER
        last = wire.send(message("POST", PREDICT, ONE, Connection="close")).reply()
        assert last.headers["connection"].lower() == "close"
        assert wire.closed()


@pytest.mark.parametrize(
    ("version", "connection"),
    [("1.0", None), ("1.0", "keep-alive"), ("1.1", None), ("1.1", "close")],
)
def test_the_headers_of_a_reply_and_their_order(server: Served, version: str, connection: str | None) -> None:
    """docs/spec/rest.md, section 1."""
    asked = message("GET", STATUS, **({"Connection": connection} if connection else {}))
    with Wire(server) as wire:
        reply = wire.send(asked.replace(b"HTTP/1.1", f"HTTP/{version}".encode())).reply()
        assert reply.version == f"HTTP/{version}"
        named = ["connection"] if connection else []
        assert list(reply.headers) == ["content-type", *named, "content-length", "date"]
        if (version, connection) in (("1.0", None), ("1.1", "close")):
            assert wire.closed()
        else:
            assert wire.send(message("GET", STATUS)).reply().status == 200


@pytest.mark.parametrize("path", [STATUS, "/v1/models/nope"])
def test_a_target_with_scheme_and_host(server: Served, path: str) -> None:
    """Answered as without them, and the connection stays open."""
    plain = ask(server, "GET", path)
    with Wire(server) as wire:
        for _ in range(2):
            reply = wire.send(message("GET", f"http://elsewhere{path}")).reply()
            assert (reply.status, reply.body) == (plain.status, plain.body)


UNREADABLE = "Bad Request: this is not HTTP/1.1 that can be read (request line, header or body length)"


@pytest.mark.parametrize(
    ("head", "status", "error"),
    [
        (f"GET {STATUS} HTTP/1.2\r\nHost: x", 400, UNREADABLE),
        (f"GET {STATUS} HTTP/2.0\r\nHost: x", 400, UNREADABLE),
        (f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip", 400, UNREADABLE),
        (f"POST {PREDICT} HTTP/1.0\r\nTransfer-Encoding: chunked", 400, UNREADABLE),
        (
            f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked",
            501,
            "Not Implemented: Transfer-Encoding gzip, chunked; only chunked is",
        ),
        (
            f"GET {STATUS} HTTP/1.1\r\nHost: x" + "\r\nX: y" * 100,
            431,
            "Request Header Fields Too Large: send fewer or shorter headers",
        ),
        ("GET /" + "x" * 65534 + " HTTP/1.1\r\nHost: x", 414, "URI Too Long: send a shorter path"),
    ],
    ids=["1.2", "2.0", "no_end", "1.0_in_chunks", "gzip", "headers", "target"],
)
def test_what_a_refused_head_is_told(server: Served, head: str, status: int, error: str) -> None:
    with Wire(server) as wire:
        reply = wire.send(f"{head}\r\n\r\n").reply()
        assert (reply.status, reply.error) == (status, error)
        assert reply.headers["connection"] == "close" and wire.closed()


def test_http_2_is_not_spoken_where_that_is_turned_off() -> None:
    off = "--rest_api_http2_cleartext=false"
    with serving(MODELS / "half_plus_two", off) as served, Wire(served) as wire:
        assert wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").closed()


def test_requests_in_a_row_are_answered_in_order(server: Served) -> None:
    bodies = [f'{{"instances": [{number}]}}' for number in range(0, 200, 2)]
    with Wire(server) as wire:
        wire.send(b"".join(message("POST", PREDICT, body) for body in bodies))
        answers = [json.loads(wire.reply().body)["predictions"][0] for _ in bodies]
    assert answers == [2.0 + number for number in range(100)]


def test_slow_and_quick_requests_in_a_row_keep_their_order(server: Served) -> None:
    slow = message("POST", "/v1/models/loop:predict", '{"inputs": 20000}')
    with Wire(server) as wire:
        wire.send((slow + message("GET", STATUS)) * 3)
        kinds = [list(json.loads(wire.reply().body)) for _ in range(6)]
    assert kinds == [["outputs"], ["model_version_status"]] * 3


@pytest.mark.parametrize(
    "rest", ["\r\n", "GET /v1/mod", "POST /v1/models/half_plus_two:predict HTTP/1.1\r\n"]
)
def test_an_answer_does_not_wait_for_what_follows(server: Served, rest: str) -> None:
    with Wire(server) as wire:
        assert wire.send(message("POST", PREDICT, ONE) + rest.encode()).reply().text == ANSWER


def test_a_request_may_come_byte_by_byte(server: Served) -> None:
    with Wire(server) as wire:
        for byte in message("POST", PREDICT, ONE):
            wire.send(bytes([byte]))
        assert wire.reply().text == ANSWER


def test_chunks_with_extensions_and_trailers(server: Served) -> None:
    chunks = '8;name="value"\r\n{"instan\r\n00c\r\nces": [1.0]}\r\n0\r\nTrailer: x\r\n\r\n'
    with Wire(server) as wire:
        request = message("POST", PREDICT, chunks, Transfer_Encoding="chunked")
        assert wire.send(request + message("GET", STATUS)).reply().text == ANSWER
        assert wire.reply().status == 200


@pytest.mark.parametrize("path", [STATUS, f"{STATUS}/metadata", "/v1/models/nope", "/elsewhere"])
def test_head_is_get_without_the_body(server: Served, path: str) -> None:
    get = ask(server, "GET", path)
    with Wire(server) as wire:
        head = wire.send(message("HEAD", path)).reply(head_only=True)
        assert wire.send(message("GET", STATUS)).reply().status == 200  # no body was in the way
    assert head.status == get.status
    free = {"date"}
    assert {n: v for n, v in head.headers.items() if n not in free} == {
        n: v for n, v in get.headers.items() if n not in free
    }


def test_head_of_what_get_refuses(server: Served) -> None:
    assert ask(server, "HEAD", "/v1/models/half_plus_two:predict").status == 400


def test_only_a_bodys_announcement_is_answered_with_continue(server: Served) -> None:
    with Wire(server) as wire:
        wire.send(f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n")
        wire.send(f"Content-Length: {len(ONE)}\r\n\r\n")
        assert wire.reply().status == 100
        assert wire.send(ONE).reply().text == ANSWER
        assert wire.send(message("POST", PREDICT, ONE)).reply().text == ANSWER


@pytest.mark.parametrize("origin", ["http://a.example", "https://a.example:8080"])
def test_a_browser_may_ask_first(server: Served, origin: str) -> None:
    reply = ask(server, "OPTIONS", PREDICT, Origin=origin)
    assert (reply.status, reply.body) == (200, b"")
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_cors_headers_by_flag() -> None:
    flags = ["--rest_api_enable_cors_support", "--model_name=m"]
    with serving(*flags, f"--model_base_path={MODELS / 'half_plus_two'}") as served:
        for reply in (
            ask(served, "OPTIONS", "/v1/models/m:predict", Origin="http://a.example"),
            predict(served, "m", ONE),
            predict(served, "m", "{"),
            ask(served, "GET", "/v1/models/nope"),
        ):
            assert reply.headers["access-control-allow-origin"] == "*"
            assert reply.headers["access-control-allow-methods"] == "POST, GET"
            assert reply.headers["access-control-allow-headers"] == "Content-Type"
            assert "access-control-expose-headers" not in reply.headers
        for reply in (
            ask(served, "OPTIONS", "/v2/models/m/infer", Origin="http://a.example"),
            ask(served, "GET", "/v2/models/m"),
        ):
            assert reply.headers["access-control-allow-origin"] == "*"
            for kind in ("allow", "expose"):
                names = reply.headers[f"access-control-{kind}-headers"].split(", ")
                assert "inference-header-content-length" in names and "x-request-id" in names


def test_a_small_server_answers_many_at_once() -> None:
    """TensorFlow Serving hangs with one REST thread."""
    few = ["--rest_api_num_threads=1", "--io_threads=1", "--compute_threads=1"]
    asked = [message("POST", PREDICT, ONE)] * 20
    with serving(MODELS / "half_plus_two", *few) as served, wires(served, asked) as clients:
        assert [client.reply().text for client in clients] == [ANSWER] * 20
