"""MLServer's codecs: what its clients make of arrays and strings."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from conftest import Served

codecs = pytest.importorskip("mlserver.codecs", exc_type=ImportError)
types = pytest.importorskip("mlserver.types", exc_type=ImportError)

pytestmark = [pytest.mark.needs_tensorflow, pytest.mark.filterwarnings("ignore")]


def infer(served: Served, model: str, *inputs: Any) -> Any:
    request = types.InferenceRequest(inputs=list(inputs))
    content = request.model_dump_json(exclude_none=True)
    headers = {"content-type": "application/json"}
    reply = httpx.post(f"{served.rest}/v2/models/{model}/infer", content=content, headers=headers)
    assert reply.status_code == 200, reply.text
    return types.InferenceResponse.model_validate_json(reply.text)


def test_arrays(served: Served) -> None:
    x = np.array([[1.0, 2.0], [5.0, 7.0]], np.float32)
    answer = infer(served, "add_two", codecs.NumpyCodec.encode_input("x", x))
    np.testing.assert_array_equal(codecs.NumpyCodec.decode_output(answer.outputs[0]), x + 2)


def test_strings(served: Served) -> None:
    # A column, as this codec has it, is of rank 2; the model takes a list.
    words = types.RequestInput(name="word", shape=[2], datatype="BYTES", data=["red", "blue"])
    answer = infer(served, "lookup", words)
    assert codecs.NumpyCodec.decode_output(answer.outputs[0]).shape == (2,)
