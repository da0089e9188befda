"""Calls by the Open Inference Protocol over gRPC, with stubs made of the server's own descriptors."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
import numpy as np
from stubs import PATIENCE

from servable.messages import message_class

SERVICE = "/inference.GRPCInferenceService/"
DATATYPES = {
    "BOOL": (np.bool_, "bool_contents"),
    "INT8": (np.int8, "int_contents"),
    "INT16": (np.int16, "int_contents"),
    "INT32": (np.int32, "int_contents"),
    "INT64": (np.int64, "int64_contents"),
    "UINT8": (np.uint8, "uint_contents"),
    "UINT16": (np.uint16, "uint_contents"),
    "UINT32": (np.uint32, "uint_contents"),
    "UINT64": (np.uint64, "uint64_contents"),
    "FP16": (np.float16, ""),
    "FP32": (np.float32, "fp32_contents"),
    "FP64": (np.float64, "fp64_contents"),
}
"""Datatype → numpy's type, field of contents; without one for those that are only sent raw."""


def inference(name: str) -> Any:
    """Returns a new message of the protocol."""
    return message_class(f"inference.{name}")()


def strings(*all_of_them: bytes) -> bytes:
    """Returns BYTES in raw form: each after its length."""
    return b"".join(struct.pack("<I", len(one)) + one for one in all_of_them)


def request(model: str, *, typed: bool = False, version: str = "", id: str = "", **inputs: Any) -> Any:
    """Returns a ModelInferRequest with numpy arrays or lists of bytes, raw or ``typed``."""
    made = inference("ModelInferRequest")
    made.model_name, made.model_version, made.id = model, version, id
    for name, value in inputs.items():
        add_input(made, name, value, typed)
    return made


def add_input(made: Any, name: str, value: Any, typed: bool = False) -> None:
    """Adds one input to a request."""
    tensor = made.inputs.add(name=name)
    if isinstance(value, np.ndarray):
        tensor.shape.extend(value.shape)
        tensor.datatype, field = next(
            (datatype, field) for datatype, (dtype, field) in DATATYPES.items() if dtype == value.dtype
        )
        if typed:
            getattr(tensor.contents, field).extend(value.ravel().tolist())
        else:
            made.raw_input_contents.append(value.tobytes())
        return
    tensor.datatype = "BYTES"
    tensor.shape.append(len(value))
    if typed:
        tensor.contents.bytes_contents.extend(value)
    else:
        made.raw_input_contents.append(strings(*value))


def call(channel: grpc.Channel, method: str, message: Any, **options: Any) -> Any:
    """Makes a call with one answer; raises ``grpc.RpcError``."""
    answer = message_class(f"inference.{method}Response")
    stub = channel.unary_unary(SERVICE + method, type(message).SerializeToString, answer.FromString)
    return stub(message, **{"timeout": PATIENCE, **options})


def infer(channel: grpc.Channel, message: Any, **options: Any) -> Any:
    return call(channel, "ModelInfer", message, **options)


def stream(channel: grpc.Channel, messages: Iterable[Any], **options: Any) -> Iterator[Any]:
    """Opens a stream; returns its answers."""
    kind, answer = (
        message_class(f"inference.{name}") for name in ("ModelInferRequest", "ModelStreamInferResponse")
    )
    stub = channel.stream_stream(SERVICE + "ModelStreamInfer", kind.SerializeToString, answer.FromString)
    answers: Iterator[Any] = stub(iter(messages), **{"timeout": PATIENCE, **options})
    return answers


def outputs(answer: Any) -> dict[str, Any]:
    """Returns the outputs of an answer by name: numpy arrays, or lists of bytes."""
    found = {}
    for index, tensor in enumerate(answer.outputs):
        raw = answer.raw_output_contents[index] if answer.raw_output_contents else None
        found[tensor.name] = _strings(tensor, raw) if tensor.datatype == "BYTES" else _numbers(tensor, raw)
    return found


def _numbers(tensor: Any, raw: bytes | None) -> Any:
    dtype, field = DATATYPES.get(tensor.datatype, (np.uint16, ""))
    if raw is None:
        return np.array(getattr(tensor.contents, field), dtype).reshape(tuple(tensor.shape))
    return np.frombuffer(raw, dtype).reshape(tuple(tensor.shape))


def _strings(tensor: Any, raw: bytes | None) -> list[bytes]:
    if raw is None:
        return list(tensor.contents.bytes_contents)
    found = []
    while raw:
        end = 4 + struct.unpack_from("<I", raw)[0]
        found.append(raw[4:end])
        raw = raw[end:]
    return found
