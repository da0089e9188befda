"""Predict requests of TensorFlow Serving's API: JSON for REST, messages for gRPC."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from servable.bench.metadata import fill_spec
from servable.bench.plan import Request
from servable.bench.target import Model, Target
from servable.bench.values import Value
from servable.messages import message_class

SERVICE = "/tensorflow.serving.PredictionService"
JSON = ("Content-Type", "application/json")


def predict(target: Target, model: Model, signature: str, values: Sequence[Value], by_row: bool) -> Request:
    """Returns the request. by_row: the first length of every input is open, so that REST sends rows."""
    if target.grpc:
        return Request(f"{SERVICE}/Predict", (), _message(model, signature, values))
    return Request(f"{target.model_path(model)}:predict", (JSON,), _body(signature, values, by_row))


def _message(model: Model, signature: str, values: Sequence[Value]) -> bytes:
    request = message_class("tensorflow.serving.PredictRequest")()
    fill_spec(request.model_spec, model, signature)
    for value in values:
        tensor = request.inputs[value.name]
        dtypes = tensor.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_name
        tensor.dtype = dtypes[f"DT_{value.dtype.upper()}"].number
        tensor.tensor_shape.SetInParent()
        for length in value.shape:
            tensor.tensor_shape.dim.add(size=length)
        if value.dtype == "string":
            tensor.string_val.extend(value.strings)
        else:
            tensor.tensor_content = value.raw
    return bytes(request.SerializeToString())


def _body(signature: str, values: Sequence[Value], by_row: bool) -> bytes:
    """Rows (``instances``) as most clients send them, or columns (``inputs``) where there are none."""
    nested = {value.name: _nested(value) for value in values}
    rows = {len(one) if isinstance(one, list) else -1 for one in nested.values()}
    content: dict[str, Any] = {"signature_name": signature} if signature else {}
    alone = len(nested) == 1
    if by_row and len(rows) == 1 and min(rows) >= 0:
        columns = list(nested.values())
        content["instances"] = (
            columns[0]
            if alone
            else [dict(zip(nested, row, strict=True)) for row in zip(*columns, strict=True)]
        )
    else:
        content["inputs"] = next(iter(nested.values())) if alone else nested
    return json.dumps(content, separators=(",", ":")).encode()


def _nested(value: Value) -> Any:
    flat: list[Any]
    if value.dtype == "string":
        flat = [{"b64": base64.b64encode(one).decode()} for one in value.strings]
    else:
        flat = value.numbers()
    for length in reversed(value.shape[1:]):
        flat = [flat[at : at + length] for at in range(0, len(flat), length)] if length else []
    return flat if value.shape else flat[0]
