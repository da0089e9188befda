"""Lists zip and tar files, compressed ones too: names and sizes, within limits; nothing is written.

Neither format's sizes are trusted: a directory, a number of entries and what is decompressed all have limits,
and the walk is a loop.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from servable.savedmodel.artifacts.look import Look

MOST_ENTRIES = 10_000
LARGEST_DIRECTORY = 1 << 23
"""Largest directory of a zip file that is read, in bytes."""
MOST_UNPACKED = 1 << 25
"""Bytes that are decompressed at most to find names in a compressed tar file."""
MOST_MEMORY = 1 << 26
"""Memory that a decompressor may take, in bytes."""
LONGEST_NAME = 4096
_LARGEST_OPENED = 1 << 21
"""The same, of one that is opened: Python makes an object of each entry."""
_CHUNK = 1 << 16
_BLOCK = 512


@dataclass(frozen=True)
class Listing:
    """What an archive says is in it.

    packing: ``zip``, ``tar``, ``tar.gz``, … sizes: by name, folders left out; in the order of the archive.
    more: there is more than was listed. cut: its end is missing.
    """

    packing: str
    sizes: dict[str, int]
    more: bool = False
    cut: bool = False


# ---- zip

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")


def zip_listing(look: Look) -> Listing | None:
    """Returns the content of a zip file; None for another file."""
    if not look.head.startswith(b"PK\3\4"):
        return None
    directory = _directory(look)
    if directory is None:
        return Listing("zip", {}, cut=True)
    start, size = directory
    sizes: dict[str, int] = {}
    at, end = start, start + min(size, LARGEST_DIRECTORY)
    for _ in range(MOST_ENTRIES):
        entry = look.read(at, _ENTRY.size)
        if at >= end or len(entry) < _ENTRY.size:
            break
        mark, *numbers = _ENTRY.unpack(entry)
        if mark != b"PK\1\2":
            return Listing("zip", sizes, cut=True)
        length, name, extra, comment = numbers[8], numbers[9], numbers[10], numbers[11]
        text = look.read(at + _ENTRY.size, min(name, LONGEST_NAME)).decode("utf-8", "replace")
        if not text.endswith("/"):
            sizes[text] = length
        at += _ENTRY.size + name + extra + comment
    return Listing("zip", sizes, more=at < start + size)


def _directory(look: Look) -> tuple[int, int] | None:
    """Returns where the directory of a zip file begins, and its length; None if it is not there."""
    tail = look.tail
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) - found < _END.size:
        return None
    end = look.size - len(tail) + found
    size = _END.unpack_from(tail, found)[5]
    if size == 0xFFFFFFFF or look.read(end - 20, 4) == b"PK\6\7":
        # The end of a large file, which PyTorch writes for all, stands before a locator of 20 bytes.
        end -= 20 + _END_64.size
        record = look.read(end, _END_64.size)
        if len(record) < _END_64.size or not record.startswith(b"PK\6\6"):
            return None
        size = _END_64.unpack(record)[8]
    # Not where it says, but before the end: what stands before a zip file does not count.
    return (end - size, size) if end >= size else None


def zip_part(look: Look, name: str, most: int) -> bytes:
    """Returns the first bytes of a part of a zip file; b"" if it is not readable."""
    directory = _directory(look)
    if directory is None or directory[1] > _LARGEST_OPENED:
        return b""
    try:
        with zipfile.ZipFile(look.file) as archive:
            if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return b""  # of any other, zipfile may unpack more than is read
            with archive.open(name) as part:
                return part.read(most)
    except Exception:  # each way of compression has errors of its own
        return b""


# ---- tar


class _Bytes(Protocol):
    """Bytes from the beginning of a file on."""

    cut: bool
    more: bool

    def take(self, count: int) -> bytes:
        """Returns the next bytes; fewer at the end."""

    def skip(self, count: int) -> None:
        """Passes over bytes."""


class _Plain:
    def __init__(self, look: Look) -> None:
        self._look = look
        self._at = 0
        self.cut = self.more = False

    def take(self, count: int) -> bytes:
        found = self._look.read(self._at, count)
        self._at += count
        return found

    def skip(self, count: int) -> None:
        self._at += count
        self.cut = self.cut or self._at > self._look.size


class _Decompressor(Protocol):
    """What the three have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of the other two."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = _CHUNK, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def decompressor(head: bytes) -> tuple[str, _Decompressor] | None:
    """Returns the ending of the format that ``head`` begins, and what decompresses it."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gz", _Gzip(31)
    with suppress(ImportError):  # a Python may be built without these
        if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
            from bz2 import BZ2Decompressor

            return "bz2", BZ2Decompressor()
        if head.startswith(b"\xfd7zXZ\0"):
            from lzma import LZMADecompressor

            return "xz", LZMADecompressor(memlimit=MOST_MEMORY)
    if head[:1] == b"\x78" and len(head) > 1 and (head[0] * 256 + head[1]) % 31 == 0:
        return "zlib", _Gzip(15)
    return None


class _Unpacking:
    """Decompresses up to ``MOST_UNPACKED`` bytes."""

    def __init__(self, look: Look, by: _Decompressor) -> None:
        self._look = look
        self._by = by
        self._at = 0
        self._unpacked = 0
        self._waiting = b""
        self.cut = self.more = False

    def _piece(self) -> bytes:
        while not self._by.eof and not self.more:
            needs = self._by.needs_input
            data = self._look.read(self._at, _CHUNK) if needs else b""
            self._at += len(data)
            try:
                piece = self._by.decompress(data, _CHUNK)
            except Exception:  # each of them has errors of its own
                self.cut = True
                return b""
            self._unpacked += len(piece)
            self.more = self._unpacked >= MOST_UNPACKED or self._at >= MOST_UNPACKED
            if piece:
                return piece
            if needs and not data:
                self.cut = True
                return b""
        return b""

    def take(self, count: int) -> bytes:
        while len(self._waiting) < count and (piece := self._piece()):
            self._waiting += piece
        found, self._waiting = self._waiting[:count], self._waiting[count:]
        return found

    def skip(self, count: int) -> None:
        while count > 0:
            self._waiting = self._waiting or self._piece()
            if not self._waiting:
                return
            passed = min(count, len(self._waiting))
            self._waiting = self._waiting[passed:]
            count -= passed


def unpacked_head(look: Look, most: int) -> bytes:
    """Returns the first bytes of what a compressed file holds; b"" if it is none."""
    found = decompressor(look.head)
    return _Unpacking(look, found[1]).take(most) if found else b""


def tar_listing(look: Look) -> Listing | None:
    """Returns the content of a tar file, compressed or not; None for another file."""
    found = decompressor(look.head)
    packing = "tar" if found is None else f"tar.{found[0]}"
    stream: _Bytes = _Plain(look) if found is None else _Unpacking(look, found[1])
    sizes: dict[str, int] = {}
    for number, (name, size) in enumerate(_members(stream)):
        if name and not name.endswith("/"):
            sizes[name] = size
        if number + 1 >= MOST_ENTRIES:
            return Listing(packing, sizes, more=True)
    if not sizes:
        return None
    return Listing(packing, sizes, stream.more, stream.cut)


def _members(stream: _Bytes) -> Iterator[tuple[str, int]]:
    """Yields name and size of each file, folder or link; a name that is too long for its header in full."""
    longer = ""
    while len(block := stream.take(_BLOCK)) == _BLOCK and block[257:262] == b"ustar":
        size = _size(block[124:136])
        kind = block[156:157]
        padded = -(-size // _BLOCK) * _BLOCK
        if kind in (b"L", b"x", b"K", b"g"):
            text = stream.take(min(padded, LONGEST_NAME))
            stream.skip(padded - min(padded, LONGEST_NAME))
            longer = (_long_name(kind, text[:size]) or longer) if kind in (b"L", b"x") else longer
            # Counted as an entry, so that no file consists of nothing but these.
            yield "", 0
            continue
        prefix = block[345:500].split(b"\0")[0] if block[257:263] == b"ustar\0" else b""
        short = b"/".join(one for one in (prefix, block[:100].split(b"\0")[0]) if one)
        name, longer = longer or short.decode("utf-8", "replace"), ""
        has_content = kind in (b"0", b"\0", b"7", b"S")
        if kind == b"5":
            name = name.rstrip("/") + "/"
        if has_content:
            stream.skip(padded)
        yield name, size if has_content else 0


def _size(octal: bytes) -> int:
    if octal[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(octal[4:], "big")
    digits = octal.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else 0


def _long_name(kind: bytes, text: bytes) -> str:
    if kind == b"L":
        return text.split(b"\0")[0].decode("utf-8", "replace")
    for line in text.split(b"\n"):
        _, _, pair = line.partition(b" ")
        if pair.startswith(b"path="):
            return pair[5:].decode("utf-8", "replace")
    return ""
