"""Values at hand become arrays of the input's dtype, and none changes its meaning on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servable.client.answers import TensorSpec
from servable.client.arrays import as_array
from servable.errors import InvalidArgumentError, UnimplementedError

ANY = None


def made(value: Any, dtype: str, shape: tuple[int, ...] | None = ANY) -> Any:
    return as_array("x", value, TensorSpec(dtype, shape))


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([1, 2], "float", np.array([1, 2], np.float32)),
        ([1.5, float("nan")], "float", np.array([1.5, np.nan], np.float32)),
        (np.array([0.1]), "float", np.array([0.1], np.float32)),
        (np.array([1e300]), "float", np.array([np.inf], np.float32)),
        ([[1], [2]], "int64", np.array([[1], [2]], np.int64)),
        ([True, False], "int32", np.array([1, 0], np.int32)),
        ([True], "bool", np.array([True])),
        ([2**64 - 1], "uint64", np.array([2**64 - 1], np.uint64)),
        (np.array([255], np.int64), "uint8", np.array([255], np.uint8)),
        ([], "int32", np.zeros(0, np.int32)),
        ([[], []], "float", np.zeros((2, 0), np.float32)),
        ([1, 2j], "complex64", np.array([1, 2j], np.complex64)),
        (np.array([1, 2], ">f4"), "float", np.array([1, 2], np.float32)),
        (7, "half", np.array(7, np.float16)),
    ],
)
def test_numbers(value: Any, dtype: str, expected: Any) -> None:
    array = made(value, dtype)
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


def test_an_array_that_fits_is_not_copied() -> None:
    array = np.ones(3, np.float32)
    assert made(array, "float") is array


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        ([1.0], "int32", "takes int32, got float64 values"),
        (np.array([1.0], np.float32), "bool", "takes bool, got float32 values"),
        ([1], "bool", "takes bool, got int64 values"),
        ([1j], "float", "takes float, got complex128 values"),
        ([2**31], "int32", "got 2147483648, which is outside of -2147483648 … 2147483647"),
        ([-1], "uint8", "got -1, which is outside of 0 … 255"),
        (["a"], "float", "takes float, got text"),
        ([1, None], "float", "takes float, got list with values that are no numbers"),
        ([[1], [1, 2]], "float", "its lists are not of one shape"),
        (np.array(["2026-01-01"], "datetime64[D]"), "int64", r"got datetime64\[D\] values"),
        ([1], "string", "takes strings .*, got int"),
        ([None], "string", "takes strings .*, got NoneType"),
        (Path("/nowhere/at/all"), "string", "/nowhere/at/all cannot be read: No such file"),
    ],
)
def test_what_does_not_fit(value: Any, dtype: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"input 'x'.*{words}"):
        made(value, dtype)


def test_a_dtype_that_no_array_holds() -> None:
    with pytest.raises(UnimplementedError, match="TensorFlow's dtype resource"):
        made([1], "resource")


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        ("ä", (), b"\xc3\xa4"),
        (b"zero\x00", (), b"zero\x00"),
        ([b"a\x00", "b"], (2,), [b"a\x00", b"b"]),
        ([["a"], ["b"]], (2, 1), [[b"a"], [b"b"]]),
        (np.array(["a", "bc"]), (2,), [b"a", b"bc"]),
        (np.array([b"a", "b"], dtype=object), (2,), [b"a", b"b"]),
        (bytearray(b"a"), (), b"a"),
        (memoryview(b"b"), (), b"b"),
        ([], (0,), []),
    ],
)
def test_strings(value: Any, shape: tuple[int, ...], expected: Any) -> None:
    array = made(value, "string")
    assert array.dtype == object
    assert array.shape == shape
    assert array.tolist() == expected


def test_a_path_is_its_content(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\x00")
    assert made(picture, "string").tolist() == b"\x89PNG\x00"
    assert made([picture, b"x"], "string").tolist() == [b"\x89PNG\x00", b"x"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((-1,), (1,)), ((1,), (1,)), ((), ()), (None, ()), ((-1, 1), ()), ((3,), ())],
)
def test_a_scalar_for_a_vector(shape: tuple[int, ...] | None, expected: tuple[int, ...]) -> None:
    assert made(1.0, "float", shape).shape == expected
    assert made("a", "string", shape).shape == expected
