"""Servable: TensorFlow Serving for today.

Public names are loaded on first use (PEP 562), so that ``import servable`` costs next to nothing and a client
needs no part of the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # What a name is, for type checkers: those of _HOMES.
    from servable.client import (
        AsyncClient as AsyncClient,
        Client as Client,
    )
    from servable.config.values import (
        All as All,
        CoreOptions as CoreOptions,
        Latest as Latest,
        LifecycleOptions as LifecycleOptions,
        LoadOptions as LoadOptions,
        ModelConfig as ModelConfig,
        ServerConfig as ServerConfig,
        Specific as Specific,
    )
    from servable.embedded import (
        Server as Server,
        serve as serve,
        serve_async as serve_async,
    )
    from servable.errors import (
        AbortedError as AbortedError,
        AlreadyExistsError as AlreadyExistsError,
        CancelledError as CancelledError,
        DataLossError as DataLossError,
        DeadlineExceededError as DeadlineExceededError,
        FailedPreconditionError as FailedPreconditionError,
        InternalError as InternalError,
        InvalidArgumentError as InvalidArgumentError,
        MissingPackageError as MissingPackageError,
        NotFoundError as NotFoundError,
        OutOfRangeError as OutOfRangeError,
        PermissionDeniedError as PermissionDeniedError,
        ResourceExhaustedError as ResourceExhaustedError,
        ServableError as ServableError,
        StatusError as StatusError,
        TensorFlowNotFoundError as TensorFlowNotFoundError,
        UnauthenticatedError as UnauthenticatedError,
        UnavailableError as UnavailableError,
        UnimplementedError as UnimplementedError,
        UnknownError as UnknownError,
        UsageError as UsageError,
    )

    __version__: str

_HOMES = {
    "AbortedError": "servable.errors",
    "AlreadyExistsError": "servable.errors",
    "CancelledError": "servable.errors",
    "DataLossError": "servable.errors",
    "DeadlineExceededError": "servable.errors",
    "FailedPreconditionError": "servable.errors",
    "InternalError": "servable.errors",
    "InvalidArgumentError": "servable.errors",
    "MissingPackageError": "servable.errors",
    "NotFoundError": "servable.errors",
    "OutOfRangeError": "servable.errors",
    "PermissionDeniedError": "servable.errors",
    "ResourceExhaustedError": "servable.errors",
    "ServableError": "servable.errors",
    "StatusError": "servable.errors",
    "TensorFlowNotFoundError": "servable.errors",
    "UnauthenticatedError": "servable.errors",
    "UnavailableError": "servable.errors",
    "UnimplementedError": "servable.errors",
    "UnknownError": "servable.errors",
    "UsageError": "servable.errors",
    "All": "servable.config.values",
    "CoreOptions": "servable.config.values",
    "Latest": "servable.config.values",
    "LifecycleOptions": "servable.config.values",
    "LoadOptions": "servable.config.values",
    "ModelConfig": "servable.config.values",
    "ServerConfig": "servable.config.values",
    "Specific": "servable.config.values",
    "Server": "servable.embedded",
    "serve": "servable.embedded",
    "serve_async": "servable.embedded",
    "AsyncClient": "servable.client",
    "Client": "servable.client",
}

__all__ = sorted([*_HOMES, "__version__"])


# Type checkers have the names above: by this, they would take a misspelt one for an object.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return _version()
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    """Returns the installed distribution's version; "0+unknown" in a source tree that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("servable")
    except PackageNotFoundError:
        return "0+unknown"
