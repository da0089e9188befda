"""The dtypes of the client: TensorFlow's name and number, numpy's type, TensorProto's field.

numpy has bfloat16, the 8-bit floats and the 4-bit integers only with the package ``ml_dtypes``. Without it,
bfloat16 is carried as float32, which holds each of its values; the others are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from servable.errors import UnimplementedError


@dataclass(frozen=True)
class DType:
    """One dtype.

    name: as in messages. number: tensorflow.DataType. field: TensorProto's. rest: supported by the REST API.
    """

    name: str
    number: int
    numpy: str
    field: str
    rest: bool = False

    @property
    def type(self) -> np.dtype[Any]:
        """The numpy dtype of arrays; object for strings. Raises ``UnimplementedError``."""
        if self.field == "float8_val" or self.name in ("bfloat16", "int4", "uint4"):
            extended = _extended(self.name)
            if extended is None and self.name == "bfloat16":
                return np.dtype("float32")
            if extended is None:
                raise UnimplementedError(
                    "UNIMPLEMENTED",
                    f"numpy has no {self.name} of its own",
                    "pip install ml_dtypes gives it one",
                )
            return extended
        return np.dtype(self.numpy)


_ALL = (
    DType("float", 1, "float32", "float_val", rest=True),
    DType("double", 2, "float64", "double_val", rest=True),
    DType("int32", 3, "int32", "int_val", rest=True),
    DType("uint8", 4, "uint8", "int_val", rest=True),
    DType("int16", 5, "int16", "int_val", rest=True),
    DType("int8", 6, "int8", "int_val", rest=True),
    DType("string", 7, "object", "string_val", rest=True),
    DType("complex64", 8, "complex64", "scomplex_val"),
    DType("int64", 9, "int64", "int64_val", rest=True),
    DType("bool", 10, "bool", "bool_val", rest=True),
    DType("qint8", 11, "int8", "int_val"),
    DType("quint8", 12, "uint8", "int_val"),
    DType("qint32", 13, "int32", "int_val"),
    DType("bfloat16", 14, "bfloat16", "half_val", rest=True),
    DType("qint16", 15, "int16", "int_val"),
    DType("quint16", 16, "uint16", "int_val"),
    DType("uint16", 17, "uint16", "int_val"),
    DType("complex128", 18, "complex128", "dcomplex_val"),
    DType("half", 19, "float16", "half_val", rest=True),
    DType("uint32", 22, "uint32", "uint32_val", rest=True),
    DType("uint64", 23, "uint64", "uint64_val", rest=True),
    DType("float8_e5m2", 24, "float8_e5m2", "float8_val"),
    DType("float8_e4m3fn", 25, "float8_e4m3fn", "float8_val"),
    DType("float8_e4m3fnuz", 26, "float8_e4m3fnuz", "float8_val"),
    DType("float8_e4m3b11fnuz", 27, "float8_e4m3b11fnuz", "float8_val"),
    DType("float8_e5m2fnuz", 28, "float8_e5m2fnuz", "float8_val"),
    DType("int4", 29, "int4", "int_val"),
    DType("uint4", 30, "uint4", "int_val"),
)
BY_NAME = {one.name: one for one in _ALL}
BY_NUMBER = {one.number: one for one in _ALL}


def dtype_of_number(number: int) -> DType:
    """Returns the dtype of TensorFlow's number. Raises ``UnimplementedError`` if no array can hold it."""
    if number not in BY_NUMBER:
        raise UnimplementedError("UNIMPLEMENTED", f"no array can hold TensorFlow's dtype number {number}")
    return BY_NUMBER[number]


def dtype_named(name: str) -> DType:
    """Returns the dtype of TensorFlow's name. Raises ``UnimplementedError`` if no array can hold it."""
    if name not in BY_NAME:
        raise UnimplementedError("UNIMPLEMENTED", f"no array can hold TensorFlow's dtype {name}")
    return BY_NAME[name]


def name_of_number(number: int) -> str:
    """Returns TensorFlow's name of any number; a reference type (``number + 100``) gives its value type."""
    plain = number - 100 if number > 100 else number
    if plain in BY_NUMBER:
        return BY_NUMBER[plain].name
    return {0: "invalid", 20: "resource", 21: "variant"}.get(plain, f"dtype {plain}")


def bfloat16_as_float32() -> bool:
    """True without ml_dtypes."""
    return _extended("bfloat16") is None


@cache
def _extended(name: str) -> np.dtype[Any] | None:
    """Returns a dtype of ml_dtypes, or None if it or the package is missing."""
    try:
        import ml_dtypes
    except ImportError:
        return None
    found: Any = getattr(ml_dtypes, name, None)
    dtype: np.dtype[Any] | None = None if found is None else np.dtype(found)
    return dtype
