"""The exceptions of Servable, all of them.

    ServableError
    ├── UsageError                the command line cannot be understood: unknown flag, unparsable value
    ├── TensorFlowNotFoundError   no TensorFlow library was found where it was looked for
    ├── MissingPackageError       the client needs a package that is not installed (also an ImportError)
    └── StatusError               whatever has an RPC code: a refused configuration, a failed load or start
        ├── CancelledError  UnknownError  InvalidArgumentError  DeadlineExceededError  NotFoundError
        ├── AlreadyExistsError  PermissionDeniedError  ResourceExhaustedError  FailedPreconditionError
        └── AbortedError  OutOfRangeError  UnimplementedError  InternalError  UnavailableError
            DataLossError  UnauthenticatedError          one for each code; these are what the client raises

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


class MissingPackageError(ServableError, ImportError):
    """A package of an extra is not installed; the text names the pip line that installs it."""


class StatusError(ServableError):
    """A failure with a canonical code.

    code: one of ``CODES``. message: TensorFlow Serving's text where it has one. hint: what to do, or "".
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[StatusError], tuple[str, str, str]]:
        """Errors travel between processes."""
        return type(self), (self.code, self.message, self.hint)


class CancelledError(StatusError):
    """CANCELLED: the call was given up, by either side."""


class UnknownError(StatusError):
    """UNKNOWN: a failure without a better code, or an answer that no model server gives."""


class InvalidArgumentError(StatusError):
    """INVALID_ARGUMENT: the request is wrong, whatever the state of the server."""


class DeadlineExceededError(StatusError):
    """DEADLINE_EXCEEDED: the time was over before the answer was there."""


class NotFoundError(StatusError):
    """NOT_FOUND: no such model, or no such version of it."""


class AlreadyExistsError(StatusError):
    """ALREADY_EXISTS: what was to be made is there."""


class PermissionDeniedError(StatusError):
    """PERMISSION_DENIED: the caller is known and may not."""


class ResourceExhaustedError(StatusError):
    """RESOURCE_EXHAUSTED: a limit was reached: the size of a message, the length of a queue."""


class FailedPreconditionError(StatusError):
    """FAILED_PRECONDITION: not in this state of the server or the model."""


class AbortedError(StatusError):
    """ABORTED: something else came first."""


class OutOfRangeError(StatusError):
    """OUT_OF_RANGE: beyond the end."""


class UnimplementedError(StatusError):
    """UNIMPLEMENTED: the server, or this way of asking it, cannot do that."""


class InternalError(StatusError):
    """INTERNAL: something is broken."""


class UnavailableError(StatusError):
    """UNAVAILABLE: no server answers there, or it cannot serve right now; worth another try."""


class DataLossError(StatusError):
    """DATA_LOSS: what was stored cannot be read."""


class UnauthenticatedError(StatusError):
    """UNAUTHENTICATED: the caller is not known."""


_CLASSES: dict[str, type[StatusError]] = {
    "CANCELLED": CancelledError,
    "UNKNOWN": UnknownError,
    "INVALID_ARGUMENT": InvalidArgumentError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "FAILED_PRECONDITION": FailedPreconditionError,
    "ABORTED": AbortedError,
    "OUT_OF_RANGE": OutOfRangeError,
    "UNIMPLEMENTED": UnimplementedError,
    "INTERNAL": InternalError,
    "UNAVAILABLE": UnavailableError,
    "DATA_LOSS": DataLossError,
    "UNAUTHENTICATED": UnauthenticatedError,
}


def status_error(code: str, message: str, hint: str = "") -> StatusError:
    """The error of the class that belongs to ``code``, one of ``CODES`` except OK."""
    return _CLASSES[code](code, message, hint)


def invalid_argument(message: str, hint: str = "") -> InvalidArgumentError:
    """An error of code INVALID_ARGUMENT."""
    return InvalidArgumentError("INVALID_ARGUMENT", message, hint)
