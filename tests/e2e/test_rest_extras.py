"""What the REST API has beyond TensorFlow Serving's: numbers of 16 bits, chosen outputs, compact replies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from clients import Stub
from conftest import Served
from servers import MODELS, WITH_GRPC, serving
from stubs import own_message
from wire import Reply, ask, predict

from servable import Client

pytestmark = pytest.mark.needs_tensorflow

COMPACT = {"Accept": "text/html, application/json; compact=true"}
PAIR = {"instances": [{"a": 1.5, "b": 2}, {"a": 0.0, "b": -1}]}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(MODELS / "narrow", MODELS / "pair", MODELS / "half_plus_two", WITH_GRPC) as served:
        yield served


def post(served: Served, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
    return ask(served, "POST", f"/v1/models/{path}", json.dumps(body), **(headers or {}))


# ---- numbers of 16 bits


def test_numbers_of_16_bits_go_both_ways(server: Served) -> None:
    halves = [0.1, 65519.9, 65520.0, 1e-8, -2049.0]
    brains = [0.1, 257.0, 3.4e38, -1e-40, 1e39]
    rows = [{"h": half, "b": brain} for half, brain in zip(halves, brains, strict=True)]
    reply = json.loads(predict(server, "narrow", {"instances": rows}).body)["predictions"]
    assert [row["halves"] for row in reply] == [0.1, 65500.0, float("inf"), 0.0, -2048.0]
    assert [row["brains"] for row in reply] == [0.1, 256.0, float("inf"), -9e-41, float("inf")]
    columns = json.loads(predict(server, "narrow", {"inputs": {"h": [1, float("nan")], "b": [2, 3]}}).body)
    assert np.isnan(columns["outputs"]["halves"][1]) and columns["outputs"]["brains"] == [2.0, 3.0]
    assert columns["outputs"]["sum"][0] == 3.0


def test_what_comes_back_can_be_sent_again(server: Served) -> None:
    bits = np.arange(0, 1 << 16, 97, dtype=np.uint16)
    halves = bits.view(np.float16)
    halves = halves[np.isfinite(halves)]
    with Client(server.rest) as rest, Client(f"grpc://{server.grpc}") as grpc:
        inputs = {"h": halves, "b": np.ones(len(halves), np.float32)}
        for client in (rest, grpc):
            back = client.predict("narrow", inputs, outputs="halves")["halves"]
            np.testing.assert_array_equal(back.view(np.uint16), halves.view(np.uint16))
        brains = {"h": np.ones(3, np.float16), "b": [0.1, 1e-40, -3e38]}
        both = [client.predict("narrow", brains)["brains"] for client in (rest, grpc)]
        np.testing.assert_array_equal(*both)


def test_what_is_no_number_is_told(server: Served) -> None:
    reply = predict(server, "narrow", {"inputs": {"h": ["a"], "b": [1]}})
    assert (reply.status, reply.error) == (
        400,
        'JSON Value: "a" Type: String is not of expected type: half',
    )


def test_the_command_prints_them_as_short_as_the_server(server: Served) -> None:
    command = ["predict", "narrow", "--inputs", "h=[0.1]", "--inputs", "b=[0.1]", "--server", server.rest]
    ended = subprocess.run(
        [sys.executable, "-m", "servable", *command], capture_output=True, text=True, check=True
    )
    assert json.loads(ended.stdout)["halves"] == [0.1]
    assert json.loads(ended.stdout)["brains"] == [0.1] or "ml_dtypes" not in sys.modules


# ---- chosen outputs


@pytest.mark.parametrize(
    ("query", "named"),
    [("", ["sum"]), ("?outputs=sum", None), ("?outputs=%73um", None), ("?outputs=", ["sum"])],
)
def test_one_output_comes_without_its_name(server: Served, query: str, named: list[str] | None) -> None:
    body = {**PAIR, **({"outputs": named} if named else {})}
    reply = post(server, f"pair:predict{query}", body)
    assert json.loads(reply.body) == {"predictions": [3.5, -1.0]}
    columns = {"inputs": {"a": [1.5], "b": [2]}, **({"outputs": named} if named else {})}
    assert json.loads(post(server, f"pair:predict{query}", columns).body) == {"outputs": [3.5]}


def test_several_outputs_come_by_name_and_none_named_means_all(server: Served) -> None:
    everything = json.loads(predict(server, "pair", PAIR).body)
    for outputs in (["twice", "sum"], [], {}, 7, "sum", [["sum"]]):
        assert json.loads(predict(server, "pair", {**PAIR, "outputs": outputs}).body) == everything
    assert json.loads(post(server, "pair:predict?outputs=twice,sum", PAIR).body) == everything


def test_outputs_that_are_wrong_are_refused_as_over_grpc(server: Served) -> None:
    unknown = "output tensor alias not found in signature: y Outputs expected to be in the set {sum,twice}."
    twice = "duplicate output tensor alias: sum"
    for query, outputs, error in (
        ("", ["sum", "y"], unknown),
        ("?outputs=sum,y", [], unknown),
        ("", ["sum", "sum"], twice),
        ("?outputs=sum,sum", [], twice),
        ("?outputs=sum", ["sum"], "Both the body and the query name outputs. Name them in one of these"),
    ):
        reply = post(server, f"pair:predict{query}", {**PAIR, "outputs": outputs})
        assert (reply.status, reply.error) == (400, error)
    request = own_message("PredictRequest")()
    request.model_spec.name = "pair"
    for alias, dtype in (("a", 1), ("b", 3)):
        request.inputs[alias].dtype = dtype
        request.inputs[alias].tensor_shape.dim.add(size=1)
    request.output_filter.extend(["sum"])
    with Stub(server) as stub:
        assert list(stub.call("Predict", request).outputs) == ["sum"]


@pytest.mark.parametrize(
    "path",
    [
        "pair:predict?x=1",
        "pair:predict?outputs",
        "pair:predict?outputs=sum&outputs=twice",
        "pair:classify?outputs=sum",
        "pair?outputs=sum",
    ],
)
def test_other_queries_are_refused_as_ever(server: Served, path: str) -> None:
    reply = post(server, path, PAIR)
    assert (reply.status, reply.error) == (400, f"Malformed request: POST /v1/models/{path}")


# ---- compact replies


def test_a_reply_is_compact_where_that_is_asked_for(server: Served) -> None:
    usual = post(server, "pair:predict", PAIR)
    for accept in (
        {},
        {"Accept": "*/*"},
        {"Accept": "application/json"},
        {"Accept": "text/plain;compact=true"},
    ):
        assert post(server, "pair:predict", PAIR, accept).body == usual.body
    compact = post(server, "pair:predict", PAIR, COMPACT)
    assert compact.text == '{"predictions":[{"sum":3.5,"twice":4},{"sum":-1.0,"twice":-2}]}'
    columns = post(server, "half_plus_two:predict", {"inputs": [[1.0, 2.0]]}, COMPACT)
    assert columns.text == '{"outputs":[[2.5,3.0]]}'
    large = post(server, "half_plus_two:predict", {"inputs": [[1.0] * 1000] * 200}, COMPACT)
    assert large.text == '{"outputs":[' + ",".join(["[" + ",".join(["2.5"] * 1000) + "]"] * 200) + "]}"
    assert large.headers["content-type"] == "application/json"
    missing = post(server, "other:predict", PAIR, COMPACT)
    assert missing.text.startswith('{\n    "error": ')
