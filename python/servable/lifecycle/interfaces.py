"""The lifecycle's view of others: the core that it drives, and a listener that it notifies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from servable.config.traffic import Traffic
from servable.config.values import LoadOptions, PayloadLog
from servable.errors import StatusError
from servable.sources import AspiredVersion, VersionLoad


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

    @property
    def memory_bytes(self) -> int | None:
        """What the load has taken of the memory; None if that was not measured."""


class DemandCore(Protocol):
    """The part of ``_core.Server`` by which versions are loaded on demand."""

    def set_on_demand(self, name: str, version: int, on_demand: bool) -> None:
        """Says whether a request has a known version loaded. Until it is, clients count it as available."""

    def next_demand(self, seconds: float) -> tuple[str, int] | None:
        """Takes the version that has been waited for longest; waits for one, None after ``seconds``."""

    def demand_loaded(self, name: str, version: int) -> None:
        """Tells those who wait for a version that it serves."""

    def demand_failed(self, name: str, version: int, error: tuple[str, str], seconds: float) -> None:
        """Tells them that it does not: code and message. Who asks within ``seconds`` is told the same."""

    def end_demand(self) -> None:
        """Ends all waiting, present and future."""

    def uses(self) -> Sequence[tuple[str, int, float, int, int]]:
        """Of each loaded version: (name, version, seconds since its last run, uses, growth).

        The uses are the tenths of a second that had a run. The growth is what it has taken of the memory
        since its load, in bytes.
        """

    def rest(self, name: str, version: int) -> bool:
        """Moves a version to UNLOADING, to be unloaded, unless a request holds it; returns whether it did."""


class Core(DemandCore, Protocol):
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

    def set_configured(self, names: set[str]) -> None:
        """Replaces the names of the models that should be served: while none answers, the server is not ready."""

    def set_labels(self, name: str, labels: dict[str, int]) -> None:
        """Replaces the labels of a model."""

    def set_traffic(self, name: str, rules: Traffic | None, renewed: bool = False) -> None:
        """Spreads the traffic of a model so from now on; None: it is not spread.

        renewed: what was rolled back has its share again, even if the rules are those in force.
        """

    def set_payload_logs(self, logs: Sequence[PayloadLog]) -> None:
        """Replaces the payload logs of all models."""


class CancellableCore(Core, Protocol):
    """A core whose loads can be ended early, and which has their files fetched where they are not here."""

    def bring(self, name: str, version: int, path: str) -> None:
        """Returns once the files of a version are at ``path``. Raises ``StatusError``; part of a load."""

    def cancel(self, name: str, version: int) -> None:
        """Ends the load of a version that is not wanted any more, if it can: it raises ``CancelledError``.

        Does not wait for that.
        """


class Preparation(Protocol):
    """Makes versions ready before the core loads them, or after it could not; see ``sources/conversion.py``.

    ``prepare`` and ``heal`` may take longer than a load; once that is stopped, they raise ``CancelledError``.
    The folder that they return stays until ``keep`` says otherwise.
    """

    def prepare(self, load: VersionLoad) -> str:
        """Returns the folder of the SavedModel made of the Keras file there. Raises ``StatusError``."""

    def heal(self, load: VersionLoad, error: StatusError) -> str:
        """Returns the folder to load in place of one whose signatures do not see their variables.

        Raises ``error``, with a hint, if there is none.
        """

    def keep(self, model: str, version: int, place: str) -> None:
        """Of what was made for this version, it needs ``place`` alone from now on; nothing if that is ""."""

    def phase(self, model: str, version: int) -> str:
        """Returns what is being done for the version, in words; "" if nothing is."""


class Turn(NamedTuple):
    """The turn of a load.

    most: bytes that it may take, None if that is not checked. took: to be told what it took, in bytes; None
    if that was not measured.
    """

    most: int | None
    took: Callable[[int | None], None]


class NoRoomError(StatusError):
    """There is no room in memory for a load. That may pass, and says nothing of the model."""


class Room(Protocol):
    """Makes room in memory for loads; see ``memory_budget.py``."""

    def turn(self, load: VersionLoad, path: str) -> AbstractContextManager[Turn]:
        """Waits until there is room for a load from ``path``, and surrounds it.

        Raises ``StatusError``: a ``NoRoomError`` where there is none.
        """

    def freed(self, name: str, version: int) -> None:
        """A version was unloaded."""


class Listener(Protocol):
    """Notified of every event of versions, on the thread where it happens, with no lock held."""

    def loaded(self, model: str, version: AspiredVersion, report: Report) -> None:
        """The version serves."""

    def failed(self, model: str, version: AspiredVersion, error: StatusError, next_try: float | None) -> None:
        """The load failed; ``next_try``: seconds until the next one, None if there is none."""

    def unloaded(self, model: str, version: AspiredVersion) -> None:
        """The version no longer serves, and its memory is free."""
