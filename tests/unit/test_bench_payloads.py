"""What ``servable bench`` sends: values made up, and their bytes in each protocol."""

from __future__ import annotations

import base64
import json
import math
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from servable.bench import tensorflow, v2
from servable.bench.files import body_request, pictures
from servable.bench.messages_v2 import v2_message
from servable.bench.metadata import DATATYPES, Input
from servable.bench.recorded import logged_requests
from servable.bench.target import Model, Target
from servable.bench.values import Value, from_proto, looks_like_picture, made_up, resolved_shape
from servable.client.values.tensors import read_tensor
from servable.errors import ServableError, StatusError, UsageError
from servable.messages import message_class
from servable.savedmodel.tfrecord import write_records

REST = Target("tensorflow", False, "h", 1)
GRPC = Target("tensorflow", True, "h", 1)
V2_REST = Target("v2", False, "h", 1)
V2_GRPC = Target("v2", True, "h", 1)
MODEL = Model("m", version="3")
FLOATS = Value("x", "float", (2, 2), struct.pack("<4f", 0.5, 1.5, -2.0, 3.0))
WORDS = Value("words", "string", (2,), strings=(b"a", b"\xff\x00"))


@pytest.mark.parametrize("dtype", sorted(set(DATATYPES.values()) - {"string"}))
def test_numbers_are_made_up_for_every_dtype(dtype: str) -> None:
    value = made_up(Input("x", dtype, (-1, 3)), (4, 3), random.Random(5))
    numbers = value.numbers()
    assert len(numbers) == 12
    assert all(0 <= one <= 127 for one in numbers)
    assert len(set(numbers)) > 1
    assert made_up(Input("x", dtype, (-1, 3)), (4, 3), random.Random(5)) == value


def test_strings_are_words_or_the_picture() -> None:
    one = Input("x", "string", (-1,))
    words = made_up(one, (3,), random.Random(1)).strings
    assert len(set(words)) == 3
    assert made_up(one, (2,), random.Random(1), b"JPEG").strings == (b"JPEG", b"JPEG")
    named = ["image_bytes", "bytes", "Photo", "input_image", "words", "text", "bytes_per_row"]
    assert [looks_like_picture(name) for name in named] == [True, True, True, True, False, False, False]
    with pytest.raises(ServableError, match="complex64"):
        made_up(Input("x", "complex64", ()), (), random.Random(1))


def test_open_lengths_are_the_batch_and_1() -> None:
    open_lengths = Input("x", "float", (-1, -1, 3))
    assert resolved_shape(open_lengths, None, {}) == (1, 1, 3)
    assert resolved_shape(open_lengths, 8, {}) == (8, 1, 3)
    assert resolved_shape(open_lengths, 8, {"x": (2, 5, 3)}) == (2, 5, 3)
    assert resolved_shape(Input("x", "float", None), 4, {}) == (4,)
    assert resolved_shape(Input("x", "float", ()), 4, {}) == ()
    for wrong in ((2, 5), (2, 5, 4)):
        with pytest.raises(UsageError, match="the model takes"):
            resolved_shape(open_lengths, 8, {"x": wrong})
    with pytest.raises(UsageError, match="too large"):
        resolved_shape(open_lengths, 1 << 30, {})


def body(values: list[Value], by_row: bool, signature: str = "") -> dict[str, object]:
    request = tensorflow.predict(REST, MODEL, signature, values, by_row)
    assert request.path == "/v1/models/m/versions/3:predict"
    assert request.body is not None
    content: dict[str, object] = json.loads(request.body)
    return content


def test_rest_sends_rows_where_there_are_some() -> None:
    assert body([FLOATS], True) == {"instances": [[0.5, 1.5], [-2.0, 3.0]]}
    assert body([FLOATS], False, "other") == {"signature_name": "other", "inputs": [[0.5, 1.5], [-2.0, 3.0]]}
    words = [{"b64": "YQ=="}, {"b64": "/wA="}]
    assert body([FLOATS, WORDS], True) == {
        "instances": [{"x": [0.5, 1.5], "words": words[0]}, {"x": [-2.0, 3.0], "words": words[1]}]
    }
    assert body([FLOATS, WORDS], False) == {"inputs": {"x": [[0.5, 1.5], [-2.0, 3.0]], "words": words}}
    scalar = Value("s", "int64", (), struct.pack("<q", 7))
    assert body([scalar], True) == {"inputs": 7}


