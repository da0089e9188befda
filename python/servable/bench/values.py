"""Values of tensors: made up by chance, from bytes of pictures, or read from recorded tensors.

Without numpy: a tensor's numbers are kept as their little-endian bytes.
"""

from __future__ import annotations

import math
import random
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from servable.bench.metadata import Input
from servable.errors import ServableError, UsageError

MOST_ELEMENTS = 1 << 25
CODES = {
    "float": "f",
    "double": "d",
    "half": "e",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "bool": "?",
}
"""The letter of struct for each dtype that it has; bfloat16 is written apart."""
_LARGEST_NUMBER = {"int8": 127}
_PICTURE_WORDS = ("image", "img", "picture", "photo", "jpeg", "jpg", "png")


@dataclass(frozen=True)
class Value:
    """A tensor. raw: numbers, little-endian, in row-major order; strings: those of dtype string."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    raw: bytes = b""
    strings: tuple[bytes, ...] = ()

    def numbers(self) -> list[Any]:
        """Returns the elements as Python's numbers."""
        if self.dtype == "bfloat16":
            return [
                struct.unpack("<f", b"\0\0" + self.raw[at : at + 2])[0] for at in range(0, len(self.raw), 2)
            ]
        return list(struct.unpack(f"<{count(self.shape)}{CODES[self.dtype]}", self.raw))

    def bytes_tensor(self) -> bytes:
        """Returns the binary form of the Open Inference Protocol: strings have their lengths before them."""
        if self.dtype != "string":
            return self.raw
        return b"".join(struct.pack("<I", len(one)) + one for one in self.strings)


def count(shape: Sequence[int]) -> int:
    """Returns the number of elements."""
    return math.prod(shape)


def looks_like_picture(name: str) -> bool:
    """True for names of inputs that take pictures as they are in files."""
    low = name.lower()
    return low in ("bytes", "b64") or low.endswith("_bytes") or any(word in low for word in _PICTURE_WORDS)


def resolved_shape(one: Input, batch: int | None, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Returns the shape to send: as given by ``shapes``; else the first open length is the batch, others 1.

    Raises ``UsageError`` for a shape that contradicts the metadata, or is too large.
    """
    shape = shapes.get(one.name)
    if shape is None:
        if one.shape is None:
            shape = (batch or 1,)
        else:
            shape = tuple(
                length if length >= 0 else (batch or 1) if index == 0 else 1
                for index, length in enumerate(one.shape)
            )
    elif one.shape is not None and (
        len(shape) != len(one.shape)
        or any(wanted not in (-1, given) for given, wanted in zip(shape, one.shape, strict=True))
    ):
        raise UsageError(f"--shape {one.name}: the model takes {list(one.shape)}, got {list(shape)}")
    if count(shape) > MOST_ELEMENTS:
        raise UsageError(f"input {one.name}: a shape of {list(shape)} is too large; choose one by --shape")
    return shape


def made_up(one: Input, shape: tuple[int, ...], chance: random.Random, picture: bytes = b"") -> Value:
    """Returns random values: 0 to 1, small integers, words; ``picture`` for each string if it is not empty.

    Raises ``ServableError`` for dtypes that requests cannot hold.
    """
    elements = count(shape)
    if one.dtype == "string":
        strings = tuple(picture or _word(chance) for _ in range(elements))
        return Value(one.name, one.dtype, shape, strings=strings)
    return Value(one.name, one.dtype, shape, _random_bytes(one, elements, chance))


def _word(chance: random.Random) -> bytes:
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=8)).encode()


def _random_bytes(one: Input, elements: int, chance: random.Random) -> bytes:
    if one.dtype == "bfloat16":
        packed = _little_endian(array("f", (chance.random() for _ in range(elements))))
        return b"".join(packed[at + 2 : at + 4] for at in range(0, len(packed), 4))
    if one.dtype not in CODES:
        raise ServableError(f"input {one.name} has dtype {one.dtype}, which no value can be made up for")
    if one.dtype in ("float", "double"):
        return _little_endian(array(CODES[one.dtype], (chance.random() for _ in range(elements))))
    if one.dtype == "half":
        return struct.pack(f"<{elements}e", *(chance.random() for _ in range(elements)))
    if one.dtype == "bool":
        return bytes(chance.getrandbits(1) for _ in range(elements))
    # Small enough for an index of most tables of words, and for every type.
    most = _LARGEST_NUMBER.get(one.dtype, 100)
    return struct.pack(f"<{elements}{CODES[one.dtype]}", *(chance.randint(0, most) for _ in range(elements)))


def _little_endian(numbers: array[float]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


_FIELDS = {
    "float": "float_val",
    "double": "double_val",
    "half": "half_val",
    "bfloat16": "half_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
}


def from_proto(name: str, proto: Any) -> Value:
    """Reads a TensorProto, as recorded. Raises ``ServableError``."""
    dtypes = proto.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number
    dtype = dtypes[proto.dtype].name.removeprefix("DT_").lower() if proto.dtype in dtypes else "?"
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    elements = count(shape)
    if min(shape, default=0) < 0 or elements > MOST_ELEMENTS:
        raise ServableError(f"the recorded input {name} has the shape {list(shape)}")
    if dtype == "string":
        return Value(name, dtype, shape, strings=_filled(list(proto.string_val), elements, b""))
    if dtype not in (*CODES, "bfloat16"):
        raise ServableError(f"the recorded input {name} has dtype {dtype}, which cannot be sent")
    letter = "H" if dtype in ("half", "bfloat16") else CODES[dtype]
    raw = proto.tensor_content
    if not raw:
        listed = _filled(list(getattr(proto, _FIELDS.get(dtype, "int_val"))), elements, 0)
        try:
            raw = struct.pack(f"<{elements}{letter}", *listed)
        except (struct.error, OverflowError):
            raise ServableError(f"the recorded input {name} has values that {dtype} cannot hold") from None
    if len(raw) != elements * struct.calcsize(f"<{letter}"):
        raise ServableError(f"the recorded input {name} has {len(raw)} bytes for the shape {list(shape)}")
    return Value(name, dtype, shape, raw)


def _filled(listed: list[Any], elements: int, zero: Any) -> tuple[Any, ...]:
    """Repeats the last value, as TensorFlow does with short lists."""
    listed = listed[:elements]
    return tuple(listed + [listed[-1] if listed else zero] * (elements - len(listed)))
