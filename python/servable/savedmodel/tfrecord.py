"""TFRecord files: a length, its checksum, the bytes, their checksum, and so on.

The format is that of tensorflow/core/lib/io/record_writer.h.

Checksums are CRC-32C, masked: rotated right by 15 bits, plus 0xa282ead8.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from servable import _core
from servable.errors import StatusError, invalid_argument
from servable.regular_files import open_file

MOST_RECORDS = 1000
"""TensorFlow Serving's limit for one warm-up file."""
LARGEST_RECORD = 1 << 30
"""Bytes; a longer record is damage."""
_MASK = 0xA282EAD8


def masked(data: bytes) -> int:
    """The checksum as it stands in the file."""
    crc = _core.crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """``data`` framed as one record."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def write_records(path: str, records: Iterable[bytes]) -> None:
    """Writes a file of records anew."""
    with open(path, "wb") as file:
        for data in records:
            file.write(record(data))


def write_warmup(path: str, records: Sequence[bytes], append: bool) -> int:
    """Replaces a warm-up file whole, or with ``append`` adds to it; the number of its records.

    Raises ``StatusError`` for more than ``MOST_RECORDS``; the file is then as it was.
    """
    if append and os.path.exists(path):
        records = [*read_records(path), *records]
    if len(records) > MOST_RECORDS:
        raise invalid_argument(
            f"{len(records)} records are more than a warm-up file may hold: {MOST_RECORDS}"
        )
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    half_done = f"{path}.{os.getpid()}"
    write_records(half_done, records)
    os.replace(half_done, path)
    return len(records)


def read_records(path: str) -> Iterator[bytes]:
    """The records of a file. Raises ``StatusError`` DATA_LOSS where it is damaged."""
    with open_file(path) as file:
        yield from parse_records(file, path)


def parse_records(file: BinaryIO, source: str) -> Iterator[bytes]:
    """The records in ``file``. Raises ``StatusError`` DATA_LOSS, naming ``source``, where it is damaged."""
    while head := file.read(12):
        if len(head) < 12 or struct.unpack("<I", head[8:])[0] != masked(head[:8]):
            raise _damaged(source)
        (length,) = struct.unpack("<Q", head[:8])
        data = file.read(length) if length <= LARGEST_RECORD else b""
        tail = file.read(4)
        if len(data) < length or len(tail) < 4 or struct.unpack("<I", tail)[0] != masked(data):
            raise _damaged(source)
        yield data


def _damaged(source: str) -> StatusError:
    return StatusError(
        "DATA_LOSS", f"corrupted record in {source}. Please verify your warmup data is in TFRecord format."
    )
