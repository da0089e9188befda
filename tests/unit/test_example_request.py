"""The curl line made from a signature: the right form, the right shape, and short enough to print."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest

from servable.savedmodel.example_request import LONGEST_BODY, PNG, curl_line, example_body
from servable.savedmodel.signature import Signature

Argument = tuple[str, str, str]


def signature(*inputs: Argument, name: str = "serving_default") -> Signature:
    return Signature(name, list(inputs), [("y", "float", "[-1]")])


def body_of(line: str) -> Any:
    """Returns the JSON that the command line sends, by running its first half as a shell would."""
    words = shlex.split(line)
    if words[0] == "curl":
        assert words[1] == "-d"
        return json.loads(words[2])
    producer = words[: words.index("|")]
    assert words[words.index("|") + 1 : words.index("|") + 4] == ["curl", "-d", "@-"]
    run = subprocess.run(producer, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("inputs", "body"),
    [
        ([("x", "float", "[-1]")], {"instances": [1.0, 2.0, 5.0]}),
        ([("x", "float", "unknown")], {"instances": [1.0, 2.0, 5.0]}),
        ([("x", "float", "[-1,1]")], {"instances": [[1.0]]}),
        ([("x", "int64", "[-1,2]")], {"instances": [[1, 1]]}),
        ([("x", "float", "[3]")], {"inputs": [1.0, 1.0, 1.0]}),
        ([("x", "double", "[]")], {"inputs": 1.0}),
        ([("x", "bool", "[-1]")], {"instances": [True]}),
        ([("x", "string", "[-1]")], {"instances": ["text"]}),
        ([("image_bytes", "string", "[-1]")], {"instances": [{"b64": PNG}]}),
        ([("image_bytes", "string", "[]")], {"inputs": {"b64": PNG}}),
        ([("x", "float", "[-1,-1,2]")], {"instances": [[[1.0, 1.0]]]}),
        (
            [("a", "float", "[-1]"), ("b", "int32", "[-1,2]")],
            {"instances": [{"a": 1.0, "b": [1, 1]}]},
        ),
        ([("a", "float", "[]"), ("b", "int32", "[-1]")], {"inputs": {"a": 1.0, "b": [1]}}),
    ],
)
def test_bodies(inputs: list[Argument], body: object) -> None:
    assert body_of(curl_line("m", [signature(*inputs)], "localhost:8501")) == body


def test_a_large_picture_is_made_by_a_short_expression() -> None:
    line = curl_line("m", [signature(("x", "float", "[-1,224,224,3]"))], "localhost:8501")
    assert len(line) < LONGEST_BODY
    (picture,) = body_of(line)["instances"]
    assert (len(picture), len(picture[0]), picture[0][0]) == (224, 224, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("dtype", ["bool", "string", "float", "int8"])
def test_large_bodies_of_every_kind_and_several_inputs(dtype: str) -> None:
    line = curl_line(
        "m",
        [signature(("image", dtype, "[2,300]"), ("it's", "float", "[300]"), name="other")],
        "localhost:8501",
    )
    body = body_of(line)
    assert body["signature_name"] == "other"
    assert len(body["inputs"]["image"][1]) == 300
    assert len(body["inputs"]["it's"]) == 300


def test_the_default_signature_is_preferred_and_another_is_named() -> None:
    x = ("x", "float", "[-1]")
    both = [signature(x, name="a"), signature(("z", "string", "[-1]"))]
    assert body_of(curl_line("m", both, "localhost:1")) == {"instances": ["text"]}
    assert body_of(curl_line("m", both[:1], "localhost:1")) == {
        "signature_name": "a",
        "instances": [1.0, 2.0, 5.0],
    }


@pytest.mark.parametrize(
    "signatures",
    [
        [],
        [signature()],
        [signature(("x", "complex64", "[-1]"))],
        [signature(("x", "uint16", "[-1]"))],
        [signature(("x", "float", "[100000,100000]"))],
        [signature(("x", "float", "[-1]"), name="__saved_model_init_op")],
    ],
)
def test_no_line_rather_than_one_that_does_not_work(signatures: list[Signature]) -> None:
    assert curl_line("m", signatures, "localhost:1") == ""


def test_the_address_holds_port_and_quoted_name() -> None:
    assert curl_line("a b/c", [signature(("x", "float", "[-1]"))], "[::1]:77").endswith(
        " http://[::1]:77/v1/models/a%20b%2Fc:predict"
    )
    assert curl_line("m", [signature(("x", "float", "[-1]"))], "https://localhost:1").endswith(
        " https://localhost:1/v1/models/m:predict"
    )


def test_many_large_inputs_are_not_written_out() -> None:
    many = signature(*((f"x{number}", "float", "[1000,1000]") for number in range(1000)))
    assert curl_line("m", [many], "localhost:1").startswith("python3 -c ")
    assert example_body(many) is None
    assert example_body(signature(("x", "float", "[-1,3]"))) == {"instances": [[1.0, 1.0, 1.0]]}
