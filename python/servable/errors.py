"""The exceptions of Servable, all of them.

    ServableError
    ├── UsageError                the command line cannot be understood: unknown flag, unparsable value
    ├── TensorFlowNotFoundError   no TensorFlow library was found where it was looked for
    └── StatusError               whatever has an RPC code: a refused configuration, a failed load or start

A ``StatusError`` carries the code and the text that TensorFlow Serving gives for the same condition; ``hint``
says what to do about it and is printed on a line of its own, so that the text itself stays what scripts look
for.
"""

from __future__ import annotations

CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""Canonical RPC codes; the index is the number on the wire (google/rpc/code.proto)."""


class ServableError(Exception):
    """Base of everything that Servable raises on purpose."""


class UsageError(ServableError):
    """A command line that cannot be understood. ``str(error)`` is one line for the person who typed it."""


class TensorFlowNotFoundError(ServableError):
    """No TensorFlow library was found; the text lists where it was looked for and the pip line that helps."""


class StatusError(ServableError):
    """A failure with a canonical code.

    code: one of ``CODES``. message: TensorFlow Serving's text where it has one. hint: what to do, or "".
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint


def invalid_argument(message: str, hint: str = "") -> StatusError:
    """A ``StatusError`` of code INVALID_ARGUMENT."""
    return StatusError("INVALID_ARGUMENT", message, hint)
