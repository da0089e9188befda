"""Values become arrays of the input's dtype, without changing their meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable.client.answers import TensorSpec
from servable.client.values import dtypes
from servable.client.values.arrays import as_array
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
        ([np.inf, -np.inf], "half", np.array([np.inf, -np.inf], np.float16)),
        ([65519, 1e-300], "half", np.array([65504, 0], np.float16)),
        ([complex(1, np.inf)], "complex64", np.array([complex(1, np.inf)], np.complex64)),
        ([[1], [2]], "int64", np.array([[1], [2]], np.int64)),
        ([True, False], "int32", np.array([1, 0], np.int32)),
        ([True], "bool", np.array([True])),
        ([2**64 - 1], "uint64", np.array([2**64 - 1], np.uint64)),
        ([2**64 - 1, 1], "uint64", np.array([2**64 - 1, 1], np.uint64)),
        ([[2**64 - 1], [2**53 + 1]], "uint64", np.array([[2**64 - 1], [2**53 + 1]], np.uint64)),
        (np.array([2**64 - 1, 1], dtype=object), "uint64", np.array([2**64 - 1, 1], np.uint64)),
        ([2**64 - 1, 1], "double", np.array([2.0**64, 1])),
        ([2**70], "float", np.array([2.0**70], np.float32)),
        ([[2**70], [0.5]], "float", np.array([[2.0**70], [0.5]], np.float32)),
        ([2**70, 1j], "complex64", np.array([2.0**70, 1j], np.complex64)),
        (np.array([True, False], dtype=object), "bool", np.array([True, False])),
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


def test_a_masked_array_that_masks_nothing() -> None:
    assert made(np.ma.array([1.0, 2.0]), "float").tolist() == [1.0, 2.0]


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
        ([2**64 - 1, 1], "int64", "got 18446744073709551615, which is outside of"),
        ([2**64 - 1, -1], "uint64", "got -1, which is outside of 0 … 18446744073709551615"),
        ([2**64 - 1, 1.5], "uint64", "got float64 values"),
        ([2**70], "int64", "got 1180591620717411303424, which is outside of"),
        ([10**5000], "int64", "got an integer of 16610 bits, which is outside of"),
        ([10**5000], "double", "got an integer that is outside of its range"),
        ([1e300], "float", r"got 1e\+300, which is outside of its range"),
        (np.array([0, -1e39]), "float", r"got -1e\+39, which is outside"),
        (70000, "half", "got 70000, which is outside"),
        ([2**200], "float", r"got 1\.6\d*e\+60, which is outside"),
        ([complex(np.inf, 1e300)], "complex64", r"got \(inf\+1e\+300j\), which is outside"),
        (["a"], "float", "takes float, got text"),
        ([1, None], "float", "takes float, got list with values that are no numbers"),
        ([[1], [1, 2]], "float", "lists that are not of one shape"),
        (np.array(["2026-01-01"], "datetime64[D]"), "int64", r"got datetime64\[D\] values"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), "float", "has masked values"),
        ([1], "string", "takes strings .*, got int"),
        ([None], "string", "takes strings .*, got NoneType"),
        ("a\ud800", "string", r"holds '\\ud800', half a character"),
        (["a", ["\udfff"]], "string", "takes strings .*, got list"),
        ([["\udfff"]], "string", r"holds '\\udfff', half a character"),
        ([np.array(["a", "b"]), np.array([["c"], ["d"]])], "string", "lists that are not of one shape"),
        (Path("a\0b"), "string", "cannot be read: embedded null byte"),
        (Path("/nowhere/at/all"), "string", "/nowhere/at/all cannot be read: No such file"),
    ],
)
def test_what_does_not_fit(value: Any, dtype: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"input 'x'.*{words}"):
        made(value, dtype)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([-8, 7], "int4", [-8, 7]),
        ([8], "int4", "got 8, which is outside of -8 … 7"),
        ([-1], "uint4", "got -1, which is outside of 0 … 15"),
        ([448, np.nan], "float8_e4m3fn", [448, np.nan]),
        ([500.0], "float8_e4m3fn", "got 500.0, which is outside"),
        ([np.inf], "float8_e4m3fn", "got inf, which is outside"),
        ([np.inf], "float8_e5m2", [np.inf]),
        ([3.4e38], "bfloat16", r"got 3.4e\+38, which is outside"),
    ],
)
def test_the_types_of_ml_dtypes(value: Any, dtype: str, expected: Any) -> None:
    pytest.importorskip("ml_dtypes")
    if isinstance(expected, str):
        with pytest.raises(InvalidArgumentError, match=expected):
            made(value, dtype)
    else:
        np.testing.assert_array_equal(made(value, dtype).astype(np.float32), expected)


def test_one_integer_of_ml_dtypes_for_another() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    small = np.array([3, 15], np.int8).astype(ml_dtypes.uint4)
    assert made(small[:1], "int4").tolist() == [3]
    with pytest.raises(InvalidArgumentError, match="got 15, which is outside"):
        made(small, "int4")


def test_what_bfloat16_cannot_reach_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "_extended", lambda name: None)
    kept = np.array([3.39e38, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(made(kept, "bfloat16"), kept)
    with pytest.raises(InvalidArgumentError, match=r"got 3.4\d*e\+38, which is outside"):
        made(np.array([3.4e38], np.float32), "bfloat16")


def test_a_dtype_that_no_array_holds() -> None:
    with pytest.raises(UnimplementedError, match="TensorFlow's dtype resource"):
        made([1], "resource")


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        ("ä", (), b"\xc3\xa4"),
        ("ä\udcff", (), b"\xc3\xa4\xff"),
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
