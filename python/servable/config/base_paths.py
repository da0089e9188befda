"""Restricts the base paths of a configuration, by its origin and by what the operator has allowed.

A SavedModel is code, so the choice of a base path decides what the server runs. Prefixes are compared by
whole components: ``/models`` allows ``/models/a`` but not ``/models2``. Links in a local path are resolved
when it is configured; links that change afterwards, and those inside the folder, are the operator's
responsibility.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote, urlsplit

from servable.config.model_paths import is_remote, local_path, shown_uri
from servable.config.values import ModelConfig
from servable.errors import StatusError, UsageError

FLAG = "--allowed_base_paths"
ANSWER_SECONDS = 10.0
"""Longest time that a change of the configuration waits for the file systems of its paths."""


class Way(Enum):
    """The origins of a configuration."""

    START = "the command line and config files"
    ADMINISTRATION = "the administration"
    RPC = "HandleReloadConfigRequest"


@dataclass(frozen=True)
class AllowedPaths:
    """The prefixes that base paths must lie in; without any, all local paths, and remote ones except by RPC.

    By RPC, remote paths are accepted only under a prefix that names them.
    """

    prefixes: tuple[str, ...] = ()

    @staticmethod
    def read(texts: Iterable[str]) -> AllowedPaths:
        """Parses comma-separated absolute paths and URIs. Raises ``UsageError``."""
        prefixes = tuple(part.strip() for text in texts for part in text.split(",") if part.strip())
        for prefix in prefixes:
            if _parts(prefix) is None or not (prefix.startswith("/") or "://" in prefix):
                raise UsageError(
                    f"{FLAG} expects absolute paths or URIs such as s3://bucket/models, got {prefix!r}"
                )
        return AllowedPaths(prefixes)

    def check(self, models: Sequence[ModelConfig], known: Sequence[ModelConfig], way: Way) -> None:
        """Raises ``StatusError`` PERMISSION_DENIED for the first model that may not be served.

        known: the models served now; their paths were allowed before.
        """
        before = {(model.name, model.base_path) for model in known}
        new = [model for model in models if (model.name, model.base_path) not in before]
        refused = self._refused(new, way)
        if refused is not None:
            raise self._refusal(refused, way)

    def _refused(self, models: Sequence[ModelConfig], way: Way) -> ModelConfig | None:
        """Returns the first model that may not be served.

        Links are followed on a separate thread, which a dead mount may block.
        """
        if not self.prefixes or not models:
            return next((model for model in models if not self._allows(model.base_path, way)), None)
        found: list[ModelConfig | None] = []

        def look() -> None:
            found.append(next((model for model in models if not self._allows(model.base_path, way)), None))

        looking = threading.Thread(target=look, name="base-paths", daemon=True)
        looking.start()
        looking.join(ANSWER_SECONDS)
        if not found:
            raise StatusError(
                "UNAVAILABLE",
                "Where the base paths lead could not be found out: a file system does not answer",
                f"{FLAG} has links followed; are all of its paths, and those of the models, mounted?",
            )
        return found[0]

    def _allows(self, base_path: str, way: Way) -> bool:
        if not self.prefixes:
            return way is not Way.RPC or not is_remote(base_path)
        parts = _parts(base_path)
        allowed = (_parts(prefix) for prefix in self.prefixes)
        return parts is not None and any(one is not None and parts[: len(one)] == one for one in allowed)

    def _refusal(self, model: ModelConfig, way: Way) -> StatusError:
        said = f"Model {model.name} may not be served from {shown_uri(model.base_path)}: "
        if self.prefixes:
            said += f"{FLAG} allows {', '.join(self.prefixes)}"
        else:
            said += f"{way.value} takes local paths, and what {FLAG} names, such as s3://bucket/models"
        return StatusError("PERMISSION_DENIED", said)


def _parts(path: str) -> tuple[str, ...] | None:
    """Returns the components to compare prefixes by; None for a path whose target is not plain."""
    if not is_remote(path):
        try:
            return tuple(os.path.realpath(local_path(path)).rstrip("/").split("/"))
        except (OSError, ValueError):
            return None
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
    # Only the Web takes what follows ? for no part of a path, which may lead on from there.
    strange = strange or (uri.scheme not in ("http", "https") and bool({"?", "#"} & set(path)))
    if strange or "\\" in uri.netloc:
        return None
    return (uri.scheme.lower(), uri.netloc.lower(), *plain)
