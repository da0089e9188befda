"""How a server is reached, apart from where it is; and the packages for that, loaded when they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from servable.errors import FailedPreconditionError, InvalidArgumentError, MissingPackageError


@dataclass(frozen=True)
class Connection:
    """connect_timeout: seconds for one connection, or None. ca_file: PEM file of authorities to trust.

    headers: sent with every request, as HTTP headers or gRPC metadata.
    """

    connect_timeout: float | None = 5.0
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if self.connect_timeout is not None and not self.connect_timeout > 0:
            raise InvalidArgumentError(
                "INVALID_ARGUMENT",
                f"connect_timeout is {self.connect_timeout}; expected seconds above 0, or None for no limit",
            )


def closed() -> FailedPreconditionError:
    """What a call of a closed client ends with."""
    return FailedPreconditionError("FAILED_PRECONDITION", "the client is closed", "make another one")


def load(package: str) -> Any:
    """Imports a package of the extra ``client``. Raises ``MissingPackageError``."""
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f'the client needs {package} ({error}): pip install "servable[client]"'
        ) from None
