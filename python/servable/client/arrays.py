"""From what a caller has at hand to the array that an input wants.

Numbers, nested lists, numpy arrays and whatever numpy can read as one (a PIL picture) become arrays of the
input's dtype, as long as no value changes its meaning: a float is never cut to an integer, and an integer out
of range is an error. Text, bytes and ``pathlib.Path`` (the file's content) become bytes, in object arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.client.answers import TensorSpec
from servable.client.dtypes import DType, dtype_named
from servable.errors import InvalidArgumentError, invalid_argument

Array = NDArray[Any]


def as_array(alias: str, value: object, spec: TensorSpec) -> Array:
    """``value`` as an array of the input's dtype.

    A lone scalar for a vector of any length, or of one element, becomes a vector of one. Shapes are otherwise
    left to the server. Raises ``InvalidArgumentError`` where the value does not fit the dtype.
    """
    dtype = dtype_named(spec.dtype)
    array = _strings(alias, value) if dtype.name == "string" else _numbers(alias, value, dtype)
    return array.reshape(1) if array.ndim == 0 and spec.shape in ((-1,), (1,)) else array


def _numbers(alias: str, value: object, dtype: DType) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise _misfit(alias, dtype, f"its lists are not of one shape ({error})") from None
    wanted = dtype.type
    if array.dtype == wanted:
        return array
    if array.dtype.kind in "OSUMmV" and array.dtype.type.__module__ == "numpy":
        raise _misfit(alias, dtype, _described(value, array))
    if array.size == 0:
        return array.astype(wanted)
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        return _in_range(alias, array, dtype)
    if not _keeps_meaning(array.dtype, wanted):
        raise _misfit(alias, dtype, f"{array.dtype} values")
    with np.errstate(over="ignore"):
        return array.astype(wanted)


def _keeps_meaning(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """True but for floats to integers or bools, complex to real, and numbers to bools."""
    order = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
    # The types of ml_dtypes (kind V) are floats, its 4-bit integers aside.
    ranks = [order.get(one.kind, 1 if "int" in one.name else 2) for one in (given, wanted)]
    return ranks[0] <= ranks[1]


def _in_range(alias: str, array: Array, dtype: DType) -> Array:
    limits = np.iinfo(dtype.type)
    low, high = int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        outside = low if low < limits.min else high
        raise _misfit(alias, dtype, f"{outside}, which is outside of {limits.min} … {limits.max}")
    return array.astype(dtype.type)


def _strings(alias: str, value: object) -> Array:
    if isinstance(value, (str, bytes, bytearray, memoryview, PathLike)):
        return _object_array([as_bytes(alias, value)], ())
    # numpy's own type for bytes drops trailing zeros: lists become arrays of objects at once.
    array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    return _object_array([as_bytes(alias, one) for one in array.reshape(-1).tolist()], array.shape)


def _object_array(values: Sequence[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def as_bytes(alias: str, value: object) -> bytes:
    """Text as UTF-8, a path as the file's content, bytes as they are. Raises ``InvalidArgumentError``."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, PathLike):
        try:
            return Path(value).read_bytes()
        except OSError as error:
            raise invalid_argument(f"input {alias!r}: {value} cannot be read: {error.strerror}") from None
    raise invalid_argument(
        f"input {alias!r} takes strings (text, bytes or a pathlib.Path), got {type(value).__name__}"
    )


def _described(value: object, array: Array) -> str:
    if array.dtype.kind in "SU" or (array.dtype == object and _has_text(array)):
        return "text"
    if array.dtype == object:
        return f"{type(value).__name__} with values that are no numbers of one type"
    return f"{array.dtype} values"


def _has_text(array: Array) -> bool:
    return any(isinstance(one, (str, bytes)) for one in array.reshape(-1).tolist())


def _misfit(alias: str, dtype: DType, came: str) -> InvalidArgumentError:
    return invalid_argument(
        f"input {alias!r} takes {dtype.name}, got {came}", "convert the values before the call"
    )
