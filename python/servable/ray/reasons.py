"""The reason in a message of Ray's, which has whole traces, and at its end the exception behind it all."""

from __future__ import annotations

import re

_KIND = re.compile(r"(servable\.errors\.\w+|RuntimeError): ")


def reason(message: object) -> str:
    """Returns the last line of an error or a message, without the class of the exception."""
    return _KIND.sub("", str(message).strip().rpartition("\n")[2].strip(), count=1)
