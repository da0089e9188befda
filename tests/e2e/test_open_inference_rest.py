"""The Open Inference Protocol over REST: what it answers, its extensions, and every rule broken once."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from certificates import Authority
from conftest import Served
from open_inference import infer, infer_message, outputs, strings, tensor
from servers import ADMIN, DROP_IN, MODELS, admin_url, put_version, serving, until
from tokens import TokenFile, get
from wire import Reply, Wire, ask, message, predict

pytestmark = pytest.mark.needs_tensorflow

A = tensor("a", "FP32", [2], [1.5, 0.0])
B = tensor("b", "INT32", [2], [2, -1])
PAIR = {"inputs": [A, B]}
CONTROL = "--open_inference_model_control"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = [MODELS / name for name in ("pair", "half_plus_two", "add_two", "echo", "narrow", "loop")]
    log = tmp_path_factory.mktemp("logs") / "access.log"
    flags = ["--access_log=all", f"--access_log_file={log}", "--log_format=json", "--max_json_depth=20"]
    with serving(*models, *flags, ready="ready: 6 of 6 models") as served:
        served.access_log = log  # type: ignore[attr-defined]
        yield served


def got(served: Served, path: str, **headers: str) -> Any:
    reply = ask(served, "GET", path, **headers)
    assert reply.status == 200, reply
    return json.loads(reply.body)


# ---- what is told


def test_the_server_tells_of_itself(server: Served) -> None:
    assert got(server, "/v2/health/live") == {"live": True}
    assert got(server, "/v2/health/ready") == {"ready": True}
    told = got(server, "/v2")
    assert told["name"] == "servable" and {"binary_tensor_data", "statistics"} <= set(told["extensions"])
    assert got(server, "/v2/") == told
    assert ask(server, "HEAD", "/v2/health/ready").status == 200


def test_a_model_tells_of_itself(server: Served) -> None:
    assert got(server, "/v2/models/pair") == {
        "name": "pair",
        "versions": ["1"],
        "platform": "tensorflow_savedmodel",
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [-1]},
            {"name": "b", "datatype": "INT32", "shape": [-1]},
        ],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [-1]},
            {"name": "twice", "datatype": "INT32", "shape": [-1]},
        ],
    }
    assert got(server, "/v2/models/pair/versions/1/ready") == {"name": "pair", "ready": True}
    assert got(server, "/v2/models/loop:fill")["inputs"] == [
        {"name": "count", "datatype": "INT32", "shape": []}
    ]
    config = got(server, "/v2/models/add_two/config")
    assert config["max_batch_size"] > 0 and config["backend"] == "tensorflow"
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}]
    assert got(server, "/v2/models/loop/config")["max_batch_size"] == 0


def test_what_is_not_there_is_said(server: Served) -> None:
    for path, status, part in (
        ("/v2/models/x", 404, "unknown model: 'x' is not found"),
        ("/v2/models/x/ready", 404, "unknown model: 'x' is not found"),
        ("/v2/models/pair/versions/7", 404, "'pair' version 7 is not found"),
        ("/v2/models/pair/versions/x", 400, "should be an integral value"),
        ("/v2/models/pair/labels/new", 400, "label"),
        ("/v2/models/pair:x", 400, '"x" not found'),
        ("/v2/models/x/stats", 404, "'x' is not found"),
        ("/v2/x", 404, "Not Found: /v2/x"),
        ("/v2/models/pair/infer", 405, "POST is"),
        ("/v2/repository/models/pair/load", 405, "POST is"),
        ("/v2/%zz", 400, "percent-encoded"),
    ):
        reply = ask(server, "GET", path)
        assert (reply.status, part in reply.error) == (status, True), (path, reply)
    assert ask(server, "POST", "/v2/models/pair", "{}").status == 405
    assert "'x' is not found" in infer(server, "x", PAIR).error
    assert infer(server, "pair/versions/7", PAIR).status == 404


def test_requests_are_counted(server: Served) -> None:
    def stats(path: str) -> Any:
        return {one["name"]: one for one in got(server, path)["model_stats"]}

    before = stats("/v2/models/half_plus_two/stats")["half_plus_two"]
    body = {"inputs": [tensor("x", "FP32", [1], [1])]}
    for _ in range(3):
        assert infer(server, "half_plus_two", body).status == 200
    assert infer(server, "half_plus_two", {"inputs": []}).status == 400
    after = stats("/v2/models/stats")["half_plus_two"]
    assert after["version"] == "1"
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 3
    for kind, count in (("success", 3), ("fail", 1), ("compute_infer", 3)):
        assert after["inference_stats"][kind]["count"] - before["inference_stats"][kind]["count"] == count
    assert after["inference_stats"]["compute_infer"]["ns"] > 0
    before = stats("/v2/models/add_two/stats")["add_two"]
    rows = {"inputs": [tensor("x", "FP32", [5, 2], [0.0] * 10)]}
    assert infer(server, "add_two", rows).status == 200
    after = stats("/v2/models/add_two/stats")["add_two"]
    assert after["inference_count"] - before["inference_count"] == 5
    assert after["execution_count"] - before["execution_count"] == 1
    page = ask(server, "GET", "/metrics").text
    assert re.search(r'servable_requests_total\{model="add_two",[^}]*method="infer",[^}]*\} \d', page)
    assert re.search(r':tensorflow:serving:request_count\{model_name="add_two",status="OK"\} \d', page)
    assert not re.search(r'servable_requests_total\{model="add_two",[^}]*method="predict"', page)


def test_the_index_lists_every_version(server: Served) -> None:
    pair = {"name": "pair", "version": "1", "state": "READY", "reason": ""}
    for body in ("", "{}", '{"ready": true}'):
        index = json.loads(ask(server, "POST", "/v2/repository/index", body).body)
        assert len(index) == 6 and pair in index
    assert pair in got(server, "/v2/repository/index")
    assert ask(server, "POST", "/v2/repository/index", '{"ready": 1}').status == 400


# ---- tensors


@pytest.mark.parametrize("path", ["pair", "pair/versions/1", "p%61ir:serving_default"])
def test_json_in_and_out(server: Served, path: str) -> None:
    reply = infer(server, path, {"id": "é", **PAIR})
    answer = json.loads(reply.body)
    assert (answer["id"], answer["model_version"]) == ("é", "1")
    assert answer["outputs"] == [
        {"name": "sum", "datatype": "FP32", "shape": [2], "data": [3.5, -1.0]},
        {"name": "twice", "datatype": "INT32", "shape": [2], "data": [4, -2]},
    ]
    assert reply.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in reply.headers


def test_outputs_come_in_the_order_in_which_they_are_named(server: Served) -> None:
    named = {**PAIR, "outputs": [{"name": "twice"}, {"name": "sum"}]}
    assert [one["name"] for one in json.loads(infer(server, "pair", named).body)["outputs"]] == [
        "twice",
        "sum",
    ]
    assert list(outputs(infer(server, "pair", {**PAIR, "outputs": [{"name": "twice"}]}))) == ["twice"]
    assert len(outputs(infer(server, "pair", {**PAIR, "outputs": []}))) == 2


def test_data_may_be_nested_or_flat(server: Served) -> None:
    for data in ([[1, 2], [3, 4]], [1, 2, 3, 4]):
        body = {"inputs": [tensor("x", "FP32", [2, 2], data)]}
        (answer,) = json.loads(infer(server, "add_two", body).body)["outputs"]
        assert (answer["shape"], answer["data"]) == ([2, 2], [3.0, 4.0, 5.0, 6.0])


@pytest.mark.parametrize("sizes", [(3, 1), (300, 500)])
def test_binary_in_and_out(server: Served, sizes: tuple[int, int]) -> None:
    values = np.random.default_rng(7).random(sizes, np.float32)
    sent = tensor("x", "FP32", list(sizes), binary_data_size=values.nbytes)
    for body in (
        {"inputs": [sent], "parameters": {"binary_data_output": True}},
        {"inputs": [sent], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
    ):
        reply = infer(server, "add_two", body, values.tobytes())
        assert reply.headers["content-type"] == "application/octet-stream"
        back = np.frombuffer(outputs(reply)["y"], np.float32).reshape(sizes)
        np.testing.assert_array_equal(back, values + 2)
    as_json = infer(server, "add_two", {"inputs": [sent]}, values.tobytes())
    np.testing.assert_allclose(outputs(as_json)["y"], (values + 2).ravel(), rtol=1e-6)


def test_each_output_may_have_a_form_of_its_own(server: Served) -> None:
    body = {
        **PAIR,
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "twice", "parameters": {"binary_data": False}}, {"name": "sum"}],
    }
    found = outputs(infer(server, "pair", body))
    assert found == {"twice": [4, -2], "sum": np.array([3.5, -1], np.float32).tobytes()}


def test_a_body_may_be_the_only_inputs_data(server: Served) -> None:
    raw = {"Inference_Header_Content_Length": "0"}
    values = np.arange(6, dtype=np.float32)
    reply = ask(server, "POST", "/v2/models/half_plus_two/infer", values.tobytes(), **raw)
    np.testing.assert_array_equal(np.frombuffer(outputs(reply)["y"], np.float32), values / 2 + 2)
    reply = ask(server, "POST", "/v2/models/echo/infer", b"\xff\xd8\0", **raw)
    assert outputs(reply)["text"] == strings(b"\xff\xd8\0")
    for path, body, part in (
        ("half_plus_two", b"12345", "expecting 4"),
        ("pair", b"1234", "its inputs are ['a','b']"),
    ):
        refused = ask(server, "POST", f"/v2/models/{path}/infer", body, **raw)
        assert (refused.status, part in refused.error) == (400, True), refused


def test_strings_go_both_ways_in_every_form(server: Served) -> None:
    picture = b"\xff\xd8\0"
    for described, binary in (
        (tensor("x", "BYTES", [1], ["/9gA"], content_type="base64"), None),
        (tensor("x", "BYTES", [1], [{"b64": "/9gA"}]), None),
        (tensor("x", "BYTES", [1], binary_data_size=7), strings(picture)),
    ):
        text = {"name": "text", "parameters": {"content_type": "base64"}}
        body = {"inputs": [described], "outputs": [text]}
        assert outputs(infer(server, "echo", body, binary)) == {"text": ["/9gA"]}
        raw = {"name": "raw_bytes", "parameters": {"binary_data": True}}
        body = {"inputs": [described], "outputs": [raw]}
        assert outputs(infer(server, "echo", body, binary)) == {"raw_bytes": strings(picture)}
    several = tensor("x", "BYTES", [3], ["a", "", "é\n"])
    same = ["a", "", "é\n"]
    assert outputs(infer(server, "echo", {"inputs": [several]})) == {"raw_bytes": same, "text": same}
    three = strings(b"a", b"", b"bc")
    body = {"inputs": [tensor("x", "BYTES", [3], binary_data_size=len(three))]}
    assert outputs(infer(server, "echo", body, three))["text"] == ["a", "", "bc"]


def test_numbers_of_16_bits_go_both_ways(server: Served) -> None:
    halves = np.array([0.1, -2], np.float16)
    brains = np.array([1.5, 257], np.float32).view(np.uint16)[1::2]
    binary = halves.tobytes() + brains.tobytes()
    body = {
        "inputs": [
            tensor("h", "FP16", [2], binary_data_size=4),
            tensor("b", "BF16", [2], binary_data_size=4),
        ],
        "outputs": [
            {"name": "halves", "parameters": {"binary_data": True}},
            {"name": "brains", "parameters": {"binary_data": True}},
        ],
    }
    found = outputs(infer(server, "narrow", body, binary))
    assert found == {"halves": halves.tobytes(), "brains": brains.tobytes()}
    body = {"inputs": [tensor("h", "FP16", [1], [0.1]), tensor("b", "BF16", [1], [1])]}
    assert outputs(infer(server, "narrow", body))["halves"] == [0.1]


def test_classes_are_the_best_of_each_row(server: Served) -> None:
    body = {
        "inputs": [tensor("x", "FP32", [2, 3], [1, 3, 2, 0.5, -1, 0])],
        "outputs": [{"name": "y", "parameters": {"classification": 2}}],
    }
    (answer,) = json.loads(infer(server, "add_two", body).body)["outputs"]
    assert (answer["datatype"], answer["shape"]) == ("BYTES", [2, 2])
    assert answer["data"] == ["5.000000:1", "4.000000:2", "2.500000:0", "2.000000:2"]


def test_signatures_are_named_with_the_model_or_by_a_parameter(server: Served) -> None:
    inputs = {"inputs": [tensor("count", "INT32", [], 3)]}
    named = {**inputs, "parameters": {"signature_name": "fill"}}
    for path, body in (("loop:fill", inputs), ("loop", named), ("loop:fill", named), ("loop%3Afill", inputs)):
        assert outputs(infer(server, path, body)) == {"y": [1.0, 1.0, 1.0]}, path
    reply = infer(server, "loop:serving_default", named)
    assert (reply.status, "two signatures" in reply.error) == (400, True)


def test_labels_are_named_in_the_path_or_by_a_parameter(tmp_path: Path) -> None:
    base = put_version("half_plus_two", tmp_path / "m", 1).parent
    put_version("half_plus_two", base, 2)
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" '
        'model_version_policy { all {} } version_labels { key: "old" value: 1 } } }'
    )
    body: dict[str, Any] = {"inputs": [tensor("x", "FP32", [1], [1])]}
    labelled = {**body, "parameters": {"version_label": "old"}}
    with serving(f"--model_config_file={config}") as served:

        def version(reply: Reply) -> str:
            assert reply.status == 200, reply
            return str(json.loads(reply.body)["model_version"])

        # The server is ready with the first version of a model.
        assert until(lambda: version(infer(served, "m", body)) == "2")
        assert until(lambda: infer(served, "m/labels/old", body).status == 200)
        assert version(infer(served, "m/labels/old", body)) == "1"
        assert version(infer(served, "m", labelled)) == "1"
        assert version(infer(served, "m/labels/old", labelled)) == "1"
        assert infer(served, "m/versions/1", labelled).status == 400
        packed = gzip.compress(json.dumps(labelled).encode())
        refused = ask(served, "POST", "/v2/models/m/infer", packed, Content_Encoding="gzip")
        assert (refused.status, "/labels/LABEL" in refused.error) == (400, True)
        assert got(served, "/v2/models/m")["versions"] == ["1", "2"]
        assert got(served, "/v2/models/m/labels/old")["versions"] == ["1"]


def test_compressed_both_ways(server: Served) -> None:
    values = np.zeros((100, 100), np.float32)
    head = json.dumps({"inputs": [tensor("x", "FP32", [100, 100], binary_data_size=40_000)]}).encode()
    packed = gzip.compress(head + values.tobytes())
    headers = {"Content_Encoding": "gzip", "Accept_Encoding": "gzip"}
    headers["Inference_Header_Content_Length"] = str(len(head))
    reply = ask(server, "POST", "/v2/models/add_two/infer", packed, **headers)
    assert (reply.status, reply.headers["content-encoding"]) == (200, "gzip")
    (answer,) = json.loads(gzip.decompress(reply.body))["outputs"]
    assert answer["data"] == [2.0] * 10_000
    cut = ask(server, "POST", "/v2/models/add_two/infer", packed[:-1], **headers)
    assert cut.status == 400


def test_requests_are_logged_with_model_version_and_method(server: Served) -> None:
    log: Path = server.access_log  # type: ignore[attr-defined]
    assert (
        infer(server, "loop:fill", {"inputs": [tensor("count", "INT32", [], 1)]}, X_Request_Id="v2-1").status
        == 200
    )

    def found() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines() if "v2-1" in line]

    assert until(found)
    (line,) = found()
    expected = {
        "method": "infer",
        "model": "loop",
        "version": 1,
        "signature": "fill",
        "status": 200,
        "code": "OK",
    }
    assert expected.items() <= line.items(), line


def test_over_tls_and_http2(tmp_path: Path) -> None:
    authority = Authority()
    authority.issue("server").write(tmp_path, "server")
    flags = [f"--tls_cert_file={tmp_path / 'server.pem'}", f"--tls_key_file={tmp_path / 'server.key'}"]
    values = np.arange(100_000, dtype=np.float32)
    sent = tensor("x", "FP32", [100_000], binary_data_size=values.nbytes)
    head = json.dumps({"inputs": [sent], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    with (
        serving(MODELS / "half_plus_two", *flags) as served,
        httpx.Client(
            base_url=f"https://127.0.0.1:{served.rest_port}", verify=authority.trusting(), http2=True
        ) as client,
    ):
        reply = client.post(
            "/v2/models/half_plus_two/infer", content=head + values.tobytes(), headers=headers
        )
        assert (reply.http_version, reply.status_code) == ("HTTP/2", 200)
        rest = reply.content[int(reply.headers["inference-header-content-length"]) :]
        np.testing.assert_array_equal(np.frombuffer(rest, np.float32), values / 2 + 2)
        assert client.get("/v2/health/ready").json() == {"ready": True}


# ---- every rule broken once

GOOD_BINARY = tensor("x", "FP32", [1, 2], binary_data_size=8)
X = np.zeros(2, np.float32).tobytes()

BINARY = [
    # the inputs, what follows, headers, and a part of the error
    ([GOOD_BINARY], X, {"Inference_Header_Content_Length": "100000"}, "the body has"),
    ([GOOD_BINARY], X, {"Inference_Header_Content_Length": "-1"}, "expects a number of bytes"),
    ([GOOD_BINARY], X, {"Inference_Header_Content_Length": "9" * 30}, "expects a number of bytes"),
    ([GOOD_BINARY], X, {"Inference_Header_Content_Length": "9"}, "JSON Parse error"),
    ([GOOD_BINARY], X[:4], {}, "the body has 4 more bytes"),
    ([GOOD_BINARY], X + b"x", {}, "unexpected additional input data: 1 bytes"),
    ([tensor("x", "FP32", [1, 2], binary_data_size=7)], X[:7], {}, "size 7 for input 'x', expecting 8"),
    ([tensor("x", "FP32", [1, 2], binary_data_size=-1)], X, {}, "expects a whole number"),
    ([tensor("x", "FP32", [1, 2], binary_data_size=1 << 62)], X, {}, "the body has 8 more bytes"),
    ([tensor("x", "FP32", [1, 2], [0, 0], binary_data_size=8)], X, {}, "both 'data'"),
    ([tensor("x", "FP32", [-1, 2], binary_data_size=8)], X, {}, "which no tensor has"),
    ([tensor("x", "FP32", [1 << 32, 1 << 32], binary_data_size=8)], X, {}, "which no tensor has"),
    ([tensor("x", "FP32", [0, 1 << 63], binary_data_size=0)], b"", {}, "'shape': expected a list"),
    ([tensor("x", "FP32", [1 << 40, 2], binary_data_size=8)], X, {}, "expecting 8796093022208"),
    ([tensor("x", "FP32", [2], binary_data_size=8)], X, {}, "unexpected shape for input 'x'"),
    ([tensor("x", "FP32", [1] * 300, binary_data_size=4)], X[:4], {}, "254 dimensions"),
    ([tensor("x", "INT32", [1, 2], binary_data_size=8)], X, {}, "data-type is 'INT32'"),
    ([tensor("x", "FLOAT", [1, 2], binary_data_size=8)], X, {}, "does not know"),
    ([tensor("y", "FP32", [1, 2], binary_data_size=8)], X, {}, "unexpected inference input 'y'"),
    ([GOOD_BINARY, GOOD_BINARY], X + X, {}, "already exists"),
    ([], X, {}, "missing required input"),
    ([tensor("x", "FP32", [1, 2], shared_memory_region="r")], b"", {}, "shared memory"),
]  # fmt: skip


@pytest.mark.parametrize(("inputs", "binary", "headers", "part"), BINARY)
def test_binary_bodies_that_are_wrong(
    server: Served, inputs: list[Any], binary: bytes, headers: dict[str, str], part: str
) -> None:
    """The next request on the same connection is answered."""
    with Wire(server) as wire:
        reply = wire.send(infer_message("add_two", {"inputs": inputs}, binary, **headers)).reply()
        assert (reply.status, part in reply.error) == (400, True), reply
        good = wire.send(infer_message("add_two", {"inputs": [GOOD_BINARY]}, X)).reply()
        assert outputs(good) == {"y": [2.0, 2.0]}


def data(text: str, shape: str = "[1, 2]") -> str:
    """Returns a request with this data for ``x``."""
    return f'{{"inputs": [{{"name": "x", "shape": {shape}, "datatype": "FP32", "data": {text}}}]}}'


TEXTS = [
    ("", "empty"),
    ("{", "JSON Parse error"),
    ("[]", "not a JSON object"),
    ('"x"', "not a JSON object"),
    ("{} {}", "more after the request's JSON"),
    ("\0", "empty"),
    ('{"inputs": null}', "expected a list"),
    ('{"inputs": [[]]}', "expected a list"),
    ('{"inputs": [{}]}', "no 'name'"),
    ('{"inputs": ' + "[" * 100_000, "expected a list"),
    ('{"x": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}", "missing required"),
    (data("[" * 30 + "]" * 30), "levels"),
    (data("[1]"), "elements 1"),
    (data("[[1], [2]]"), "nested as"),
    (data("[[1], [2, 3]]"), "unexpected size"),
    (data('["1", "2"]'), "not of expected type"),
    (data("{}"), "not of expected type"),
    (data("[1, 2]", '"12"'), "'shape': expected"),
    ('{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32"}]}', "has no data"),
    ('{"id": 7}', "'id': expected a string"),
    ('{"parameters": {"signature_name": 7}}', "expects a string"),
    ('{"parameters": {"signature_name": "x"}}', "not found"),
    ('{"outputs": [{"name": "z"}]}', "unexpected inference output 'z'"),
    ('{"outputs": [{"name": "y"}, {"name": "y"}]}', "already requested"),
    ('{"outputs": [{"name": "y", "parameters": {"classification": -1}}]}', "expects a whole number"),
    ('{"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}', "shared memory"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "part"), TEXTS, ids=[text[:60] for text, _ in TEXTS])
def test_texts_that_are_wrong(server: Served, text: str, part: str) -> None:
    with Wire(server) as wire:
        reply = wire.send(message("POST", "/v2/models/add_two/infer", text)).reply()
        assert (reply.status, part in reply.error) == (400, True), reply
        good = {"inputs": [tensor("x", "FP32", [1, 1], [1])]}
        assert outputs(wire.send(infer_message("add_two", good)).reply()) == {"y": [3.0]}


@pytest.mark.parametrize(
    ("shape", "binary", "part"),
    [
        ([1], b"\x03\0\0\0ab", "beyond the end"),
        ([1], b"\xff\xff\xff\xffab", "beyond the end"),
        ([2], b"\x01\0\0\0a", "not enough bytes"),
        ([1 << 60], b"\x01\0\0\0a", "not enough bytes"),
        ([1], b"\x01\0\0\0ab", "after the last one"),
        ([0], b"a", "after the last one"),
    ],
)
def test_binary_strings_that_are_wrong(server: Served, shape: list[int], binary: bytes, part: str) -> None:
    with Wire(server) as wire:
        body = {"inputs": [tensor("x", "BYTES", shape, binary_data_size=len(binary))]}
        reply = wire.send(infer_message("echo", body, binary)).reply()
        assert (reply.status, part in reply.error) == (400, True), reply
        body = {"inputs": [tensor("x", "BYTES", [1], ["a"])]}
        assert wire.send(infer_message("echo", body)).reply().status == 200


def test_many_inputs_cost_no_more_than_they_are(server: Served) -> None:
    """A long list of inputs is refused at the first that is wrong; a long text is shown in part."""
    many = {"inputs": [tensor("x", "FP32", [0, 1], [])] * 50_000}
    assert "already exists" in infer(server, "add_two", many).error
    name = "n" * 1_000_000
    reply = infer(server, "add_two", {"inputs": [tensor(name, "FP32", [1, 1], [1])]})
    assert reply.status == 400 and len(reply.body) < 1000


# ---- flags, tokens, the repository


def test_the_drop_in_has_it_by_a_flag_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        ports = [
            "--port=0",
            f"--rest_api_port={free.getsockname()[1]}",
            f"--grpc_socket_path={tmp_path / 's'}",
        ]
    model = [f"--model_base_path={MODELS / 'half_plus_two'}", "--model_name=m", *ports]
    body = {"inputs": [tensor("x", "FP32", [1], [1])]}
    with serving(*model, command=DROP_IN) as served:
        for path in ("/v2", "/v2/health/live", "/v2/models/m"):
            reply = ask(served, "GET", path)
            assert (reply.status, re.sub(r"\. .*", "", reply.error)) == (404, f"Not Found: {path}")
    with serving(*model, "--open_inference_protocol", command=DROP_IN) as served:
        assert outputs(infer(served, "m", body)) == {"y": [2.5]}
        assert predict(served, "m", {"instances": [1]}).status == 200
        refused = ask(served, "GET", "/v2/models/m/stats")
        assert (refused.status, "--metrics_path" in refused.error) == (400, True)


def test_models_are_loaded_and_unloaded_where_that_is_allowed(server: Served, tmp_path: Path) -> None:
    refused = ask(server, "POST", "/v2/repository/models/pair/unload", "{}")
    assert (refused.status, CONTROL in refused.error) == (403, True)
    base = put_version("half_plus_two", tmp_path / "m", 1).parent
    body = {"inputs": [tensor("x", "FP32", [1], [1])]}
    with serving(base, MODELS / "pair", CONTROL) as served:

        def do(action: str, model: str = "m", sent: str = "") -> Reply:
            return ask(served, "POST", f"/v2/repository/models/{model}/{action}", sent)

        page = "https://elsewhere.example"
        refused = ask(served, "POST", "/v2/repository/models/m/unload", "", Origin=page)
        assert (refused.status, "--cors_allowed_origins" in refused.error) == (403, True)
        assert do("unload").status == 200
        assert infer(served, "m", body).status in (404, 503)
        assert ask(served, "GET", "/v2/models/m/ready").status in (404, 503)
        assert do("unload").status == 200, "it is unloaded already"
        assert do("load").status == 200
        assert outputs(infer(served, "m", body)) == {"y": [2.5]}
        assert do("load").status == 200, "again, from its files"
        assert infer(served, "m", body).status == 200
        for action in ("load", "unload"):
            missing = do(action, "x")
            assert (missing.status, f"failed to {action} 'x'" in missing.error) == (404, True)
        for parameters in ({"config": "{}"}, {"file:1/model": "x"}):
            assert do("load", sent=json.dumps({"parameters": parameters})).status == 400
        assert do("unload", sent='{"parameters": {"unload_dependents": true}}').status == 200
        assert infer(served, "pair", PAIR).status == 200


def test_what_the_administration_removes_does_not_come_back_by_clients(tmp_path: Path) -> None:
    base = put_version("half_plus_two", tmp_path / "m", 1).parent
    with serving(base, MODELS / "pair", ADMIN, CONTROL) as served:

        def do(action: str) -> int:
            return ask(served, "POST", f"/v2/repository/models/m/{action}", "").status

        def administer(method: str, **entry: str) -> int:
            url = f"{admin_url(served)}/admin/models/m?wait=60"
            return httpx.request(method, url, json=entry or None, timeout=90).status_code

        assert (do("unload"), administer("DELETE"), do("load")) == (200, 200, 404)
        assert administer("DELETE") == 404
        assert administer("PUT", base_path=str(base)) == 200
        assert (do("unload"), do("load")) == (200, 200)


WHO = [
    ("GET", "/v2/health/live", "anybody"),
    ("GET", "/v2/health/ready", "anybody"),
    ("HEAD", "/v2/health/ready", "anybody"),
    ("POST", "/v2/health/ready", "all caller reader watcher boss"),
    ("GET", "/v2", "all caller reader watcher boss"),
    ("GET", "/v2/other", "all caller reader watcher boss"),
    ("GET", "/v2/models/half_plus_two", "all caller reader watcher"),
    ("GET", "/v2/models/half_plus_two:x", "all caller reader watcher"),
    ("GET", "/v2/models/pair", "all watcher"),
    ("GET", "/v2/models/%70air", "all watcher"),
    ("GET", "/v2/models/half_plus_two/config", "all caller reader watcher"),
    ("GET", "/v2/models/half_plus_two/ready", "all reader watcher"),
    ("GET", "/v2/models/half_plus_two/versions/1/ready", "all reader watcher"),
    ("GET", "/v2/models/half_plus_two/stats", "all reader watcher"),
    ("GET", "/v2/models/pair/stats", "all watcher"),
    ("GET", "/v2/models/stats", "all watcher boss"),
    ("GET", "/v2/repository/index", "all watcher boss"),
    ("POST", "/v2/repository/index", "all watcher boss"),
    ("POST", "/v2/repository/models/missing/load", "all boss"),
    ("POST", "/v2/repository/models/missing/unload", "all boss"),
    ("POST", "/v2/models/half_plus_two/infer", "all caller"),
    ("POST", "/v2/models/half_plus_two:serving_default/infer", "all caller"),
    ("POST", "/v2/models/half_plus_two/versions/1/infer", "all caller"),
    ("POST", "/v2/models/pair/infer", "all"),
    ("POST", "/v2/models/pair:half_plus_two/infer", "all"),
    ("POST", "/v2/models/missing/infer", "all"),
]


def test_tokens_are_needed_as_elsewhere(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens")
    for name, scopes, models in (
        ("all", "predict,read,manage", "*"),
        ("caller", "predict", "half*"),
        ("reader", "read", "half*"),
        ("watcher", "read", "*"),
        ("boss", "manage", "*"),
    ):
        file.add(name, scopes, models)
    with serving(MODELS / "half_plus_two", MODELS / "pair", CONTROL, file.flag) as served:
        for method, path, who in WHO:
            body = "{}" if method == "POST" else None
            assert (ask(served, method, path, body).status == 401) == (who != "anybody"), path
            for name in file.tokens:
                status = ask(served, method, path, body, Authorization=file.bearer(name)).status
                assert (status not in (401, 403)) == (who == "anybody" or name in who.split()), (path, name)
        assert get(served, "/v2/models/half_plus_two/ready", file.tokens["reader"]).status == 200
