"""Details of loaded versions beyond their conditions: size, time, signatures; for administration.

Fed by the manager as its ``Listener``, and passes everything on to the next listener.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable.engines.formats import model_bytes
from servable.errors import StatusError
from servable.savedmodel.signature import Signature
from servable.sources import AspiredVersion

if TYPE_CHECKING:
    from servable.lifecycle.interfaces import Listener, Report

MEMORY_PER_BYTE = 1.2
"""TensorFlow Serving's estimate of a model's memory, per byte of its files."""


@dataclass(frozen=True)
class Loaded:
    """Details of a version loaded from ``path``.

    seconds: its load, warm-up included. since: Unix time. bytes: all its files. taken: what the load took of
    the memory, in bytes; None if that was not measured, which it is where models are loaded on demand.
    """

    path: str
    seconds: float
    since: float
    bytes: int
    signatures: tuple[Signature, ...]
    placement: str
    taken: int | None = None

    @property
    def memory_bytes(self) -> int:
        """As measured, or estimated; TensorFlow does not report what a session holds."""
        return int(self.bytes * MEMORY_PER_BYTE) if self.taken is None else self.taken


class Inventory:
    """The last load of each version, by model and number, until it is unloaded. Thread-safe.

    ``_lock`` guards the records, which say nothing about the versions' conditions.
    """

    def __init__(self, following: Listener) -> None:
        self._following = following
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, int], Loaded] = {}

    def of(self, model: str, version: int) -> Loaded | None:
        """Returns the details of a version, None if it was not loaded or is unloaded."""
        with self._lock:
            return self._loaded.get((model, version))

    def loaded(self, model: str, version: AspiredVersion, report: Report) -> None:
        """See ``Listener``."""
        size = model_bytes(version.path)
        signatures = tuple(Signature(*one) for one in report.signatures)
        described = signatures, report.placement, report.memory_bytes
        record = Loaded(version.path, report.seconds, time.time(), size, *described)
        with self._lock:
            self._loaded[model, version.version] = record
        self._following.loaded(model, version, report)

    def failed(self, model: str, version: AspiredVersion, error: StatusError, next_try: float | None) -> None:
        """See ``Listener``."""
        self._following.failed(model, version, error, next_try)

    def unloaded(self, model: str, version: AspiredVersion) -> None:
        """See ``Listener``."""
        with self._lock:
            self._loaded.pop((model, version.version), None)
        self._following.unloaded(model, version)


def resident_bytes() -> int | None:
    """Returns this process's memory in RAM, None if /proc does not tell (statm, proc(5))."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
