"""A core that makes versions ready before it loads them, and heals those that it could not load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from servable.config.values import LoadOptions
from servable.errors import StatusError
from servable.lifecycle.interfaces import Core, Preparation, Report
from servable.savedmodel.layout import holds_saved_model, keras_file_at

HIDDEN = "Could not find variable"
"""How the core's error begins for signatures that do not see their variables (``variables.rs``)."""
HEALED_TAGS = ("serve",)
"""The only tags that a healed model has."""


class PreparingCore:
    """``core``, with a ``Preparation`` for the loads that need one: its failure is the load's. See ``Core``.

    make_preparation: called with the first of them, as most servers never need its imports.
    """

    def __init__(self, core: Core, make_preparation: Callable[[], Preparation]) -> None:
        self._core = core
        self._make_preparation = make_preparation
        self._preparation: Preparation | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._loading: dict[tuple[str, int], str] = {}
        self._serving: set[tuple[str, int]] = set()

    def stop(self) -> None:
        """Ends preparations; no further one begins."""
        with self._lock:
            self._stopped = True
            if self._preparation is not None:
                self._preparation.stop()

    def announce(self, name: str, version: int) -> None:
        """See ``Core``."""
        self._core.announce(name, version)

    def phase(self, name: str, version: int) -> str:
        """See ``Core``."""
        with self._lock:
            path, preparation = self._loading.get((name, version)), self._preparation
        doing = preparation.phase(path) if preparation is not None and path is not None else ""
        return doing or self._core.phase(name, version)

    def load(self, name: str, version: int, path: str, options: LoadOptions) -> Report:
        """See ``Core``."""
        key = name, version
        with self._lock:
            self._loading[key] = path
        try:
            report = self._load(name, version, path, options)
            with self._lock:
                self._serving.add(key)
            return report
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def _load(self, name: str, version: int, path: str, options: LoadOptions) -> Report:
        ready = path
        try:
            if keras_file_at(path):
                ready = self._prepared().prepare(name, path)
            elif options.tags == HEALED_TAGS and holds_saved_model(path):
                try:
                    # Not final: the version may be healed.
                    return self._core.load(name, version, path, replace(options, retrying=True))
                except Exception as error:
                    failure = _status(error)
                    if not failure.message.startswith(HIDDEN):
                        raise
                ready = self._prepared().heal(name, path, failure)
        except Exception as error:
            self._failed(name, version, error, options)
            raise
        return self._core.load(name, version, ready, options)

    def _prepared(self) -> Preparation:
        with self._lock:
            if self._preparation is None:
                self._preparation = self._make_preparation()
                if self._stopped:
                    self._preparation.stop()
            return self._preparation

    def _failed(self, name: str, version: int, error: Exception, options: LoadOptions) -> None:
        """Makes a failure final if it is the last one, of a version that does not serve."""
        with self._lock:
            serves = (name, version) in self._serving
        if not options.retrying and not serves:
            failure = _status(error)
            self._core.fail(name, version, failure.code, failure.message)

    def retire(self, name: str, version: int) -> None:
        """See ``Core``."""
        self._core.retire(name, version)

    def unload(self, name: str, version: int) -> None:
        """See ``Core``."""
        with self._lock:
            self._serving.discard((name, version))
        self._core.unload(name, version)

    def fail(self, name: str, version: int, code: str, message: str) -> None:
        """See ``Core``."""
        self._core.fail(name, version, code, message)

    def set_labels(self, name: str, labels: dict[str, int]) -> None:
        """See ``Core``."""
        self._core.set_labels(name, labels)


def _status(error: Exception) -> StatusError:
    """Returns the core's error as a ``StatusError``; what else is raised is a defect."""
    if isinstance(error, StatusError):
        return error
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    if isinstance(code, str) and isinstance(message, str):
        return StatusError(code, message)
    return StatusError("INTERNAL", f"{type(error).__name__}: {error}")