def test_grpc_sends_tensors() -> None:
    request = tensorflow.predict(GRPC, Model("m", label="canary"), "other", [FLOATS, WORDS], True)
    assert request.path == "/tensorflow.serving.PredictionService/Predict"
    message = message_class("tensorflow.serving.PredictRequest").FromString(request.body)
    spec = message.model_spec
    assert (spec.name, spec.version_label, spec.signature_name) == ("m", "canary", "other")
    assert read_tensor(message.inputs["x"]).tolist() == [[0.5, 1.5], [-2.0, 3.0]]
    assert read_tensor(message.inputs["words"]).tolist() == [b"a", b"\xff\x00"]


def test_v2_over_rest_sends_binary_tensors_behind_the_json() -> None:
    request = v2.infer(V2_REST, MODEL, "", [FLOATS, WORDS], binary=True)
    assert request.path == "/v2/models/m/versions/3/infer"
    headers = dict(request.headers)
    length = int(headers["Inference-Header-Content-Length"])
    assert request.body is not None
    head, rest = json.loads(request.body[:length]), request.body[length:]
    assert head == {
        "inputs": [
            {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}},
            {"name": "words", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}},
        ],
        "parameters": {"binary_data_output": True},
    }
    assert rest == FLOATS.raw + b"\x01\0\0\0a\x02\0\0\0\xff\0"


def test_v2_over_rest_sends_json_where_it_is_wanted() -> None:
    request = v2.infer(V2_REST, Model("m"), "other", [FLOATS], binary=False)
    assert json.loads(request.body or b"") == {
        "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [0.5, 1.5, -2.0, 3.0]}],
        "parameters": {"signature_name": "other"},
    }
    with pytest.raises(ServableError, match="--json-tensors"):
        v2.infer(V2_REST, Model("m"), "", [WORDS], binary=False)


def test_v2_over_grpc_has_the_public_numbers_of_fields() -> None:
    value = Value("x", "int8", (2,), b"\x01\x02")
    request = v2.infer(V2_GRPC, Model("m", version="3"), "s", [value], binary=True)
    assert request.path == "/inference.GRPCInferenceService/ModelInfer"
    assert request.body == (
        b"\x0a\x01m"  # model_name
        b"\x12\x013"  # model_version
        b"\x22\x15\x0a\x0esignature_name\x12\x03\x1a\x01s"  # parameters
        b"\x2a\x0c\x0a\x01x\x12\x04INT8\x1a\x01\x02"  # inputs: name, datatype, shape
        b"\x3a\x02\x01\x02"  # raw_input_contents
    )


@settings(deadline=None)
@given(
    st.sampled_from(sorted(set(DATATYPES.values()))),
    st.integers(0, 2**32),
    st.lists(st.integers(1, 4), max_size=3),
)
def test_every_form_says_the_same(dtype: str, seed: int, lengths: list[int]) -> None:
    value = made_up(Input("x", dtype, None), tuple(lengths), random.Random(seed))
    message = v2_message("ModelInferRequest").FromString(
        v2.infer(V2_GRPC, Model("m"), "", [value], binary=True).body
    )
    assert message.raw_input_contents[0] == value.bytes_tensor()
    assert list(message.inputs[0].shape) == lengths
    predicted = message_class("tensorflow.serving.PredictRequest").FromString(
        tensorflow.predict(GRPC, Model("m"), "", [value], False).body
    )
    assert from_proto("x", predicted.inputs["x"]) == value
    content = json.loads(tensorflow.predict(REST, Model("m"), "", [value], False).body or b"")["inputs"]
    assert np.shape(content if dtype != "string" else _decoded(content)) == tuple(lengths)
    if dtype != "string":
        assert np.ravel(content).tolist() == value.numbers()


def _decoded(content: object) -> object:
    if isinstance(content, list):
        return [_decoded(one) for one in content]
    assert isinstance(content, dict)
    return base64.b64decode(content["b64"]).decode()


