"""What the lifecycle needs of others: the core that it drives, and a listener that it tells."""

from __future__ import annotations

from typing import Protocol

from servable.config.values import LoadOptions
from servable.errors import StatusError
from servable.sources import AspiredVersion


class Report(Protocol):
    """What the core tells about a version it has loaded; see ``_core.LoadReport``."""

    @property
    def seconds(self) -> float:
        """Time the load took, warm-up included."""

    @property
    def signatures(self) -> list[tuple[str, list[tuple[str, str, str]], list[tuple[str, str, str]]]]:
        """(name, inputs, outputs), each of these (alias, dtype, shape text)."""

    @property
    def placement(self) -> str:
        """``caller`` or ``pool``."""


class Core(Protocol):
    """The part of ``_core.Server`` that the manager drives.

    Every method may block and may raise ``CoreError``.
    """

    def announce(self, name: str, version: int) -> None:
        """The version is known: START."""

    def phase(self, name: str, version: int) -> str:
        """What the load of a version is at, in words; "" when none is under way."""

    def load(self, name: str, version: int, path: str, options: LoadOptions) -> Report:
        """To AVAILABLE; on failure raises, and the version is at END, or LOADING if ``options.retrying``."""

    def retire(self, name: str, version: int) -> None:
        """To UNLOADING; returns when no request holds the version any more."""

    def unload(self, name: str, version: int) -> None:
        """To END, when no request holds the version any more."""

    def fail(self, name: str, version: int, code: str, message: str) -> None:
        """To END with an error, without a load."""

    def set_labels(self, name: str, labels: dict[str, int]) -> None:
        """Replaces the labels of a model."""


class Listener(Protocol):
    """Told of everything that happens to versions, on the thread where it happens, no lock held."""

    def loaded(self, model: str, version: AspiredVersion, report: Report) -> None:
        """The version serves."""

    def failed(self, model: str, version: AspiredVersion, error: StatusError, next_try: float | None) -> None:
        """``next_try``: seconds until the load is tried again, None when it is not."""

    def unloaded(self, model: str, version: AspiredVersion) -> None:
        """The version serves no longer, and its memory is free."""
