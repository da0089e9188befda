"""Which base paths a configuration may name: where it came from, and what the operator has allowed.

A SavedModel is code, so whoever chooses a base path chooses what the server runs. Prefixes are compared by
whole components: ``/models`` allows ``/models/a`` and not ``/models2``. A local path counts as where its
links lead when it is configured; links that change afterwards, and those inside the folder, are the
operator's to watch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote, urlsplit

from servable.config import ModelConfig
from servable.errors import StatusError, UsageError
from servable.model_paths import is_remote, local_path

FLAG = "--allowed_base_paths"


class Way(Enum):
    """How a configuration came in."""

    START = "the command line and config files"
    ADMINISTRATION = "the administration"
    RPC = "HandleReloadConfigRequest"


@dataclass(frozen=True)
class AllowedPaths:
    """The prefixes that base paths must lie in; without any, what is local, and by RPC nothing else.

    Remote sources are fetched by RPC only from a prefix that names them.
    """

    prefixes: tuple[str, ...] = ()

    @staticmethod
    def read(texts: Iterable[str]) -> AllowedPaths:
        """Comma lists of absolute paths and URIs. Raises ``UsageError``."""
        prefixes = tuple(part.strip() for text in texts for part in text.split(",") if part.strip())
        for prefix in prefixes:
            if _parts(prefix) is None or not (prefix.startswith("/") or "://" in prefix):
                raise UsageError(
                    f"{FLAG} expects absolute paths or URIs such as s3://bucket/models, got {prefix!r}"
                )
        return AllowedPaths(prefixes)

    def check(self, models: Sequence[ModelConfig], known: Sequence[ModelConfig], way: Way) -> None:
        """Raises ``StatusError`` PERMISSION_DENIED for the first model that may not be served.

        known: the models that are served now; what they are served from was allowed before.
        """
        before = {(model.name, model.base_path) for model in known}
        for model in models:
            if (model.name, model.base_path) not in before and not self._allows(model.base_path, way):
                raise self._refusal(model, way)

    def _allows(self, base_path: str, way: Way) -> bool:
        if not self.prefixes:
            return way is not Way.RPC or not is_remote(base_path)
        parts = _parts(base_path)
        allowed = (_parts(prefix) for prefix in self.prefixes)
        return parts is not None and any(one is not None and parts[: len(one)] == one for one in allowed)

    def _refusal(self, model: ModelConfig, way: Way) -> StatusError:
        said = f"Model {model.name} may not be served from {model.base_path}: "
        if self.prefixes:
            said += f"{FLAG} allows {', '.join(self.prefixes)}"
        else:
            said += f"{way.value} takes local paths, and what {FLAG} names, such as s3://bucket/models"
        return StatusError("PERMISSION_DENIED", said)


def _parts(path: str) -> tuple[str, ...] | None:
    """What prefixes are compared by; None for a URI that does not say plainly where it leads."""
    if not is_remote(path):
        return tuple(os.path.realpath(local_path(path)).rstrip("/").split("/"))
    try:
        uri = urlsplit(path)
    except ValueError:
        return None
    components = [part for part in uri.path.split("/") if part]
    plain = [unquote(part) for part in components]
    # ``::`` chains stores (fsspec); the others may lead out of the prefix, depending on the store.
    strange = any(part in (".", "..") or "/" in part or "\\" in part for part in plain) or "::" in unquote(
        path
    )
    if strange or "\\" in uri.netloc:
        return None
    return (uri.scheme.lower(), uri.netloc.lower(), *plain)
