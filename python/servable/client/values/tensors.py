"""Converts arrays to TensorProto, or to plain bytes, and back, without TensorFlow.

Numbers are sent as ``tensor_content`` (little-endian, row-major), strings as ``string_val``. Both forms are
read, with TensorFlow's rule for short lists: the last value is repeated, and an empty list means zeros.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from typing import Any

import numpy as np

from servable.client.values.arrays import Array
from servable.client.values.dtypes import DType, bfloat16_as_float32, dtype_named, dtype_of_number
from servable.errors import DataLossError

_LARGEST = 2**31 - 1
"""Most bytes of a tensor (of pointers, for strings): more does not fit into a protobuf message."""

_FLOAT_BYTES = {"float_val": 4, "double_val": 8, "scomplex_val": 4, "dcomplex_val": 8}


def write_tensor(proto: Any, array: Array, dtype_name: str) -> None:
    """Writes ``array``, already of the dtype's numpy type, to an empty TensorProto."""
    dtype = dtype_named(dtype_name)
    proto.dtype = dtype.number
    proto.tensor_shape.SetInParent()
    for length in array.shape:
        proto.tensor_shape.dim.add(size=length)
    if dtype.name == "string":
        proto.string_val.extend(array.reshape(-1).tolist())
    else:
        proto.tensor_content = _little_endian(_bits(array, dtype)).tobytes()


def read_tensor(proto: Any) -> Array:
    """Returns the array in a TensorProto. Raises ``UnimplementedError`` and ``DataLossError``."""
    dtype = dtype_of_number(proto.dtype)
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.type.itemsize > _LARGEST:
        raise DataLossError("DATA_LOSS", f"the server sent a {dtype.name} tensor of the shape {list(shape)}")
    if dtype.name == "string":
        return _strings(proto.string_val, count).reshape(shape)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, count).reshape(shape)
    return _from_field(proto, dtype, count).reshape(shape)


def stored(array: Array, dtype_name: str) -> Array:
    """Returns numbers of the dtype's numpy type as they lie in a tensor: row-major, little-endian."""
    return _little_endian(_bits(array, dtype_named(dtype_name)))


def of_strings(values: list[bytes], shape: tuple[int, ...]) -> Array:
    """Returns the array of a tensor's strings."""
    return _strings(values, len(values)).reshape(shape)


def of_stored(content: Any, number: int, shape: tuple[int, ...]) -> Array:
    """Returns the array of a tensor's numbers, as they lie there: in place wherever numpy has the dtype.

    content: ``bytes``, or what numpy reads as an array of bytes. number: the dtype's, in TensorFlow. Raises
    ``UnimplementedError``.
    """
    plain = plain_dtype(number)
    kind = plain or _stored(dtype_of_number(number))
    # One call where numpy has the dtype: it takes as long as a run of a tiny model otherwise.
    array = (
        np.ndarray(shape, kind, content)
        if isinstance(content, bytes)
        else np.asarray(content).view(kind).reshape(shape)
    )
    if plain is not None:
        return array
    return _from_bits(_little_endian(array.reshape(-1)), dtype_of_number(number)).reshape(shape)


@cache
def plain_dtype(number: int) -> np.dtype[Any] | None:
    """Returns the numpy type whose values lie in a tensor as in an array; None if they are converted."""
    dtype = dtype_of_number(number)
    is_plain = dtype.name != "string" and dtype.type == _stored(dtype) and sys.byteorder == "little"
    return dtype.type if is_plain else None


def _strings(values: Any, count: int) -> Array:
    listed = list(values[:count])
    listed += [listed[-1] if listed else b""] * (count - len(listed))
    array = np.empty(count, dtype=object)
    array[:] = listed
    return array


def _from_content(content: bytes, dtype: DType, count: int) -> Array:
    stored = _stored(dtype)
    if len(content) != count * stored.itemsize:
        raise DataLossError(
            "DATA_LOSS",
            f"the server sent {len(content)} bytes for {count} values of {dtype.name}, "
            f"which take {count * stored.itemsize}",
        )
    # Copied: the result of frombuffer is read-only.
    return _from_bits(_little_endian(np.frombuffer(content, stored)).copy(), dtype)


def _from_field(proto: Any, dtype: DType, count: int) -> Array:
    stored = _stored(dtype)
    values = getattr(proto, dtype.field)
    if dtype.field == "float8_val":
        listed = np.frombuffer(values, np.uint8)
    elif dtype.field in _FLOAT_BYTES:
        floats = _packed(proto, dtype.field)
        listed = floats[: len(floats) // 2 * 2].view(stored) if stored.kind == "c" else floats
    else:
        wide = {"int_val": np.int32, "half_val": np.int32}.get(dtype.field, stored.type)
        listed = np.fromiter(values, wide, count=len(values)).astype(stored)
    listed = listed[:count]
    array = np.empty(count, stored)
    array[: len(listed)] = listed
    array[len(listed) :] = listed[-1] if len(listed) else 0
    return _from_bits(array, dtype)


def _packed(proto: Any, field: str) -> Array:
    """Reads a field of floats from its packed encoding: faster than one by one."""
    alone = type(proto)()
    alone.CopyFrom(proto)
    alone.DiscardUnknownFields()
    for other, _ in alone.ListFields():
        if other.name != field:
            alone.ClearField(other.name)
    size = _FLOAT_BYTES[field]
    encoded = alone.SerializeToString()
    # Tag and length, then the values to the end.
    start = len(encoded) - size * len(getattr(proto, field))
    return _little_endian(np.frombuffer(encoded, f"f{size}", offset=start))


def _stored(dtype: DType) -> np.dtype[Any]:
    """Returns the numpy type of the bits on the wire: an integer type for dtypes that numpy lacks."""
    if dtype.field == "half_val":
        return np.dtype(np.uint16)
    if dtype.field == "float8_val":
        return np.dtype(np.uint8)
    if dtype.name in ("int4", "uint4"):
        return np.dtype(np.int8 if dtype.name == "int4" else np.uint8)
    return dtype.type


def _bits(array: Array, dtype: DType) -> Array:
    """Returns the array as stored on the wire."""
    if dtype.name in ("int4", "uint4"):
        return array.astype(_stored(dtype))
    if dtype.name == "bfloat16" and bfloat16_as_float32():
        return _rounded_to_bfloat16(array)
    return np.ascontiguousarray(array).view(_stored(dtype))


def _from_bits(stored: Array, dtype: DType) -> Array:
    if dtype.name in ("int4", "uint4"):
        return stored.astype(dtype.type)
    if dtype.name == "bfloat16" and bfloat16_as_float32():
        return _widened(stored)
    return stored.view(dtype.type)


def as_bfloat16(array: Array) -> Array:
    """Rounds float32 to values that bfloat16 has, without ml_dtypes."""
    return _widened(_rounded_to_bfloat16(array)).reshape(array.shape)


def _widened(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _rounded_to_bfloat16(array: Array) -> Array:
    """Rounds float32 to the upper half of its bits, to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(array.reshape(-1)), quiet, rounded).astype(np.uint16)


def _little_endian(array: Array) -> Array:
    return array if sys.byteorder == "little" else array.byteswap()
