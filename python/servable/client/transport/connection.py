"""Connection options, apart from the address; and the lazy import of packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from math import inf
from typing import Any

from servable.client.values.text import check_headers
from servable.errors import FailedPreconditionError, MissingPackageError, invalid_argument

LONGEST_SECONDS = 2_000_000.0
"""23 days: representable by every transport, in milliseconds of 31 bits."""


@dataclass(frozen=True)
class Connection:
    """Options for connecting.

    connect_timeout: seconds for one connection, or None; infinity becomes None. headers: sent with every
    request, as HTTP headers or gRPC metadata. ca_file: PEM file of trusted authorities.
    """

    connect_timeout: float | None = 5.0
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "connect_timeout", limit("connect_timeout", self.connect_timeout))
        check_headers(self.headers)


def limit(name: str, seconds: float | None) -> float | None:
    """Normalises a time limit: None for no limit. Raises ``InvalidArgumentError``."""
    if seconds is None or seconds == inf:
        return None
    if not 0 < seconds <= LONGEST_SECONDS:
        raise invalid_argument(
            f"{name} is {seconds}; expected seconds above 0, at most {LONGEST_SECONDS:.0f}, "
            "or None for no limit"
        )
    return seconds


def closed() -> FailedPreconditionError:
    """Makes the error for calls of a closed client."""
    return FailedPreconditionError("FAILED_PRECONDITION", "the client is closed", "make another one")


def load(package: str) -> Any:
    """Imports a package of the extra ``client``. Raises ``MissingPackageError``."""
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f'the client needs {package} ({error}): pip install "servable[client]"'
        ) from None