def test_recorded_tensors_are_read_in_every_form() -> None:
    proto = message_class("tensorflow.TensorProto")
    short = proto(dtype=1, float_val=[1.0, 2.0])
    short.tensor_shape.dim.add(size=3)
    assert from_proto("x", short).numbers() == [1.0, 2.0, 2.0]
    empty = proto(dtype=9)
    assert from_proto("x", empty).numbers() == [0]
    half = proto(dtype=19, half_val=[0x3C00])
    assert from_proto("x", half).numbers() == [1.0]
    for broken in (
        proto(dtype=1, tensor_content=b"abc"),
        proto(dtype=8),
        proto(dtype=99),
        proto(dtype=4, int_val=[300]),
        proto(dtype=19, half_val=[1 << 16]),
    ):
        with pytest.raises(ServableError, match="recorded input"):
            from_proto("x", broken)
    negative = proto(dtype=1)
    negative.tensor_shape.dim.add(size=-1)
    with pytest.raises(ServableError, match="shape"):
        from_proto("x", negative)
    assert math.isclose(from_proto("x", proto(dtype=2, double_val=[0.1])).numbers()[0], 0.1)


def log_file(folder: Path, *logs: object) -> str:
    path = str(folder / "log.tfrecord")
    write_records(path, [one.SerializeToString() for one in logs])  # type: ignore[attr-defined]
    return path


def test_logged_requests_are_sent_as_recorded_or_written_anew(tmp_path: Path) -> None:
    log = message_class("tensorflow.serving.PredictionLog")()
    request = log.predict_log.request
    request.ParseFromString(tensorflow.predict(GRPC, Model("old", version="1"), "s", [FLOATS], False).body)
    classified = message_class("tensorflow.serving.PredictionLog")()
    classified.classify_log.request.model_spec.name = "old"
    path = log_file(tmp_path, log, classified, message_class("tensorflow.serving.PredictionLog")())
    sent = logged_requests(path, GRPC, Model("new"), _not_written)
    assert [one.path.rpartition("/")[2] for one in sent] == ["Predict", "Classify"]
    first = message_class("tensorflow.serving.PredictRequest").FromString(sent[0].body)
    assert (first.model_spec.name, first.model_spec.signature_name) == ("new", "s")
    assert not first.model_spec.HasField("version")
    written = logged_requests(
        path,
        REST,
        Model("new"),
        lambda name, values: tensorflow.predict(REST, Model("new"), name, values, False),
    )
    assert [json.loads(one.body or b"") for one in written] == [
        {"signature_name": "s", "inputs": [[0.5, 1.5], [-2.0, 3.0]]}
    ]


def _not_written(signature: str, values: object) -> object:
    raise AssertionError((signature, values))


def test_files_that_are_no_logs_are_refused(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no records at all")
    with pytest.raises(StatusError, match="corrupted"):
        logged_requests(str(garbage), GRPC, Model("m"), _not_written)
    write_records(str(garbage), [b"\xff\xff\xff"])
    with pytest.raises(ServableError, match="PredictionLog"):
        logged_requests(str(garbage), GRPC, Model("m"), _not_written)
    write_records(str(garbage), [])
    with pytest.raises(ServableError, match="no request"):
        logged_requests(str(garbage), GRPC, Model("m"), _not_written)
    with pytest.raises(ServableError, match="cannot be read"):
        logged_requests(str(tmp_path / "none"), GRPC, Model("m"), _not_written)


def test_bodies_and_pictures_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "b.JPG").write_bytes(b"second")
    (tmp_path / "a.png").write_bytes(b"first")
    (tmp_path / "notes.txt").write_bytes(b"{}")
    assert pictures(str(tmp_path)) == [b"first", b"second"]
    request = body_request(REST, Model("m"), str(tmp_path / "notes.txt"))
    assert (request.path, request.body) == ("/v1/models/m:predict", b"{}")
    assert dict(request.headers) == {"Content-Type": "application/json"}
    assert body_request(V2_GRPC, Model("m"), str(tmp_path / "a.png")).path == v2.METHOD
    with pytest.raises(ServableError, match="no pictures"):
        pictures(str(tmp_path.parent / tmp_path.name / ".."))
    for missing in ("none", "a.png/none"):
        with pytest.raises(ServableError, match="cannot be read"):
            pictures(str(tmp_path / missing))
        with pytest.raises(ServableError, match="cannot be read"):
            body_request(REST, Model("m"), str(tmp_path / missing))
