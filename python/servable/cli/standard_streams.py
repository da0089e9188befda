"""The standard streams of a process that was started without some of them (``2>&-``)."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def open_closed_ones() -> None:
    """Puts the null device in the place of standard streams that are closed.

    Otherwise the next file or connection would get the number of one, and what libraries print would go
    there: to a client.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened == descriptor:
                os.set_inheritable(opened, True)
            else:
                os.dup2(opened, descriptor)
                os.close(opened)


def escape_what_output_lacks() -> None:
    """Has characters that standard output's encoding lacks written as escapes, as on standard error."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
