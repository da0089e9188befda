"""TFRecord files: a length, its checksum, the bytes, their checksum, and so on.

The format is that of tensorflow/core/lib/io/record_writer.h.

Checksums are CRC-32C, masked: rotated right by 15 bits, plus 0xa282ead8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from servable.errors import StatusError

LARGEST_RECORD = 1 << 30
"""Bytes; a longer record is damage."""
_MASK = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected (RFC 3720, appendix B.4)


def _table() -> tuple[int, ...]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        rows.append(value)
    return tuple(rows)


_ROWS = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C of ``data``: 0xe3069283 for b"123456789"."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _ROWS[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The checksum as it stands in the file."""
    crc = crc32c(data)
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


def read_records(path: str) -> Iterator[bytes]:
    """The records of a file. Raises ``StatusError`` DATA_LOSS where it is damaged."""
    with open(path, "rb") as file:
        while head := file.read(12):
            if len(head) < 12 or struct.unpack("<I", head[8:])[0] != masked(head[:8]):
                raise _damaged(path)
            (length,) = struct.unpack("<Q", head[:8])
            data = file.read(length) if length <= LARGEST_RECORD else b""
            tail = file.read(4)
            if len(data) < length or len(tail) < 4 or struct.unpack("<I", tail)[0] != masked(data):
                raise _damaged(path)
            yield data


def _damaged(path: str) -> StatusError:
    return StatusError(
        "DATA_LOSS", f"corrupted record in {path}. Please verify your warmup data is in TFRecord format."
    )
