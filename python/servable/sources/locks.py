"""Locks between the threads and the servers that share a folder: files under flock(2).

The kernel gives a lock back when its holder ends, however that happens, so nothing has to guess whether a
process is alive. Each descriptor counts for itself: two threads of one process keep each other out just as
two processes do.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress


class Lock:
    """A lock that is held.

    real: False where none could be had (a folder that may not be written, a file system that knows none).
    Nobody is kept out then, and nothing may be removed on the strength of it.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def real(self) -> bool:
        """Whether anybody is kept out."""
        return self._descriptor is not None

    def release(self, remove: bool = False) -> None:
        """Gives it back; ``remove``: its file goes too, for the holder of an exclusive lock."""
        if self._descriptor is None:
            return
        if remove:
            with suppress(OSError):
                os.unlink(self._path)
        os.close(self._descriptor)
        self._descriptor = None


def take(path: str, shared: bool, wait: bool = False) -> Lock | None:
    """The lock whose file is ``path``, which is made where it is not.

    None while another holds it; with ``wait`` it is waited for.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        try:  # NFS wants a descriptor that may write for an exclusive lock
            descriptor = os.open(path, (os.O_RDONLY if shared else os.O_RDWR) | os.O_CREAT, 0o666)
        except OSError:
            return Lock(path, None)
        try:
            fcntl.flock(descriptor, how)
        except OSError as error:
            os.close(descriptor)
            return None if isinstance(error, BlockingIOError) else Lock(path, None)
        if _is_file_of(descriptor, path):
            return Lock(path, descriptor)
        os.close(descriptor)  # its file was removed meanwhile: the next to come would lock another one


def _is_file_of(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
