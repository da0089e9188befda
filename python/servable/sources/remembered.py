"""What a store of many models held when it was last read, for a server that starts while it is away."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from contextlib import suppress

from servable.config.model_paths import shown_uri
from servable.config.values import ModelConfig
from servable.sources.discovery import Discovery, may_be_model, said

_log = logging.getLogger("servable.models_dir")


class Remembered:
    """A ``Discovery`` whose first look, if it fails, returns the names that an earlier one has found.

    Their versions may be in the cache as well. folder: the cache.
    """

    def __init__(self, uri: str, discovery: Discovery, folder: str) -> None:
        self._uri = uri
        self._discovery = discovery
        key = hashlib.sha256(uri.encode()).hexdigest()[:12]
        self._file = os.path.join(folder, f"models-{key}.json")
        self._is_first = True
        self._kept: list[str] | None = None

    def look(self) -> dict[str, ModelConfig]:
        """See ``Discovery``."""
        is_first, self._is_first = self._is_first, False
        try:
            found = self._discovery.look()
        except Exception as error:  # stores raise what they like
            names = self._read() if is_first else []
            if not names:
                raise
            _log.warning(
                "%s cannot be read, and its models are those that were found before: %s",
                shown_uri(self._uri),
                said(error),
            )
            return {name: ModelConfig(name, f"{self._uri}/{name}") for name in names}
        if found:
            self._keep(sorted(found))
        return found

    def _read(self) -> list[str]:
        try:
            with open(self._file, encoding="utf-8") as file:
                names = json.load(file)["models"]
            return [name for name in names if isinstance(name, str) and may_be_model(name)]
        except (OSError, ValueError, KeyError, TypeError):
            # Never written, or by something else.
            return []

    def _keep(self, names: list[str]) -> None:
        if names == self._kept:
            return
        written = f"{self._file}.{secrets.token_hex(4)}"
        # On a disk that takes nothing, versions cannot be fetched either, which is told.
        with suppress(OSError):
            os.makedirs(os.path.dirname(self._file), exist_ok=True)
            with open(written, "w", encoding="utf-8") as file:
                json.dump({"uri": shown_uri(self._uri), "models": names}, file)
            os.replace(written, self._file)
            self._kept = names
        with suppress(OSError):
            os.unlink(written)
