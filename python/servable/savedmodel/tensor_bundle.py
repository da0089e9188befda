"""Reads the number and sizes of a model's data files from the index of its variables.

``variables.index`` is a table in LevelDB's format (tensorflow/core/lib/io/format.cc): blocks of entries, a
block that lists the blocks, and a footer that locates that block. The first entry is a BundleHeaderProto, the
others are BundleEntryProto (tensorflow/core/protobuf/tensor_bundle.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from servable.savedmodel.tfrecord import masked

_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5
"""Bytes after each block: one for its compression, and a checksum."""
_LONGEST_KEY = 512
"""Bytes of a key that are kept: entries of a few bytes may share a long one."""
_NUM_SHARDS = 1
_SHARD, _OFFSET, _SIZE = 3, 4, 5
"""Field numbers of the header and of an entry."""


@dataclass(frozen=True)
class Shards:
    """count: data files. bytes: the smallest possible size of each, by its number."""

    count: int
    bytes: dict[int, int]


class CompressedError(Exception):
    """The index is compressed, as TensorFlow 1 sometimes did: it may be intact, but is not read here."""


def shards(index: bytes) -> Shards:
    """Reads an index. Raises ``ValueError`` if it is damaged, and ``CompressedError``."""
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


def keys(index: bytes, most: int) -> list[str]:
    """Returns the first keys of an index: the names of its tensors. Raises as ``shards`` does."""
    if len(index) < _FOOTER or struct.unpack("<Q", index[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as an index does")
    _, at = _handle(index, len(index) - _FOOTER)
    listing, _ = _handle(index, at)
    # Blocks, and keys that are empty, count: an index may have any number of both.
    blocks = (_handle(handle, 0)[0] for handle in islice(_values(_block(index, *listing)), most))
    named = (key for block in blocks for key, _ in _entries(_block(index, *block)))
    return [key.decode("utf-8", "replace") for key in islice(named, most + 1) if key][:most]


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Returns offset and size of a block, and the position after the handle."""
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
    """Yields the values of a block's entries."""
    return (value for _, value in _entries(block))


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a block.

    An entry: the number of bytes shared with the previous key, the lengths of the rest and of the value, then
    both. The block ends with the offsets of the entries with complete keys, and their number.
    """
    end = len(block) - 4 - 4 * struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else -1
    if end < 0:
        raise ValueError("one of its blocks is too short")
    at, name = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        length, at = _varint(block, at)
        name = (name[:shared] + block[at : at + rest])[:_LONGEST_KEY]
        at += rest + length
        yield name, block[at - length : at]


def _numbers(message: bytes) -> dict[int, int]:
    """Returns the integers of a message, by field number."""
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
    """Returns a number of seven bits per byte, lowest first, and the position after it."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
    raise ValueError("a number in it has no end")
