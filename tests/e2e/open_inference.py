"""Requests by the Open Inference Protocol over REST, tensors in JSON or in binary form, without a client."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from conftest import Served
from wire import Reply, ask, message

DTYPES: dict[str, type[Any]] = {
    "BOOL": np.bool_,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
}


def strings(*all_of_them: bytes) -> bytes:
    """Returns BYTES in binary form: each after its length."""
    return b"".join(struct.pack("<I", len(one)) + one for one in all_of_them)


def tensor(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    """Returns the JSON of an input."""
    described: dict[str, Any] = {"name": name, "shape": shape, "datatype": datatype}
    if parameters:
        described["parameters"] = parameters
    if data is not None:
        described["data"] = data
    return described


def infer_message(path: str, body: dict[str, Any], binary: bytes | None = None, **headers: str) -> bytes:
    """Returns a whole request; binary: what follows the JSON."""
    text = json.dumps(body).encode()
    if binary is not None:
        headers.setdefault("Inference_Header_Content_Length", str(len(text)))
    return message("POST", f"/v2/models/{path}/infer", text + (binary or b""), **headers)


def infer(
    served: Served, path: str, body: dict[str, Any], binary: bytes | None = None, **headers: str
) -> Reply:
    """Asks a model on a connection of its own."""
    text = json.dumps(body).encode()
    if binary is not None:
        headers.setdefault("Inference_Header_Content_Length", str(len(text)))
    return ask(served, "POST", f"/v2/models/{path}/infer", text + (binary or b""), **headers)


def outputs(reply: Reply) -> dict[str, Any]:
    """Returns the outputs of an answer by name: lists of JSON, or the bytes of binary data."""
    assert reply.status == 200, reply
    length = reply.headers.get("inference-header-content-length")
    text, rest = (
        (reply.body, b"") if length is None else (reply.body[: int(length)], reply.body[int(length) :])
    )
    found: dict[str, Any] = {}
    for one in json.loads(text)["outputs"]:
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[one["name"]] = one["data"]
        else:
            found[one["name"]], rest = rest[:size], rest[size:]
    assert not rest
    return found
