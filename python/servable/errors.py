"""All exceptions of Servable.

    ServableError
    ├── UsageError                an invalid command line: unknown flag, unparsable value
    ├── TensorFlowNotFoundError   no TensorFlow library was found in the places searched
    ├── MissingPackageError       the client needs a package that is not installed (also an ImportError)
    └── StatusError               an error with an RPC code: a refused configuration, a failed load or start
        ├── CancelledError  UnknownError  InvalidArgumentError  DeadlineExceededError  NotFoundError
        ├── AlreadyExistsError  PermissionDeniedError  ResourceExhaustedError  FailedPreconditionError
        └── AbortedError  OutOfRangeError  UnimplementedError  InternalError  UnavailableError
            DataLossError  UnauthenticatedError          one for each code; raised by the client

A ``StatusError`` carries the code and the text that TensorFlow Serving gives for the same condition; ``hint``
is advice, printed on a line of its own so that the text itself stays as scripts expect it.
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
NOT_WANTED = "the version is not wanted any more, or the server is stopping"
"""The message of a load that was cancelled."""


class ServableError(Exception):
    """Base class of all exceptions that Servable raises on purpose."""


class UsageError(ServableError):
    """An invalid command line. ``str(error)`` is one line for the user."""


class TensorFlowNotFoundError(ServableError):
    """No TensorFlow library was found; the text lists the places searched and the pip command that helps."""


class MissingPackageError(ServableError, ImportError):
    """A package of an extra is not installed; the text gives the pip command that installs it."""


class StatusError(ServableError):
    """A failure with a canonical code.

    code: one of ``CODES``. message: TensorFlow Serving's text if it has one. hint: advice, or "".
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[StatusError], tuple[str, str, str]]:
        """Supports pickling: errors are sent between processes."""
        return type(self), (self.code, self.message, self.hint)


class CancelledError(StatusError):
    """CANCELLED: the call was cancelled by either side."""


class UnknownError(StatusError):
    """UNKNOWN: a failure without a better code, or an answer that no model server gives."""


class InvalidArgumentError(StatusError):
    """INVALID_ARGUMENT: the request is wrong, whatever the state of the server."""


class DeadlineExceededError(StatusError):
    """DEADLINE_EXCEEDED: the answer did not arrive in time."""


class NotFoundError(StatusError):
    """NOT_FOUND: no such model, or no such version of it."""


class AlreadyExistsError(StatusError):
    """ALREADY_EXISTS: the thing to create exists."""


class PermissionDeniedError(StatusError):
    """PERMISSION_DENIED: the caller is known but not allowed to do this."""


class ResourceExhaustedError(StatusError):
    """RESOURCE_EXHAUSTED: a limit was reached, such as the size of a message or the length of a queue."""


class FailedPreconditionError(StatusError):
    """FAILED_PRECONDITION: not possible in the present state of the server or the model."""


class AbortedError(StatusError):
    """ABORTED: a conflicting operation came first."""


class OutOfRangeError(StatusError):
    """OUT_OF_RANGE: beyond the end."""


class UnimplementedError(StatusError):
    """UNIMPLEMENTED: the server, or this way of calling it, does not support that."""


class InternalError(StatusError):
    """INTERNAL: something is broken."""


class UnavailableError(StatusError):
    """UNAVAILABLE: no server answers there, or it cannot serve right now; a retry may succeed."""


class DataLossError(StatusError):
    """DATA_LOSS: stored data cannot be read."""


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
    """Makes the error of the class for ``code``, one of ``CODES`` except OK."""
    return _CLASSES[code](code, message, hint)


def invalid_argument(message: str, hint: str = "") -> InvalidArgumentError:
    """Makes an error with code INVALID_ARGUMENT."""
    return InvalidArgumentError("INVALID_ARGUMENT", message, hint)
