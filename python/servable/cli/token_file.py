"""A file of tokens on the disk: read whole, and replaced at once, so that no server sees half of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress

from servable.errors import StatusError, invalid_argument
from servable.regular_files import open_file
from servable.sources import locks

MODE_WHEN_NEW = 0o600


def read(path: str) -> str:
    """Returns the file's text. Raises ``StatusError``."""
    try:
        with open_file(path) as file:
            return file.read().decode()
    except UnicodeDecodeError:
        raise invalid_argument(f"{path} is not UTF-8") from None
    except FileNotFoundError:
        raise StatusError("NOT_FOUND", f"there is no file {path}") from None
    except OSError as error:
        raise invalid_argument(f"{path} cannot be read: {error.strerror}") from None


def change(path: str, make: Callable[[str], str], create: bool = False) -> None:
    """Replaces the file's text by what ``make`` makes of it. Its mode and owner stay.

    Others that change it so wait for each other. create: a missing file is made, with mode 0600, from "".
    Raises ``StatusError``; the file is then as it was.
    """
    # A link stays one, as others may read the file by its own name.
    path = os.path.realpath(path)
    lock = locks.take(f"{path}.lock", shared=False, wait=True)
    try:
        text = make("" if create and not os.path.lexists(path) else read(path))
        _replace(path, text.encode())
    except OSError as error:
        raise invalid_argument(
            f"{path} cannot be written: {error.strerror}",
            "a new file is made in its folder, and takes its place",
        ) from None
    finally:
        if lock is not None:
            lock.release(remove=True)


def _replace(path: str, content: bytes) -> None:
    new = f"{path}.{os.getpid()}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE_WHEN_NEW)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with suppress(FileNotFoundError):
                before = os.stat(path)
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
