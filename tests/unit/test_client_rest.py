"""REST calls as JSON, and the reading of replies, without a server."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest

from servable.client.answers import Classification, Metadata, Signature, TensorSpec, VersionStatus
from servable.client.binding import Given, bind
from servable.client.codecs.codec import Call, Choice
from servable.client.codecs.rest import RestCodec
from servable.client.values import dtypes
from servable.client.values.examples import read_examples
from servable.errors import InternalError, InvalidArgumentError, UnimplementedError

FLOATS = TensorSpec("float", (-1,))
STRINGS = TensorSpec("string", (-1,))


def signature(inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]) -> Metadata:
    return Metadata("m", 1, {"serving_default": Signature(inputs, outputs)})


def call(metadata: Metadata, inputs: Any, choice: Choice | None = None, outputs: Any = None) -> Call[Any]:
    given = Given(choice or Choice("m"), inputs, "", outputs)
    return RestCodec().predict(bind(given, metadata))


def body(made: Call[Any]) -> Any:
    assert made.body is not None
    return json.loads(made.body)


ONE = signature({"x": FLOATS}, {"y": FLOATS})
TWO = signature({"a": FLOATS, "b": STRINGS}, {"y": FLOATS, "z": STRINGS})


@pytest.mark.parametrize(
    ("choice", "path"),
    [
        (Choice("m"), "/v1/models/m:predict"),
        (Choice("m", version=3), "/v1/models/m/versions/3:predict"),
        (Choice("m", label="stable"), "/v1/models/m/labels/stable:predict"),
        (Choice("a/b:c d"), "/v1/models/a%2Fb%3Ac%20d:predict"),
        (Choice("ä", label="x/y"), "/v1/models/%C3%A4/labels/x%2Fy:predict"),
    ],
)
def test_paths(choice: Choice, path: str) -> None:
    assert call(ONE, [1], choice).path == path


@pytest.mark.parametrize("choice", [Choice(""), Choice("m", version=-1)])
def test_what_no_path_can_say(choice: Choice) -> None:
    with pytest.raises(InvalidArgumentError):
        call(ONE, [1], choice)


def test_a_version_and_a_label() -> None:
    with pytest.raises(InvalidArgumentError, match="both given"):
        Choice("m", 1, "stable")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"version": 2**63}, "9223372036854775808; expected an integer of 64 bits"),
        ({"version": -(2**63) - 1}, "-9223372036854775809; expected an integer of 64 bits"),
        ({"version": 10**5000}, "an integer of 16610 bits; expected"),
        ({"version": "3"}, "'3'; expected an integer"),
        ({"label": "\ud800"}, "the label holds"),
        ({"model": "\udcff"}, "the model's name holds"),
    ],
)
def test_choices_that_no_protocol_can_send(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Choice(**{"model": "m", **given})


def test_versions_of_numpy() -> None:
    assert (
        call(ONE, [1], Choice("m", version=cast(int, np.int64(3)))).path == "/v1/models/m/versions/3:predict"
    )


def test_requests_are_columnar() -> None:
    assert body(call(ONE, {"x": [[1, 2], [3, 4]]}))["inputs"] == [[1.0, 2.0], [3.0, 4.0]]
    two = body(call(TWO, {"a": 1.5, "b": ["text", b"\xff"]}))
    assert two["inputs"] == {"a": [1.5], "b": [{"b64": "dGV4dA=="}, {"b64": "/w=="}]}
    assert two["signature_name"] == "serving_default"


def test_an_input_called_b64_is_not_base64() -> None:
    metadata = signature({"b64": STRINGS}, {"y": STRINGS})
    assert body(call(metadata, {"b64": ["a"]}))["inputs"] == [{"b64": "YQ=="}]


def test_numbers_that_json_does_not_have() -> None:
    made = call(ONE, {"x": [np.nan, np.inf, -np.inf]})
    assert made.body is not None
    assert b"[NaN,Infinity,-Infinity]" in made.body


def test_replies() -> None:
    assert call(ONE, {"x": 1}).read(b'{"outputs": [1.5, NaN]}').outputs["y"].dtype == np.float32
    read = call(TWO, {"a": 1, "b": "b"}).read(
        b'{"outputs": {"z": ["\xff\\u00e4", {"b64": "/w=="}], "y": [1]}}'
    )
    assert read.outputs["y"].tolist() == [1.0]
    assert read.outputs["z"].tolist() == [b"\xff\xc3\xa4", b"\xff"]
    only = call(TWO, {"a": 1, "b": "b"}, outputs=["z"]).read(b'{"outputs": {"z": ["a"], "y": [1]}}')
    assert list(only.outputs) == ["z"]


def test_outputs_that_are_wanted_are_asked_for() -> None:
    one = call(TWO, {"a": 1, "b": "b"}, outputs="z")
    assert body(one)["outputs"] == ["z"]
    # TensorFlow Serving ignores that.
    for reply in (b'{"outputs": ["a"]}', b'{"outputs": {"z": ["a"], "y": [1]}}'):
        assert {name: array.tolist() for name, array in one.read(reply).outputs.items()} == {"z": [b"a"]}
    scalar = signature({"x": FLOATS}, {"y": FLOATS, "z": TensorSpec("string", ())})
    read = call(scalar, {"x": 1}, outputs="z").read(b'{"outputs": {"b64": "/w=="}}')
    assert read.outputs["z"].tolist() == b"\xff"
    three = signature({"x": FLOATS}, {"y": FLOATS, "z": FLOATS, "b": FLOATS})
    two = call(three, {"x": 1}, outputs=["z", "y"])
    assert body(two)["outputs"] == ["z", "y"]
    for reply in (b'{"outputs": {"y": [1], "z": [2]}}', b'{"outputs": {"y": [1], "z": [2], "b": [3]}}'):
        assert list(two.read(reply).outputs) == ["z", "y"]
    for all_of_them in (None, ["z", "y"]):
        assert "outputs" not in body(call(TWO, {"a": 1, "b": "b"}, outputs=all_of_them))


@pytest.mark.parametrize("dtype", ["half", "bfloat16"])
def test_numbers_of_16_bits(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TensorSpec(dtype, (-1,))
    metadata = signature({"x": spec}, {"y": spec})
    wanted = {"half": [0.0999755859375, 65504.0], "bfloat16": [0.10009765625, 65536.0]}[dtype]
    for extended in (True, False):
        if not extended:
            monkeypatch.setattr(dtypes, "_extended", lambda _: None)
        made = call(metadata, {"x": [0.1, 65504]})
        read = made.read(b'{"outputs": [0.1, 65504.0]}').outputs["y"]
        assert read.astype(np.float64).tolist() == wanted
        if dtype == "half" or extended:
            assert body(made)["inputs"] == wanted


def test_large_integers_next_to_small_ones() -> None:
    metadata = signature({"x": FLOATS}, {"y": TensorSpec("uint64", (-1,))})
    read = call(metadata, {"x": 1}).read
    values = read(b'{"outputs": [18446744073709551615, 1, 9007199254740993]}').outputs["y"]
    assert values.dtype == np.uint64
    assert values.tolist() == [2**64 - 1, 1, 2**53 + 1]
    for beyond in (b"[18446744073709551616]", b"[18446744073709551615, -1]", b"[null]"):
        with pytest.raises(InternalError):
            read(b'{"outputs": ' + beyond + b"}")


def test_empty_outputs_have_the_declared_rank() -> None:
    wide = signature({"x": FLOATS}, {"y": TensorSpec("int32", (-1, 3, -1))})
    assert call(wide, {"x": []}).read(b'{"outputs": []}').outputs["y"].shape == (0, 3, 0)
    assert call(wide, {"x": []}).read(b'{"outputs": [[], []]}').outputs["y"].shape == (2, 0, 0)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"outputs": "text"}',
        b'{"outputs": [[1], [1, 2]]}',
        b'{"outputs": [{"b64": 1}]}',
        b"[" * 100_000,
    ],
)
def test_replies_that_are_none(reply: bytes) -> None:
    with pytest.raises(InternalError, match="not what a model server answers"):
        call(ONE, {"x": 1}).read(reply)


@pytest.mark.parametrize("reply", [b'{"outputs": [3.5]}', b'{"outputs": [1, 300]}', b'{"outputs": ["a"]}'])
def test_numbers_that_are_not_of_the_declared_dtype(reply: bytes) -> None:
    small = signature({"x": FLOATS}, {"y": TensorSpec("int8", (-1,))})
    with pytest.raises(InternalError):
        call(small, {"x": 1}).read(reply)


def test_dtypes_that_json_cannot_carry() -> None:
    narrow = signature({"x": TensorSpec("uint16", (-1,))}, {"y": FLOATS})
    with pytest.raises(UnimplementedError, match="input 'x' of dtype uint16") as raised:
        call(narrow, {"x": [1]})
    assert "grpc://" in raised.value.hint
    with pytest.raises(UnimplementedError, match="an output of dtype complex64"):
        call(signature({"x": FLOATS}, {"y": TensorSpec("complex64", None)}), {"x": 1}).read(
            b'{"outputs": [1]}'
        )


def test_examples() -> None:
    codec = RestCodec()
    examples = read_examples([{"i": [1, True], "f": [1, 2.5], "s": "a", "n": []}], {"c": np.float32(0.5)})
    made = codec.classify(Choice("m"), "sig", examples)
    assert made.path == "/v1/models/m:classify"
    assert body(made) == {
        "signature_name": "sig",
        "context": {"c": [0.5]},
        "examples": [{"i": [1, 1], "f": [1.0, 2.5], "s": [{"b64": "YQ=="}], "n": []}],
    }
    assert b"[1.0,2.5]" in (made.body or b"")
    assert made.read(b'{"results": [[["car", 0.5]], []]}') == [[Classification("car", 0.5)], []]
    regress = codec.regress(Choice("m"), "", examples)
    assert "signature_name" not in body(regress)
    assert regress.read(b'{"results": [0.5, NaN]}').dtype == np.float32


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([1], "example 0 is a int; expected a mapping"),
        ([{}, {"x": None}], "example 1, feature 'x' holds NoneType"),
        ({"x": [1, "a"]}, "example 0, feature 'x' holds int, str"),
        ({"x": 2**63}, "outside of int64"),
        ({"x": 10**5000}, "an integer of 16610 bits, which is outside of int64"),
        ({"x": [0.5, 10**400]}, "outside of its range"),
        ({"x": 1e300}, r"got 1e\+300, which is outside of its range"),
        ({"x": "\ud800"}, "half a character"),
        ({"\ud800": 1}, "half a character"),
    ],
)
def test_examples_that_are_none(examples: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        read_examples(examples, None)


def test_status_and_metadata() -> None:
    codec = RestCodec()
    status = codec.status(Choice("m", version=2))
    assert (status.path, status.body) == ("/v1/models/m/versions/2", None)
    one = {"version": "2", "state": "END", "status": {"error_code": "NOT_FOUND", "error_message": "gone"}}
    assert status.read(json.dumps({"model_version_status": [one]}).encode()) == [
        VersionStatus(2, "END", "NOT_FOUND", "gone")
    ]
    tensor = {
        "dtype": "DT_FLOAT_REF",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "x:0",
    }
    unknown = {"dtype": "DT_STRING", "tensor_shape": {"dim": [], "unknown_rank": True}, "name": "y:0"}
    definition = {"inputs": {"x": tensor}, "outputs": {"y": unknown}, "method_name": "p", "defaults": {}}
    reply = {
        "model_spec": {"name": "m", "version": "7", "signature_name": ""},
        "metadata": {"signature_def": {"signature_def": {"s": definition}}},
    }
    metadata = codec.metadata(Choice("m", label="l"))
    assert metadata.path == "/v1/models/m/labels/l/metadata"
    assert metadata.read(json.dumps(reply).encode()) == Metadata(
        "m", 7, {"s": Signature({"x": FLOATS}, {"y": TensorSpec("string", None)}, "p")}
    )


def test_what_rest_does_not_have() -> None:
    with pytest.raises(UnimplementedError, match="no multi-inference"):
        RestCodec().multi_inference(Choice("m"), {}, read_examples([], None))
    with pytest.raises(UnimplementedError, match="cannot reload"):
        RestCodec().reload(b"")
