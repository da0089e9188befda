"""TFRecord files in TensorFlow's format, without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
"""A warm-up file, within its version's folder."""
POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    crc = _crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write(file: Path, records: Iterable[bytes]) -> None:
    """Writes ``records`` to ``file``, creating its folder if missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        for record in records:
            length = struct.pack("<Q", len(record))
            out.write(length + _checksum(length) + record + _checksum(record))
