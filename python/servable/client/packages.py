"""Imports the packages of the extra ``client`` when they are first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from servable.errors import MissingPackageError


def load(package: str) -> Any:
    """Imports a package of the extra ``client``. Raises ``MissingPackageError``."""
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f'the client needs {package} ({error}): pip install "servable[client]"'
        ) from None
