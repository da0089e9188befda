"""A look at a file or folder: what recognisers see of it, in bounded reads."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import BinaryIO

from servable.regular_files import open_file

HEAD_BYTES = 1 << 16
"""Bytes at the beginning of a file, and at its end, that are read without being asked for."""
MOST_READ = 1 << 23
"""Most bytes of one read."""
MOST_NAMES = 1000
"""Most names of a folder that are listed."""
_AHEAD = 1 << 16


class Look:
    """One file or folder.

    path: as given. size: of a file, in bytes; 0 of a folder. names: what is in a folder, sorted; () of a
    file. Raises ``OSError`` where something cannot be read; for a pipe or a device, at once.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = os.path.basename(path.rstrip("/"))
        found = os.stat(path)
        self.is_folder = stat.S_ISDIR(found.st_mode)
        if not (self.is_folder or stat.S_ISREG(found.st_mode)):
            raise OSError(errno.EINVAL, "neither a file nor a folder", path)
        self.size = 0 if self.is_folder else found.st_size
        self._opened: BinaryIO | None = None
        self._near = (0, b"")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names in the folder: at most ``MOST_NAMES`` of them."""
        if not self.is_folder:
            return ()
        with os.scandir(self.path) as entries:
            return tuple(sorted(one.name for one in islice(entries, MOST_NAMES)))

    @cached_property
    def ending(self) -> str:
        """The ending of the name, in lower case."""
        return os.path.splitext(self.name)[1].lower()

    @cached_property
    def head(self) -> bytes:
        """The first bytes of a file."""
        return self.read(0, HEAD_BYTES)

    @cached_property
    def tail(self) -> bytes:
        """The last bytes of a file."""
        return self.read(max(0, self.size - HEAD_BYTES), HEAD_BYTES)

    @property
    def file(self) -> BinaryIO:
        """The file, opened for reading."""
        if self.is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        if self._opened is None:
            self._opened = open_file(self.path)
        return self._opened

    def read(self, offset: int, count: int) -> bytes:
        """Returns up to ``count`` bytes, at most ``MOST_READ``, from ``offset``; fewer at the end."""
        if self.is_folder or offset < 0 or offset >= self.size or count <= 0:
            return b""
        count = min(count, MOST_READ)
        start, near = self._near
        if not start <= offset or offset + min(count, self.size - offset) > start + len(near):
            self.file.seek(offset)
            start, near = self._near = offset, self.file.read(max(count, _AHEAD))
        return near[offset - start : offset - start + count]

    @contextmanager
    def inner(self, name: str) -> Iterator[Look]:
        """Looks at something in the folder."""
        look = Look(os.path.join(self.path, name))
        try:
            yield look
        finally:
            look.close()

    def text_of(self, name: str, most: int = HEAD_BYTES) -> str:
        """Returns the beginning of a text in the folder; "" if it cannot be read."""
        try:
            with self.inner(name) as look:
                return look.read(0, most).decode("utf-8", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        """Closes the file."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
