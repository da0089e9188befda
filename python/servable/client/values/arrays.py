"""Converts a caller's values to the arrays that inputs need.

Numbers, nested lists, numpy arrays and anything that numpy can read as one (a PIL picture) become arrays of
the input's dtype, as long as no value changes its meaning: a float is never truncated to an integer, and a
number out of range is an error. Text, bytes and ``pathlib.Path`` (the file's content) become bytes, in object
arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Complex, Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servable.client.answers import TensorSpec
from servable.client.text import half_character, shown
from servable.client.values.dtypes import DType, bfloat16_as_float32, dtype_named
from servable.errors import InvalidArgumentError, invalid_argument

Array = NDArray[Any]

_FOUR_BITS = {"int4": (-8, 7), "uint4": (0, 15)}
_BFLOAT16_END = np.float32(2.0**128 - 2.0**119)
"""The smallest number that bfloat16 rounds to infinity."""


def as_array(alias: str, value: object, spec: TensorSpec) -> Array:
    """Converts ``value`` to an array of the input's dtype.

    A scalar for a vector of any length, or of one element, becomes a vector of one. Shapes are otherwise left
    to the server. Raises ``InvalidArgumentError`` if the value does not fit the dtype.
    """
    dtype = dtype_named(spec.dtype)
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise invalid_argument(
            f"input {alias!r} has masked values, which would be sent as if they were not",
            "say what they are: array.filled(0)",
        )
    array = _strings(alias, value) if dtype.name == "string" else _numbers(alias, value, dtype)
    return array.reshape(1) if array.ndim == 0 and spec.shape in ((-1,), (1,)) else array


def _numbers(alias: str, value: object, dtype: DType) -> Array:
    wanted = dtype.type
    try:
        array = read_numbers(value, wanted)
    except ValueError as error:
        raise _ragged(alias, dtype, error) from None
    if array.dtype == object:
        array = _of_objects(alias, value, array, dtype)
    if array.dtype == wanted and not _stands_for_bfloat16(dtype):
        return array
    if array.dtype.kind in "SUMmV" and array.dtype.type.__module__ == "numpy":
        raise _misfit(alias, dtype, _described(value, array))
    if array.size == 0:
        return array.astype(wanted)
    if _is_integer(wanted) and (array.dtype == object or _is_integer(array.dtype)):
        return _in_range(alias, array, dtype)
    if not _keeps_meaning(array.dtype, wanted):
        raise _misfit(alias, dtype, f"{array.dtype} values")
    return _in_reach(alias, array, dtype)


def read_numbers(value: object, wanted: np.dtype[Any]) -> Array:
    """Reads the value with numpy. Raises ``ValueError`` for ragged lists.

    If integers are wanted, those above 2**63 mixed with smaller ones, which numpy would turn into floats, are
    returned as objects.
    """
    array = np.asarray(value)
    if array.dtype == np.float64 and _is_integer(wanted) and not isinstance(value, np.ndarray):
        exact = np.array(value, dtype=object)
        return exact if all(isinstance(one, Integral) for one in exact.flat) else array
    return array


def _of_objects(alias: str, value: object, array: Array, dtype: DType) -> Array:
    """Converts objects that are numbers to a numeric array, or, if integers are wanted, to integers."""
    plain = [one.item() if isinstance(one, np.generic) else one for one in array.reshape(-1).tolist()]
    if not all(isinstance(one, Complex) for one in plain):
        raise _misfit(alias, dtype, _described(value, array))
    if _is_integer(dtype.type) and all(isinstance(one, Integral) for one in plain):
        return _object_array(plain, array.shape)
    found = np.asarray(plain)
    if found.dtype == object:
        real = all(isinstance(one, Real) for one in plain)
        try:
            found = np.array(plain, np.float64 if real else np.complex128)
        except OverflowError:
            raise _misfit(alias, dtype, "an integer that is outside of its range") from None
    return found.reshape(array.shape)


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or (dtype.kind == "V" and "int" in dtype.name)


def _keeps_meaning(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """True except for floats to integers or bools, complex to real, and numbers to bools."""
    order = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
    # The types of ml_dtypes (kind V) are floats, except its 4-bit integers.
    ranks = [order.get(one.kind, 1 if _is_integer(one) else 2) for one in (given, wanted)]
    return ranks[0] <= ranks[1]


def _in_range(alias: str, array: Array, dtype: DType) -> Array:
    limits = np.iinfo(dtype.type) if dtype.type.kind in "iu" else None
    lowest, highest = (limits.min, limits.max) if limits else _FOUR_BITS[dtype.name]
    if array.dtype.kind == "V":
        # ml_dtypes does not convert one of its integer types to the other.
        array = array.astype(np.int8)
    low, high = int(array.min()), int(array.max())
    if low < lowest or high > highest:
        outside = low if low < lowest else high
        raise _misfit(alias, dtype, f"{shown(outside)}, which is outside of {lowest} … {highest}")
    return array.astype(dtype.type)


def _in_reach(alias: str, array: Array, dtype: DType) -> Array:
    """Converts the array. Rounding is allowed; a finite number that becomes an infinity or NaN is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(dtype.type, copy=False)
    carried = converted
    if _stands_for_bfloat16(dtype):
        carried = np.where(np.abs(converted) >= _BFLOAT16_END, np.float32(np.inf), converted)
    lost = _lost(array, carried)
    if lost.any():
        raise _misfit(alias, dtype, f"{array[lost][0]!s}, which is outside of its range")
    return converted


def _lost(given: Array, carried: Array) -> NDArray[np.bool_]:
    """Marks numbers that became an infinity or NaN, and infinities that became NaN."""
    lost = np.zeros(given.shape, np.bool_)
    if np.isfinite(carried).all():
        return lost
    both = ("real", "imag") if carried.dtype.kind == "c" else ("real",)
    for before, after in ((getattr(given, part), getattr(carried, part)) for part in both):
        lost |= (np.isnan(before) != np.isnan(after)) | (np.isinf(before) != np.isinf(after))
    return lost


def _stands_for_bfloat16(dtype: DType) -> bool:
    """True for a bfloat16 carried as float32, which is rounded when sent."""
    return dtype.name == "bfloat16" and bfloat16_as_float32()


def _strings(alias: str, value: object) -> Array:
    if isinstance(value, (str, bytes, bytearray, memoryview, PathLike)):
        return _object_array([as_bytes(alias, value)], ())
    # numpy's own bytes type drops trailing zeros: lists become arrays of objects at once.
    try:
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    except ValueError as error:
        raise _ragged(alias, dtype_named("string"), error) from None
    return _object_array([as_bytes(alias, one) for one in array.reshape(-1).tolist()], array.shape)


def _object_array(values: Sequence[object], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def as_bytes(alias: str, value: object) -> bytes:
    """Converts text to UTF-8, a path to the file's content; bytes stay. Raises ``InvalidArgumentError``."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            # Bytes of a command line or file that are not UTF-8 appear in text as surrogates.
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise half_character(f"input {alias!r}", error) from None
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, PathLike):
        try:
            return Path(value).read_bytes()
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise invalid_argument(f"input {alias!r}: {value} cannot be read: {said}") from None
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


def _ragged(alias: str, dtype: DType, error: ValueError) -> InvalidArgumentError:
    return _misfit(alias, dtype, f"lists that are not of one shape ({error})")


def _misfit(alias: str, dtype: DType, came: str) -> InvalidArgumentError:
    return invalid_argument(
        f"input {alias!r} takes {dtype.name}, got {came}", "convert the values before the call"
    )
