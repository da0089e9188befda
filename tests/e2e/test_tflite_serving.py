"""TensorFlow Serving's own tests for TensorFlow Lite, on its test data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from conftest import SHARED
from engines import engine_or_skip
from servers import DROP_IN, serving
from stubs import call, failure, floats_request, own_message

pytestmark = pytest.mark.needs_shared

DATA = SHARED / "testdata" / "tensorflow_serving"
MODELS = ("saved_model_half_plus_two_tflite", "saved_model_half_plus_two_tflite_with_sigdef")
VERSION = 123
DEFAULT = "serving_default"


@pytest.fixture(scope="module", params=MODELS)
def channel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[grpc.Channel]:
    """The drop-in with ``--prefer_tflite_model``, as TensorFlow Serving's tests start it."""
    engine_or_skip("tflite")
    socket = tmp_path_factory.mktemp("tflite") / "grpc.sock"
    with (
        serving(
            "--port=0",
            f"--grpc_socket_path={socket}",
            "--model_name=default",
            f"--model_base_path={DATA / request.param}",
            "--prefer_tflite_model=true",
            command=DROP_IN,
            ready="ready: 1 of 1 models",
        ),
        grpc.insecure_channel(f"unix:{socket}") as there,
    ):
        yield there


def answer(channel: grpc.Channel, request: Any) -> Any:
    return call(channel, "Predict", request, own_message)


@pytest.mark.parametrize("signature", ["", DEFAULT])
@pytest.mark.parametrize("output", ["", "y"])
def test_predict_by_default_signature_and_by_its_name(
    channel: grpc.Channel, signature: str, output: str
) -> None:
    request = floats_request("default", 2.0)
    request.model_spec.signature_name = signature
    request.output_filter.extend([output] if output else [])
    reply = answer(channel, request)
    assert list(reply.outputs) == ["y"]
    assert (reply.outputs["y"].dtype, list(reply.outputs["y"].float_val)) == (1, [3.0])
    spec = reply.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("default", DEFAULT, VERSION)


def test_predict_with_rows(channel: grpc.Channel) -> None:
    """Their batched requests have two dimensions; the model declares [1, 1]."""
    request = floats_request("default", 2.0)
    request.inputs["x"].tensor_shape.dim.add(size=1)
    assert list(answer(channel, request).outputs["y"].float_val) == [3.0]
    rows = floats_request("default", 2.0, 4.0, 6.0)
    rows.inputs["x"].tensor_shape.dim.add(size=1)
    assert list(answer(channel, rows).outputs["y"].float_val) == [3.0, 4.0, 5.0]


def test_another_signature_is_refused(channel: grpc.Channel) -> None:
    request = floats_request("default", 2.0)
    request.model_spec.signature_name = "none"
    code, text = failure(lambda: answer(channel, request))
    assert code in ("FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND") and "none" in text
