"""What a model takes, as its server says: in either protocol, over REST or gRPC."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from servable.bench.asking import Server
from servable.bench.messages_v2 import v2_message
from servable.bench.target import V2, Model
from servable.errors import ServableError
from servable.messages import message_class

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "half",
    "BF16": "bfloat16",
    "FP32": "float",
    "FP64": "double",
    "BYTES": "string",
}
"""The Open Inference Protocol's names of dtypes, and TensorFlow's."""

T = TypeVar("T")


class Input(NamedTuple):
    """An input: its name, its dtype by TensorFlow's name, its shape (-1: any length; None: any rank)."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None


def inputs_of(server: Server, model: Model, signature: str) -> tuple[Input, ...]:
    """Asks for the inputs of a signature, by name. Raises ``ServableError``.

    The Open Inference Protocol has no signatures: there it is a parameter of requests, if it is given at all.
    """
    if server.target.protocol == V2:
        return _v2_grpc(server, model) if server.target.grpc else _v2_rest(server, model)
    signatures = _grpc(server, model) if server.target.grpc else _rest(server, model)
    name = signature or "serving_default"
    if name not in signatures:
        there = ", ".join(sorted(signatures)) or "none"
        raise ServableError(
            f"{model.shown} has no signature {name}; there are: {there}. Choose by --signature"
        )
    return tuple(sorted(signatures[name]))


def _read(server: Server, model: Model, answer: bytes, read: Callable[[bytes], T]) -> T:
    """Raises ``ServableError`` for an answer that is no metadata."""
    try:
        return read(answer)
    except Exception as error:  # whatever a server sends: JSON of any form, messages of any kind
        raise ServableError(
            f"{server.target.shown}: the metadata of {model.shown} cannot be used "
            f"({type(error).__name__}: {error}). Give requests by --body, or --protocol another one"
        ) from None


def _rest(server: Server, model: Model) -> dict[str, list[Input]]:
    answer = server.ask(f"{server.target.model_path(model)}/metadata")

    def read(content: bytes) -> dict[str, list[Input]]:
        definitions = json.loads(content)["metadata"]["signature_def"]["signature_def"]
        return {
            name: [_of_info(alias, info) for alias, info in one["inputs"].items()]
            for name, one in definitions.items()
        }

    return _read(server, model, answer, read)


def _of_info(alias: str, info: Mapping[str, Any]) -> Input:
    dtype = info["dtype"].removeprefix("DT_").removesuffix("_REF").lower()
    shape = info.get("tensor_shape", {})
    if shape.get("unknown_rank"):
        return Input(alias, dtype, None)
    return Input(alias, dtype, tuple(int(dim["size"]) for dim in shape.get("dim", ())))


def _grpc(server: Server, model: Model) -> dict[str, list[Input]]:
    request = message_class("tensorflow.serving.GetModelMetadataRequest")()
    fill_spec(request.model_spec, model)
    request.metadata_field.append("signature_def")
    path = "/tensorflow.serving.PredictionService/GetModelMetadata"
    answer = server.ask(path, request.SerializeToString())

    def read(content: bytes) -> dict[str, list[Input]]:
        reply = message_class("tensorflow.serving.GetModelMetadataResponse").FromString(content)
        kind = message_class("tensorflow.serving.SignatureDefMap")
        definitions = kind.FromString(reply.metadata["signature_def"].value).signature_def
        return {
            name: [_of_message(alias, info) for alias, info in one.inputs.items()]
            for name, one in definitions.items()
        }

    return _read(server, model, answer, read)


def _of_message(alias: str, info: Any) -> Input:
    names = info.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number
    dtype = names[info.dtype].name.removeprefix("DT_").removesuffix("_REF").lower()
    shape = info.tensor_shape
    return Input(alias, dtype, None if shape.unknown_rank else tuple(dim.size for dim in shape.dim))


def fill_spec(spec: Any, model: Model, signature: str = "") -> None:
    """Writes which model is meant to a ModelSpec."""
    spec.name = model.name
    spec.signature_name = signature
    if model.version:
        spec.version.value = int(model.version)
    elif model.label:
        spec.version_label = model.label


def _v2_rest(server: Server, model: Model) -> tuple[Input, ...]:
    answer = server.ask(server.target.model_path(model))

    def read(content: bytes) -> tuple[Input, ...]:
        inputs = json.loads(content)["inputs"]
        return tuple(_of_v2(one["name"], one["datatype"], one["shape"]) for one in inputs)

    return _read(server, model, answer, read)


def _v2_grpc(server: Server, model: Model) -> tuple[Input, ...]:
    request = v2_message("ModelMetadataRequest")(name=model.name, version=model.version)
    answer = server.ask("/inference.GRPCInferenceService/ModelMetadata", request.SerializeToString())

    def read(content: bytes) -> tuple[Input, ...]:
        reply = v2_message("ModelMetadataResponse").FromString(content)
        return tuple(_of_v2(one.name, one.datatype, one.shape) for one in reply.inputs)

    return _read(server, model, answer, read)


def _of_v2(name: str, datatype: str, shape: Any) -> Input:
    return Input(name, DATATYPES[datatype], tuple(int(length) for length in shape))
