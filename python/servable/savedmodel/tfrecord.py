"""TFRecord files: for each record, its length, a checksum of that, the bytes, and their checksum.

The format is that of tensorflow/core/lib/io/record_writer.h.

Checksums are CRC-32C, masked: rotated right by 15 bits, plus 0xa282ead8.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO

from servable.errors import StatusError, invalid_argument
from servable.regular_files import open_file

MOST_RECORDS = 1000
"""TensorFlow Serving's limit for one warm-up file."""
LARGEST_RECORD = 1 << 30
"""Largest record, in bytes; a longer one indicates damage."""
_MASK = 0xA282EAD8


def masked(data: bytes) -> int:
    """Returns the checksum as stored in the file."""
    # Imported when it is used: an embedded server says which thread imports the core.
    from servable import _core

    crc = _core.crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """Returns ``data`` framed as one record."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def write_records(path: str, records: Iterable[bytes]) -> None:
    """Writes a new file of records."""
    with open(path, "wb") as file:
        for data in records:
            file.write(record(data))


def write_warmup(path: str, records: Sequence[bytes], append: bool) -> int:
    """Replaces a warm-up file atomically, or with ``append`` adds to it; returns its number of records.

    Raises ``StatusError`` for more than ``MOST_RECORDS``; the file is then unchanged.
    """
    if append and os.path.exists(path):
        records = [*read_records(path), *records]
    if len(records) > MOST_RECORDS:
        raise invalid_argument(
            f"{len(records)} records are more than a warm-up file may hold: {MOST_RECORDS}"
        )
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    half_done = f"{path}.{os.getpid()}"
    try:
        write_records(half_done, records)
        os.replace(half_done, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(half_done)
        raise
    return len(records)


def read_records(path: str) -> Iterator[bytes]:
    """Yields the records of a file. Raises ``StatusError`` DATA_LOSS if it is damaged."""
    with open_file(path) as file:
        yield from parse_records(file, path)


def parse_records(file: BinaryIO, source: str) -> Iterator[bytes]:
    """Yields the records in ``file``.

    Raises ``StatusError`` DATA_LOSS, naming ``source``, if it is damaged.
    """
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
