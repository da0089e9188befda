"""Predict over REST with arrays as numpy stores them, where server, signature and values allow that."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from servable.client.answers import Signature, TensorSpec
from servable.client.codecs.codec import BoundRequest
from servable.client.codecs.numpy_files import NPY, NPZ, read, written
from servable.client.values.arrays import Array
from servable.client.values.dtypes import dtype_named

JSON = "application/json;compact=true"

_CARRIED = frozenset(
    (
        *("float", "double", "half", "bool", "complex64", "complex128"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
)
"""Dtypes that are the same in numpy. Strings, which numpy fills up with zeros, are not."""


def carries_inputs(bound: BoundRequest) -> bool:
    """Returns whether the server takes numpy's files, and these inputs can be in one."""
    signature = bound.metadata.signatures[bound.signature]
    specs = [signature.inputs[alias] for alias in bound.inputs]
    named = all("\0" not in alias for alias in bound.inputs) and _is_sendable(bound.signature)
    return bool(specs) and named and _takes_files(bound) and all(one.dtype in _CARRIED for one in specs)


def accepted(bound: BoundRequest) -> str | None:
    """Returns the media type to ask the server for, or None if that has to be JSON."""
    wanted = wanted_outputs(bound)
    if not _takes_files(bound) or not all(one.dtype in _CARRIED for one in wanted.values()):
        return None
    return NPY if len(wanted) == 1 else NPZ


def body(bound: BoundRequest) -> tuple[str, bytes]:
    """Returns the media type and the bytes of the inputs."""
    signature = bound.metadata.signatures[bound.signature]
    return written(bound.inputs, alone=len(signature.inputs) == 1)


def query(bound: BoundRequest) -> str:
    """Returns the query that names the outputs wanted; "" for all."""
    if not is_filtered(bound):
        return ""
    return "?outputs=" + ",".join(quote(alias, safe="") for alias in bound.outputs)


def is_filtered(bound: BoundRequest) -> bool:
    """Returns whether the server should leave out outputs."""
    return 0 < len(bound.outputs) < len(_signature(bound).outputs)


def wanted_outputs(bound: BoundRequest) -> Mapping[str, TensorSpec]:
    """Returns the outputs that the server is asked for."""
    outputs = _signature(bound).outputs
    return {alias: outputs[alias] for alias in bound.outputs} if bound.outputs else outputs


def outputs(media: str, content: bytes, bound: BoundRequest) -> dict[str, Array]:
    """Reads the outputs.

    Raises ``ValueError`` for others than the metadata has, as after a change of version.
    """
    # Outputs of which none is left out come all.
    specs = wanted_outputs(bound) if is_filtered(bound) else _signature(bound).outputs
    arrays = read(media, content, next(iter(specs)) if len(specs) == 1 else None)
    for alias, spec in specs.items():
        if arrays[alias].dtype != dtype_named(spec.dtype).type:
            raise ValueError(f"{arrays[alias].dtype} values where the metadata says {spec}")
    return arrays


def _is_sendable(name: str) -> bool:
    """Returns whether a header can hold the name."""
    return name.isascii() and name.isprintable() and name == name.strip()


def _signature(bound: BoundRequest) -> Signature:
    return bound.metadata.signatures[bound.signature]


def _takes_files(bound: BoundRequest) -> bool:
    return {NPY, NPZ} <= bound.metadata.accepts
