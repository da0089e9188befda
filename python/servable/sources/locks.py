"""Locks between the threads and servers that share a folder: files under flock(2).

The kernel releases a lock when its holder ends, however that happens, so nothing has to guess whether a
process is alive. Each descriptor counts separately: two threads of one process exclude each other just as two
processes do.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress


class Lock:
    """A lock that is held.

    real: False if no lock could be had (a read-only folder, a file system without locks). It then excludes
    nobody, and nothing may be removed on the strength of it.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def real(self) -> bool:
        """True if the lock excludes others."""
        return self._descriptor is not None

    def release(self, remove: bool = False) -> None:
        """Releases the lock; ``remove`` also deletes its file (for the holder of an exclusive lock only)."""
        if self._descriptor is None:
            return
        if remove:
            with suppress(OSError):
                os.unlink(self._path)
        os.close(self._descriptor)
        self._descriptor = None


def take(path: str, shared: bool, wait: bool = False) -> Lock | None:
    """Takes the lock with the file ``path``, which is created if necessary.

    Returns None while another holds it; with ``wait``, waits instead.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        try:  # NFS requires a writable descriptor for an exclusive lock
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
        os.close(descriptor)  # its file was removed meanwhile: the next comer would lock another one


def _is_file_of(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
