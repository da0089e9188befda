"""Infer requests of the Open Inference Protocol: JSON, with or without binary tensors, and messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from servable.bench.messages_v2 import v2_message
from servable.bench.metadata import DATATYPES
from servable.bench.plan import Request
from servable.bench.target import Model, Target
from servable.bench.tensorflow import JSON
from servable.bench.values import Value
from servable.errors import ServableError

METHOD = "/inference.GRPCInferenceService/ModelInfer"
HEADER_LENGTH = "Inference-Header-Content-Length"
_NAMES = {own: name for name, own in DATATYPES.items()}


def infer(target: Target, model: Model, signature: str, values: Sequence[Value], binary: bool) -> Request:
    """Returns the request; binary: over REST tensors are bytes behind the JSON, in the answer, too.

    Raises ``ServableError``.
    """
    if target.grpc:
        return Request(METHOD, (), _message(model, signature, values))
    path = f"{target.model_path(model)}/infer"
    head: dict[str, Any] = {"inputs": [_described(value) for value in values]}
    if signature:
        head["parameters"] = {"signature_name": signature}
    if not binary:
        for one, value in zip(head["inputs"], values, strict=True):
            one["data"] = _data(value)
        return Request(path, (JSON,), _text(head))
    tensors = [value.bytes_tensor() for value in values]
    for one, tensor in zip(head["inputs"], tensors, strict=True):
        one["parameters"] = {"binary_data_size": len(tensor)}
    head.setdefault("parameters", {})["binary_data_output"] = True
    text = _text(head)
    headers = (("Content-Type", "application/octet-stream"), (HEADER_LENGTH, str(len(text))))
    return Request(path, headers, b"".join([text, *tensors]))


def _text(head: dict[str, Any]) -> bytes:
    return json.dumps(head, separators=(",", ":")).encode()


def _described(value: Value) -> dict[str, Any]:
    return {"name": value.name, "shape": list(value.shape), "datatype": _NAMES[value.dtype]}


def _data(value: Value) -> list[Any]:
    if value.dtype != "string":
        return value.numbers()
    try:
        return [one.decode() for one in value.strings]
    except UnicodeDecodeError:
        raise ServableError(
            f"input {value.name}: JSON has no bytes that are not text; leave --json-tensors out"
        ) from None


def _message(model: Model, signature: str, values: Sequence[Value]) -> bytes:
    request = v2_message("ModelInferRequest")(model_name=model.name, model_version=model.version)
    if signature:
        request.parameters.add(key="signature_name").value.string_param = signature
    for value in values:
        request.inputs.add(name=value.name, datatype=_NAMES[value.dtype], shape=value.shape)
        request.raw_input_contents.append(value.bytes_tensor())
    return bytes(request.SerializeToString())
