"""What the console tells of models: pages of the list, and one model with the advice on its failures."""

from __future__ import annotations

import bisect
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from servable.admin.interfaces import Core, State
from servable.admin.operations import Fields, Management
from servable.config.model_paths import shown_uri
from servable.config.values import ModelConfig
from servable.errors import invalid_argument
from servable.lifecycle.availability import Availability
from servable.lifecycle.inventory import Inventory
from servable.lifecycle.manager import Manager

DEFAULT_LIMIT = 100
MOST_MODELS = 1000
"""Of a page."""
MOST_VERSIONS = 100
"""Of a model on a page: the newest."""
MOST_BYTES = 1 << 20
"""Of a page, as JSON; one model is shown whatever it takes."""
MOST_SHOWN = 500
"""Characters of an error on a page; the page of the model has them all."""

ADVICE_SECONDS = 30.0
MOST_ADVICE = 256
"""How long advice is kept, which takes looking at the disk; and how many."""


@dataclass
class Listing:
    """Tells of the models of a server. Every method may be called from any thread."""

    core: Core
    manager: Manager
    inventory: Inventory
    management: Management
    _advice: Advice = field(default_factory=lambda: Advice())

    def counts(self) -> Fields:
        """Returns how many models there are, are available, and have failed."""
        standings = list(self.manager.availability().values())
        failed = (Availability.FAILED, Availability.FAILING)
        return {
            "total": len(standings),
            "available": sum(one is Availability.AVAILABLE for one in standings),
            "failed": sum(one in failed for one in standings),
        }

    def page(self, query: Mapping[str, str]) -> Fields:
        """Returns models by name: ``limit`` of those after ``after`` that have ``search`` in their names.

        Fewer where these are long; ``next`` is the name to go on after.
        """
        limit = _limit(query.get("limit", ""))
        states: dict[str, list[State]] = {}
        for state in self.core.states():
            states.setdefault(state[0], []).append(state)
        configured = {one.name: one for one in self.manager.configured()}
        availability = self.manager.availability()
        searched = query.get("search", "").casefold()
        names = sorted(name for name in configured.keys() | states.keys() if searched in name.casefold())
        first = bisect.bisect_right(names, query["after"]) if "after" in query else 0
        models: list[Fields] = []
        size = 0
        for name in names[first : first + limit]:
            model = self._model(name, configured.get(name), availability.get(name), states.get(name, ()))
            size += len(json.dumps(model))
            if models and size > MOST_BYTES:
                break
            models.append(model)
        is_last = first + len(models) >= len(names)
        return {
            "models": models,
            "total": len(names),
            "next": None if is_last else models[-1]["name"],
        }

    def _model(
        self, name: str, config: ModelConfig | None, standing: Availability | None, states: Sequence[State]
    ) -> Fields:
        newest = sorted(states, key=lambda state: -state[1])[:MOST_VERSIONS]
        return {
            "name": name,
            "standing": standing.value if standing else "removed",
            # Whoever may look at it need not know the password of a store.
            "base_path": shown_uri(config.base_path) if config else None,
            "labels": dict(config.labels) if config else {},
            "versions": [self._version(*state) for state in newest],
        }

    def _version(self, name: str, version: int, state: str, code: str, message: str) -> Fields:
        fields: Fields = {"version": version, "state": state}
        error = self._error(name, version, code, message)
        if error is not None:
            fields["error"] = {"code": error[0], "message": _cut(error[1])}
        if state == "AVAILABLE":
            fields["engine"] = self.core.engine(name, version)
        known = self.inventory.of(name, version)
        if known is not None:
            fields["load_seconds"] = round(known.seconds, 3)
            fields["memory_bytes"] = known.memory_bytes
        return fields

    def _error(self, name: str, version: int, code: str, message: str) -> tuple[str, str] | None:
        """Returns why a version has failed, or is tried again; None if it has not."""
        if code != "OK":
            return code, message
        failure = self.manager.failure(name, version)
        return None if failure is None else (failure[1].code, failure[1].message)

    def model(self, name: str) -> Fields:
        """Returns one model, with signatures, and advice where it has failed. Raises ``StatusError``."""
        fields = self.management.model(name)
        base_path = fields.get("base_path")
        if base_path is not None:
            fields["base_path"] = shown_uri(base_path)
        for version in fields["versions"]:
            self._complete(name, version)
        if fields["standing"] == Availability.MISSING.value and base_path is not None:
            advice = self._advice.on_missing(name, base_path)
            if advice:
                fields["advice"] = advice
        return fields

    def _complete(self, name: str, version: Fields) -> None:
        number = version["version"]
        failure = self.manager.failure(name, number)
        if failure is not None:
            path, error = failure
            version.setdefault("error", {"code": error.code, "message": error.message})
            advice = error.hint or self._advice.on_failure(path, error.message)
            if advice:
                version["advice"] = advice
        if "memory_bytes_estimate" in version:
            version["memory_bytes"] = version["memory_bytes_estimate"]
        version.pop("signatures", None)
        if version["state"] == "AVAILABLE":
            version["engine"] = self.core.engine(name, number)
            version["signatures"] = self._signatures(name, number)

    def _signatures(self, name: str, version: int) -> Fields:
        try:
            told = self.core.signatures(name, version)
        except Exception as error:
            # It may have been unloaded meanwhile.
            if not hasattr(error, "code"):
                raise
            return {}
        return {
            signature: {"method": method, "inputs": _arguments(inputs), "outputs": _arguments(outputs)}
            for signature, method, inputs, outputs in told
            if not signature.startswith("__")
        }


