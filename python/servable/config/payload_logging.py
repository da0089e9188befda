"""Which payload logs the ``logging_config`` of models ask for, and where they may be.

The type of a log collector names the form of its files: ``tfrecord`` (also ``file`` and none) or ``json``.
What cannot be followed has no effect, and a warning says why: the model is served all the same. Each place, a
form with the beginning of its files' names, has a thread in the core; those beyond the first ``MOST_PLACES``
are not logged to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from servable.config.base_paths import Way
from servable.config.values import LoggingConfig, ModelConfig, PayloadLog
from servable.errors import StatusError

FLAG = "--payload_log_dir"
MOST_PLACES = 64
"""The core's ``MOST_PLACES``."""
FORMS = {"": "tfrecord", "file": "tfrecord", "tfrecord": "tfrecord", "json": "json", "jsonl": "json"}
"""The form of the files for each type of a log collector."""


@dataclass(frozen=True)
class PayloadLogging:
    """folder: where all files must lie, "" for anywhere. tags: of the models' graphs, for the records."""

    folder: str = ""
    tags: tuple[str, ...] = ()

    def check(self, models: Sequence[ModelConfig], known: Sequence[ModelConfig], way: Way) -> None:
        """Raises ``StatusError`` PERMISSION_DENIED for the first model that may not be logged where it says.

        known: the models served now; the files that they log to were allowed before. By RPC no others are
        allowed without a folder: a client would choose which files the server writes.
        """
        before = {(log.form, log.prefix) for log in self.logs(known)}
        for model, logging in _logged(models):
            path = self._path(logging)
            if self._problem(logging) or path is None or (FORMS[logging.collector], path) in before:
                continue
            if self.folder and not _lies_in(path, self.folder):
                said = f"{FLAG} allows {self.folder}"
            elif not self.folder and way is Way.RPC:
                said = f"{way.value} names files only where {FLAG} allows it"
            else:
                continue
            raise StatusError("PERMISSION_DENIED", f"Model {model.name} may not be logged to {path}: {said}")

    def logs(self, models: Sequence[ModelConfig]) -> list[PayloadLog]:
        """Returns the logs to write, of those that can be followed."""
        return [
            PayloadLog(
                model.name,
                FORMS[logging.collector],
                path,
                min(logging.rate, 1.0),
                logging.sampling,
                self.tags,
            )
            for model, logging, problem in self._judged(models)
            if not problem and (path := self._path(logging)) is not None
        ]

    def warnings(self, models: Sequence[ModelConfig]) -> list[str]:
        """Returns a sentence for each logging_config that has no effect."""
        return [
            f"logging_config of model {model.name} has no effect: {problem}"
            for model, _, problem in self._judged(models)
            if problem
        ]

    def _judged(self, models: Sequence[ModelConfig]) -> Iterator[tuple[ModelConfig, LoggingConfig, str]]:
        """Yields each model of which anything is to be logged, and why it is not, "" if it is."""
        places: set[tuple[str, str | None]] = set()
        for model, logging in _logged(models):
            problem = self._problem(logging)
            if not problem:
                place = (FORMS[logging.collector], self._path(logging))
                if place in places or len(places) < MOST_PLACES:
                    places.add(place)
                else:
                    problem = (
                        f"{MOST_PLACES} other places are logged to, which is the most; let models share a"
                        " filename_prefix"
                    )
            yield model, logging, problem

    def _problem(self, logging: LoggingConfig) -> str:
        if logging.collector not in FORMS:
            return f"there is no log collector of type {logging.collector!r}; use tfrecord or json"
        if not logging.prefix:
            return "log_collector_config has no filename_prefix"
        if "\0" in logging.prefix or "://" in logging.prefix:
            return f"filename_prefix expects a path on this machine, got {logging.prefix!r}"
        if self._path(logging) is None:
            return f"filename_prefix expects an absolute path, or {FLAG}, got {logging.prefix!r}"
        return ""

    def _path(self, logging: LoggingConfig) -> str | None:
        """Returns the beginning of the paths; relative ones lie in the folder, None if there is none."""
        if os.path.isabs(logging.prefix):
            return logging.prefix
        return os.path.join(self.folder, logging.prefix) if self.folder else None


def _logged(models: Iterable[ModelConfig]) -> Iterator[tuple[ModelConfig, LoggingConfig]]:
    """Yields the models of which anything is to be logged."""
    for model in models:
        if model.logging is not None and model.logging.rate > 0:
            yield model, model.logging


def _lies_in(prefix: str, folder: str) -> bool:
    """True if files that begin with ``prefix`` lie in ``folder`` or below it; links are followed."""
    try:
        inside, outside = os.path.realpath(os.path.dirname(prefix)), os.path.realpath(folder)
    except (OSError, ValueError):
        return False
    return os.path.commonpath([inside, outside]) == outside
