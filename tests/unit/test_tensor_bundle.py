"""The index of a model's variables: intact, damaged, and arbitrary bytes."""

from __future__ import annotations

import struct

import pytest
from conftest import ROOT
from hypothesis import given, strategies as st

from servable.savedmodel.tensor_bundle import CompressedError, Shards, shards
from servable.savedmodel.tfrecord import masked

INDEX = (ROOT / "tests" / "models" / "half_plus_two" / "1" / "variables" / "variables.index").read_bytes()


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def block(*values: bytes, compression: int = 0) -> bytes:
    entries = b"".join(
        b"\0" + varint(len(key)) + varint(len(value)) + key + value
        for key, value in ((b"%03d" % number, value) for number, value in enumerate(values))
    )
    content = entries + struct.pack("<II", 0, 1) + bytes([compression])
    return content + struct.pack("<I", masked(content))


def table(*blocks: bytes) -> bytes:
    """Makes a table of these blocks, whose trailers have five bytes."""
    handles, at = [], 0
    for one in blocks:
        handles.append(varint(at) + varint(len(one) - 5))
        at += len(one)
    listing = block(*handles)
    footer = varint(0) + varint(0) + varint(at) + varint(len(listing) - 5)
    magic = struct.pack("<Q", 0xDB4775248B80FB57)
    return b"".join(blocks) + listing + footer.ljust(40, b"\0") + magic


def entry(shard: int, offset: int, size: int) -> bytes:
    shape = b"\x12\x02\x12\0"
    checksum = b"\x35\1\2\3\4"
    return shape + b"\x18" + varint(shard) + b"\x20" + varint(offset) + b"\x28" + varint(size) + checksum


def test_one_that_tensorflow_wrote() -> None:
    assert shards(INDEX) == Shards(1, {0: 252})


def test_several_blocks_and_shards() -> None:
    first = block(b"\x08\x03\x1a\x02\x08\x01", entry(0, 0, 400), entry(2, 1 << 40, 8))
    second = block(entry(0, 300, 7), entry(2, 0, 1 << 40))
    assert shards(table(first, second)) == Shards(3, {0: 400, 2: (1 << 40) + 8})


def test_a_compressed_one_is_told_apart() -> None:
    with pytest.raises(CompressedError):
        shards(table(block(b"\x08\x01", compression=1)))


def test_damage_is_noticed_or_harmless() -> None:
    noticed = 0
    for at in range(len(INDEX)):
        damaged = bytearray(INDEX)
        damaged[at] ^= 0x10
        try:
            assert shards(bytes(damaged)) == shards(INDEX)
        except ValueError:
            noticed += 1
    assert noticed >= len(INDEX) - 48 - 13  # the footer's padding and the empty block of properties


@pytest.mark.parametrize("length", [0, 7, 47, 48, 100, len(INDEX) - 1])
def test_a_cut_one_is_noticed(length: int) -> None:
    with pytest.raises(ValueError, match="does not end as an index does"):
        shards(INDEX[:length])


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_entries(values: list[bytes]) -> None:
    try:
        shards(table(block(*values)))
    except ValueError:
        return


@given(st.binary(max_size=200))
def test_any_block(content: bytes) -> None:
    content += b"\0"
    try:
        shards(table(content + struct.pack("<I", masked(content))))
    except ValueError:
        return