class Advice:
    """The doctor's advice, kept for a while. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[tuple[str, str], tuple[float, str]] = {}

    def on_failure(self, path: str, message: str) -> str:
        """Returns what to do about a failed load from ``path``; "" if the doctor does not know."""
        from servable.savedmodel.doctor import load_hint

        return self._known(path, message, load_hint)

    def on_missing(self, name: str, base_path: str) -> str:
        """Returns what to do about a base path without versions; "" for one in a store."""
        from servable.config.model_paths import is_remote

        return "" if is_remote(base_path) else self._known(base_path, name, _missing)

    def _known(self, path: str, about: str, look: Any) -> str:
        now = time.monotonic()
        with self._lock:
            since, advice = self._kept.get((path, about), (now - 2 * ADVICE_SECONDS, ""))
        if now - since < ADVICE_SECONDS:
            return advice
        with self._lock:
            # Others do not wait for this look, which may take long where a disk hangs.
            self._kept[path, about] = now, advice
        try:
            advice = str(look(path, about))
        except OSError:
            # The disk changes while it is looked at.
            advice = ""
        with self._lock:
            while len(self._kept) >= MOST_ADVICE:
                self._kept.pop(next(iter(self._kept)))
            self._kept[path, about] = now, advice
        return advice


def _missing(path: str, name: str) -> str:
    import os

    from servable.config.model_paths import local_path
    from servable.savedmodel.doctor import base_path_unreadable, no_versions

    path = local_path(path)
    try:
        return no_versions(name, path, os.listdir(path))
    except OSError as error:
        return base_path_unreadable(name, path, error)


def _arguments(arguments: Sequence[tuple[str, str, list[int] | None]]) -> list[Fields]:
    return [{"name": alias, "dtype": dtype, "shape": shape} for alias, dtype, shape in arguments]


def _limit(text: str) -> int:
    if not text:
        return DEFAULT_LIMIT
    digits = text.isascii() and text.isdigit() and len(text) <= 9
    if not digits or not 0 < int(text) <= MOST_MODELS:
        raise invalid_argument(f"limit expects a whole number from 1 to {MOST_MODELS}, got {text[:100]!r}")
    return int(text)


def _cut(message: str) -> str:
    return message if len(message) <= MOST_SHOWN else message[:MOST_SHOWN] + "…"
