"""What the index of a model's variables says of its data files: how many there are, and how long each is.

``variables.index`` is a table in LevelDB's format (tensorflow/core/lib/io/format.cc): blocks of entries, a
block that lists the blocks, and a footer that says where that one is. The first entry is a BundleHeaderProto,
the others are BundleEntryProto (tensorflow/core/protobuf/tensor_bundle.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from servable.savedmodel.tfrecord import masked

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5
"""After each block: one byte for its compression, and a checksum."""
_NUM_SHARDS = 1
_SHARD, _OFFSET, _SIZE = 3, 4, 5
"""Field numbers of the header and of an entry."""


@dataclass(frozen=True)
class Shards:
    """count: data files. bytes: the least that each of them can have, by its number."""

    count: int
    bytes: dict[int, int]


class CompressedError(Exception):
    """The index is compressed, as TensorFlow 1 did at times: it may be whole, and is not read here."""


def shards(index: bytes) -> Shards:
    """Reads an index. Raises ``ValueError`` for one that is damaged, and ``CompressedError``."""
    if len(index) < _FOOTER or struct.unpack("<Q", index[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as an index does")
    _, at = _handle(index, len(index) - _FOOTER)
    listing, _ = _handle(index, at)
    header: dict[int, int] | None = None
    least: dict[int, int] = {}
    for handle in _values(_block(index, *listing)):
        block, _ = _handle(handle, 0)
        for value in _values(_block(index, *block)):
            fields = _numbers(value)
            if header is None:
                header = fields
                continue
            shard = fields.get(_SHARD, 0)
            least[shard] = max(least.get(shard, 0), fields.get(_OFFSET, 0) + fields.get(_SIZE, 0))
    if header is None:
        raise ValueError("it has no header")
    return Shards(header.get(_NUM_SHARDS, 0), least)


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the handle ends."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _block(index: bytes, offset: int, size: int) -> bytes:
    whole = index[offset : offset + size + _TRAILER]
    if len(whole) < size + _TRAILER or struct.unpack("<I", whole[-4:])[0] != masked(whole[:-4]):
        raise ValueError("the checksum of one of its blocks does not match")
    if whole[size] != 0:
        raise CompressedError
    return whole[:size]


def _values(block: bytes) -> Iterator[bytes]:
    """The values of a block's entries; the keys do not matter here.

    An entry: how much of the last key counts for this one, the lengths of the rest and of the value, both. At
    the end stand the offsets of the entries with whole keys, and how many there are.
    """
    end = len(block) - 4 - 4 * struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else -1
    if end < 0:
        raise ValueError("one of its blocks is too short")
    at = 0
    while at < end:
        _, at = _varint(block, at)
        key, at = _varint(block, at)
        length, at = _varint(block, at)
        at += key + length
        yield block[at - length : at]


def _numbers(message: bytes) -> dict[int, int]:
    """The integers of a message, by field number."""
    found: dict[int, int] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            found[tag >> 3], at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("one of its entries cannot be parsed")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits per byte, the lowest first, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
    raise ValueError("a number in it has no end")
