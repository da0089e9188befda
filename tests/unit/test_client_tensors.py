"""TensorProto: both forms are read, one is written, and malformed ones are refused."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from servable.client.values import dtypes
from servable.client.values.dtypes import BY_NAME, BY_NUMBER
from servable.client.values.tensors import read_tensor, write_tensor
from servable.errors import DataLossError, UnimplementedError
from servable.messages import message_class


def proto_of(array: Any, dtype: str) -> Any:
    proto = message_class("tensorflow.TensorProto")()
    write_tensor(proto, array, dtype)
    return message_class("tensorflow.TensorProto").FromString(proto.SerializeToString())


def listed(number: int, shape: list[int], **fields: Any) -> Any:
    proto = message_class("tensorflow.TensorProto")(dtype=number, **fields)
    proto.tensor_shape.SetInParent()
    for length in shape:
        proto.tensor_shape.dim.add(size=length)
    return proto


def has_numpy_type(name: str) -> bool:
    """False for the types of ml_dtypes if it is not installed."""
    with contextlib.suppress(UnimplementedError):
        return BY_NAME[name].type is not None
    return False


NUMBERS = sorted(name for name in BY_NAME if name != "string" and has_numpy_type(name))
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@settings(deadline=None)
@given(st.data())
def test_what_is_written_is_read(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NUMBERS))
    number = hnp.arrays(np.dtype("int8"), data.draw(SHAPES), elements=st.integers(0, 7))
    array = data.draw(number).astype(BY_NAME[name].type)
    read = read_tensor(proto_of(array, name))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@settings(deadline=None)
@given(hnp.arrays(np.float32, SHAPES))
def test_floats_keep_their_bits(array: Any) -> None:
    read = read_tensor(proto_of(array, "float"))
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()
    assert read.flags.writeable


@settings(deadline=None)
@given(hnp.arrays(object, SHAPES, elements=st.binary(max_size=5)))
def test_strings_keep_their_bytes(array: Any) -> None:
    read = read_tensor(proto_of(array, "string"))
    assert read.shape == array.shape
    assert read.tolist() == array.tolist()


def test_an_array_that_is_not_contiguous() -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2].T
    np.testing.assert_array_equal(read_tensor(proto_of(array, "int32")), array)


@pytest.mark.parametrize(
    ("number", "fields", "expected"),
    [
        (1, {"float_val": [1.5, 2.5]}, np.array([1.5, 2.5], np.float32)),
        (2, {"double_val": [0.1, -0.0]}, np.array([0.1, -0.0])),
        (3, {"int_val": [-1, 2]}, np.array([-1, 2], np.int32)),
        (4, {"int_val": [255, 1]}, np.array([255, 1], np.uint8)),
        (6, {"int_val": [-128, 1]}, np.array([-128, 1], np.int8)),
        (8, {"scomplex_val": [1, 2, 3, 4]}, np.array([1 + 2j, 3 + 4j], np.complex64)),
        (9, {"int64_val": [-(2**63), 1]}, np.array([-(2**63), 1])),
        (10, {"bool_val": [True, False]}, np.array([True, False])),
        (17, {"int_val": [65535, 1]}, np.array([65535, 1], np.uint16)),
        (18, {"dcomplex_val": [1, 2, 3, 4]}, np.array([1 + 2j, 3 + 4j])),
        (19, {"half_val": [0x3C00, 0xC000]}, np.array([1, -2], np.float16)),
        (22, {"uint32_val": [2**32 - 1, 1]}, np.array([2**32 - 1, 1], np.uint32)),
        (23, {"uint64_val": [2**64 - 1, 1]}, np.array([2**64 - 1, 1], np.uint64)),
    ],
)
def test_typed_fields(number: int, fields: dict[str, Any], expected: Any) -> None:
    """The form that servers use in answers."""
    read = read_tensor(listed(number, [2], **fields))
    assert read.dtype == expected.dtype
    np.testing.assert_array_equal(read, expected)


def test_short_lists_repeat_their_last_value() -> None:
    assert read_tensor(listed(1, [2, 2], float_val=[1, 2])).tolist() == [[1, 2], [2, 2]]
    assert read_tensor(listed(1, [2])).tolist() == [0, 0]
    assert read_tensor(listed(7, [3], string_val=[b"a", b"b"])).tolist() == [b"a", b"b", b"b"]
    assert read_tensor(listed(7, [1])).tolist() == [b""]
    assert read_tensor(listed(8, [3], scomplex_val=[1, 2])).tolist() == [1 + 2j] * 3


def test_fields_of_a_newer_server_and_of_another_dtype() -> None:
    known = listed(1, [2], float_val=[1, 2], int_val=[7])
    unknown = b"\xf8\x3f\x01"  # field 1023, varint
    assert read_tensor(type(known).FromString(known.SerializeToString() + unknown)).tolist() == [1, 2]


def test_surplus_values_are_ignored() -> None:
    assert read_tensor(listed(3, [1], int_val=[1, 2, 3])).tolist() == [1]
    assert read_tensor(listed(7, [], string_val=[b"a", b"b"])).tolist() == b"a"
    assert read_tensor(listed(8, [1], scomplex_val=[1, 2, 3])).tolist() == [1 + 2j]


@pytest.mark.parametrize(
    "proto",
    [
        listed(1, [-1]),
        listed(1, [2], tensor_content=b"12345"),
        listed(1, [2**40, 2**40]),
        listed(7, [2**31 - 1, 2]),
    ],
    ids=["negative length", "wrong size", "huge", "huge, of strings"],
)
def test_malformed_tensors(proto: Any) -> None:
    with pytest.raises(DataLossError, match="the server sent"):
        read_tensor(proto)


@pytest.mark.parametrize("number", [0, 20, 21, 99])
def test_dtypes_that_no_array_holds(number: int) -> None:
    with pytest.raises(UnimplementedError, match=f"dtype number {number}"):
        read_tensor(listed(number, [1]))


def test_every_number_is_that_of_the_proto() -> None:
    values = message_class("tensorflow.TensorProto").DESCRIPTOR.fields_by_name["dtype"].enum_type
    ours = {number: f"DT_{one.name.upper()}" for number, one in BY_NUMBER.items()}
    assert ours == {number: values.values_by_number[number].name for number in ours}


# ---- without ml_dtypes


@pytest.fixture
def without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "_extended", lambda name: None)


@pytest.mark.usefixtures("without_ml_dtypes")
def test_bfloat16_as_float32() -> None:
    proto = proto_of(np.array([1, -2.5, np.inf, np.nan], np.float32), "bfloat16")
    assert proto.tensor_content[:6] == b"\x80\x3f\x20\xc0\x80\x7f"
    read = read_tensor(proto)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, np.array([1, -2.5, np.inf, np.nan], np.float32))


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1))
def test_bfloat16_is_rounded_as_ml_dtypes_does(values: list[float]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        array = np.array(values, np.float32)
        expected = array.astype(ml_dtypes.bfloat16).astype(np.float32)
        patch.setattr(dtypes, "_extended", lambda name: None)
        np.testing.assert_array_equal(read_tensor(proto_of(array, "bfloat16")), expected)


@pytest.mark.usefixtures("without_ml_dtypes")
def test_what_only_ml_dtypes_has() -> None:
    with pytest.raises(UnimplementedError) as raised:
        read_tensor(listed(24, [1], float8_val=b"\x00"))
    assert "ml_dtypes" in raised.value.hint
