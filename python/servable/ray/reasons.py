"""The reason in a message of Ray's, which has whole traces, and at its end the exception behind it all."""

from __future__ import annotations

import re

_KIND = re.compile(r"([a-z]\w*\.)+[A-Z]\w*: |[A-Z]\w*(Error|Exception): ")


def reason(message: object) -> str:
    """Returns the last line of an error or a message, without the class of the exception."""
    last = str(message).strip().rpartition("\n")[2].strip()
    kind = _KIND.match(last)
    return last[kind.end() :] if kind else last
