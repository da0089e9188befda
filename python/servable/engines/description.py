"""What a model of a format other than SavedModel offers, as its engine says: the model is loaded for that."""

from __future__ import annotations

import os
from dataclasses import dataclass

from servable.engines import libraries
from servable.engines.formats import Format, format_of, model_bytes
from servable.errors import StatusError
from servable.savedmodel.signature import Signature


@dataclass(frozen=True)
class Description:
    """The content of one version, a folder or a file. engine: its name and version. bytes: its size."""

    path: str
    format: Format
    engine: str
    bytes: int
    signatures: tuple[Signature, ...]


def other_format(path: str) -> Format | None:
    """Returns the format of the version in ``path``; None for a SavedModel, and if there is no model."""
    found = format_of(path)
    return None if found is None or found.engine == "tensorflow" else found


def describe(path: str, format: Format) -> Description:
    """Returns what the version of ``format`` in ``path`` offers.

    Raises ``StatusError`` with the texts of a server that fails to load it.
    """
    from servable import _core

    found = libraries.find_all("", os.environ)
    try:
        signatures = _core.describe(path, found.found, found.missing)
    except _core.CoreError as error:
        raise StatusError(error.code, error.message) from None
    package = next(one for one in libraries.PACKAGES if one.engine == format.engine)
    return Description(
        path=path,
        format=format,
        engine=f"{package.title} {libraries.versions(found)[package.title]}",
        bytes=model_bytes(path),
        signatures=tuple(Signature(*one) for one in signatures),
    )
