"""The lifecycle's view of others: the core that it drives, and a listener that it notifies."""

from __future__ import annotations

from typing import Protocol

from servable.config.values import LoadOptions
from servable.errors import StatusError
from servable.sources import AspiredVersion


class Report(Protocol):
    """The core's report on a version it has loaded; see ``_core.LoadReport``."""

    @property
    def seconds(self) -> float:
        """Duration of the load, warm-up included."""

    @property
    def signatures(self) -> list[tuple[str, list[tuple[str, str, str]], list[tuple[str, str, str]]]]:
        """(name, inputs, outputs), the latter as (alias, dtype, shape text)."""

    @property
    def placement(self) -> str:
        """``caller`` or ``pool``."""


class Core(Protocol):
    """The part of ``_core.Server`` that the manager drives.

    Every method may block and may raise ``CoreError``.
    """

    def announce(self, name: str, version: int) -> None:
        """Makes the version known: START."""

    def phase(self, name: str, version: int) -> str:
        """Returns the phase of a version's load, in words; "" if none is in progress."""

    def load(self, name: str, version: int, path: str, options: LoadOptions) -> Report:
        """Loads to AVAILABLE; on failure raises, and the state is END, or LOADING if ``options.retrying``."""

    def retire(self, name: str, version: int) -> None:
        """Moves to UNLOADING; returns when no request holds the version any more."""

    def unload(self, name: str, version: int) -> None:
        """Moves to END, when no request holds the version any more."""

    def fail(self, name: str, version: int, code: str, message: str) -> None:
        """Moves to END with an error, without a load."""

    def set_labels(self, name: str, labels: dict[str, int]) -> None:
        """Replaces the labels of a model."""


class Preparation(Protocol):
    """Makes versions ready before the core loads them, or after it could not; see ``sources/conversion.py``.

    ``prepare`` and ``heal`` may take longer than a load.
    """

    def prepare(self, model: str, path: str) -> str:
        """Returns the folder of the SavedModel made of the Keras file at ``path``. Raises ``StatusError``."""

    def heal(self, model: str, path: str, error: StatusError) -> str:
        """Returns the folder to load in place of ``path``, whose signatures do not see their variables.

        Raises ``error``, with a hint, if there is none.
        """

    def phase(self, path: str) -> str:
        """Returns what is being done for the version at ``path``, in words; "" if nothing is."""

    def stop(self) -> None:
        """Ends what is being done; nothing more begins."""


class Listener(Protocol):
    """Notified of every event of versions, on the thread where it happens, with no lock held."""

    def loaded(self, model: str, version: AspiredVersion, report: Report) -> None:
        """The version serves."""

    def failed(self, model: str, version: AspiredVersion, error: StatusError, next_try: float | None) -> None:
        """The load failed; ``next_try``: seconds until the next one, None if there is none."""

    def unloaded(self, model: str, version: AspiredVersion) -> None:
        """The version no longer serves, and its memory is free."""
