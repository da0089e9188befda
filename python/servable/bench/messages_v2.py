"""The messages of the Open Inference Protocol that a load generator needs, with their public numbers.

They are described here, in a pool of their own, as a client of any server is no part of this one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "int64[]")},
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "string[]"),
        "platform": (3, "string"),
        "inputs": (4, "TensorMetadata[]"),
        "outputs": (5, "TensorMetadata[]"),
    },
    "InferParameter": {"bool_param": (1, "bool"), "int64_param": (2, "int64"), "string_param": (3, "string")},
    # A map on the wire is a list of pairs.
    "Parameter": {"key": (1, "string"), "value": (2, "InferParameter")},
    "InferInputTensor": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "int64[]")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "Parameter[]"),
        "inputs": (5, "InferInputTensor[]"),
        "raw_input_contents": (7, "bytes[]"),
    },
}


@cache
def v2_message(name: str) -> Any:
    """Returns the class of a message of the package ``inference``."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(_pool().FindMessageTypeByName(f"inference.{name}"))


@cache
def _pool() -> DescriptorPool:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

    file = FileDescriptorProto(name="bench_inference.proto", package="inference", syntax="proto3")
    for name, fields in _MESSAGES.items():
        _describe(file.message_type.add(name=name), fields)
    pool = DescriptorPool()
    pool.Add(file)
    return pool


def _describe(message: DescriptorProto, fields: dict[str, tuple[int, str]]) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    kinds = {
        "string": Field.TYPE_STRING,
        "bytes": Field.TYPE_BYTES,
        "bool": Field.TYPE_BOOL,
        "int64": Field.TYPE_INT64,
    }
    for name, (number, kind) in fields.items():
        alone = kind.removesuffix("[]")
        field = message.field.add(name=name, number=number)
        field.label = Field.LABEL_REPEATED if kind.endswith("[]") else Field.LABEL_OPTIONAL
        if alone in kinds:
            field.type = kinds[alone]
        else:
            field.type, field.type_name = Field.TYPE_MESSAGE, f".inference.{alone}"
