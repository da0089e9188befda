"""Ends of a command without a traceback: Ctrl-C, output that nobody takes, a current folder that is gone."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141
"""Interrupted by Ctrl-C, and the reader of the output is gone, as shells report both for any command."""


def ended(run: Callable[[], int]) -> int:
    """Runs a command; returns the exit status."""
    try:
        try:
            return run()
        finally:
            # Python would report an error of its own at exit.
            _flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        return _failed(error)


def _failed(error: OSError) -> int:
    if isinstance(error, BrokenPipeError) or _is_of_output(error):
        # Python would try again to write the rest of the buffer at exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_NO_READER
        print(f"servable: the output cannot be written: {error.strerror}", file=sys.stderr)
    elif not _has_folder():
        print("servable: the current folder is not there any more: change to another", file=sys.stderr)
    else:
        print(f"servable: {error}", file=sys.stderr)
    return EXIT_ERROR


def _flush() -> None:
    stdout: TextIO | None = sys.stdout
    if stdout is not None:
        stdout.flush()


def _is_of_output(error: OSError) -> bool:
    """True for a full disk where no file is named."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
