"""The condition of one version, and every event that changes it: pure functions, and its only owner.

No clock, no threads, no input or output: times come in as arguments. An event makes a new condition of the
present one, or raises ``TransitionError`` where it cannot happen. What else is known of versions is derived
from their conditions (``availability.py``), or is what was done about them (the core's registry).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from servable.errors import StatusError
from servable.lifecycle.policy import State
from servable.sources import AspiredVersion


class TransitionError(RuntimeError):
    """A defect: an event that cannot happen to a version in its present condition."""


class Stage(Enum):
    """What the load of a version is at, be it the first one or one that reloads it."""

    NONE = "none"
    QUEUED = "queued"  # it waits for a thread
    SETTINGS = "settings"  # the settings beside the model are being read
    CORE = "core"  # the core loads it
    RETURNED = "returned"  # the core is done, and what came of it is not recorded yet
    TELLING = "telling"  # that it failed is recorded, and being told


_UNDER_WAY = (Stage.SETTINGS, Stage.CORE)


@dataclass(frozen=True)
class Condition:
    """A version from its announcement until it is at END and no longer wanted.

    tries: loads begun since it was announced, repaired or reloaded. retry_at: when the next one is due, None
    unless it waits for that. error: of the last load, until one succeeds. reloading: somebody asked for a
    load and may be waiting for its end. loading_since: when the load that is under way began. reports: how
    often it was said that it takes long.
    """

    place: AspiredVersion
    state: State = State.START
    aspired: bool = True
    tries: int = 0
    retry_at: float | None = None
    error: StatusError | None = None
    reloading: bool = False
    stage: Stage = Stage.NONE
    loading_since: float | None = None
    reports: int = 0

    # ---- what follows from it

    @property
    def was_unloaded(self) -> bool:
        """At END because it was unloaded or given up, rather than because its load failed."""
        return self.state is State.END and self.error is None

    @property
    def has_failed(self) -> bool:
        """At END because its load failed."""
        return self.state is State.END and self.error is not None

    @property
    def may_be_forgotten(self) -> bool:
        """Nothing will come of it any more."""
        return self.state is State.END and not self.aspired

    @property
    def may_be_withdrawn(self) -> bool:
        """Nothing has been begun, or the next try has not."""
        return self.state is State.START or self.retry_at is not None

    @property
    def may_be_repaired(self) -> bool:
        """Its load failed, and none is on its way."""
        return self.has_failed or self.retry_at is not None

    @property
    def may_reload(self) -> bool:
        """It serves or has failed, and nobody has asked for a load yet."""
        return not self.reloading and (self.state is State.AVAILABLE or self.may_be_repaired)

    @property
    def may_begin_reload(self) -> bool:
        """It still serves, and its turn to be loaded anew has come."""
        return self.state is State.AVAILABLE and self.stage is Stage.QUEUED

    @property
    def unload_waits(self) -> bool:
        """It is to be unloaded when its reload has ended."""
        return self.state is State.UNLOADING and self.reloading

    @property
    def withdrawal(self) -> StatusError:
        """The error that it ends with when it is withdrawn before it was loaded."""
        return self.error or StatusError("CANCELLED", "The version was withdrawn before it was loaded")

    def report_at(self, patience: float) -> float | None:
        """When to say that its load takes long: after ``patience`` seconds, and then ever more rarely."""
        return None if self.loading_since is None else self.loading_since + patience * 2**self.reports

    # ---- announcements

    def announced(self, wanted: bool) -> Condition:
        """What is wanted was announced. One that was unloaded has to become new before it counts again."""
        return replace(self, aspired=wanted and not self.was_unloaded)

    def moved(self, place: AspiredVersion) -> Condition:
        """It serves, and its files are elsewhere now, or others; a reload finds them there."""
        self._check("moved", self.state is State.AVAILABLE)
        return replace(self, place=place)

    def repaired(self, place: AspiredVersion) -> Condition:
        """Its load failed, and its files have changed: at END it is new again, else its next try is now."""
        self._check("repaired", self.may_be_repaired)
        if self.has_failed:
            return Condition(place)
        return replace(self, place=place, tries=0, retry_at=None, stage=Stage.QUEUED)

    def withdrawn(self) -> Condition:
        """It is no longer wanted, and is not loaded."""
        self._check("withdrawn", self.may_be_withdrawn)
        return replace(self, state=State.END, retry_at=None)

    # ---- a load

    def load_queued(self) -> Condition:
        """It is to be loaded for the first time."""
        self._check("load_queued", self.state is State.START)
        return replace(self, state=State.LOADING, stage=Stage.QUEUED)

    def retry_queued(self) -> Condition:
        """The time of its next try has come."""
        self._check("retry_queued", self.retry_at is not None)
        return replace(self, retry_at=None, stage=Stage.QUEUED)

    def load_begun(self, now: float) -> Condition:
        """A thread has taken its load up, or its reload."""
        can_load = self.state in (State.LOADING, State.AVAILABLE)
        self._check("load_begun", can_load and self.stage is Stage.QUEUED)
        tries = self.tries + 1 if self.state is State.LOADING else self.tries
        return replace(self, tries=tries, stage=Stage.SETTINGS, loading_since=now, reports=0)

    def settings_read(self) -> Condition:
        """The core's turn."""
        self._check("settings_read", self.stage is Stage.SETTINGS)
        return replace(self, stage=Stage.CORE)

    def reported(self) -> Condition:
        """It was said that its load takes long."""
        self._check("reported", self.stage in _UNDER_WAY)
        return replace(self, reports=self.reports + 1)

    def load_returned(self) -> Condition:
        """The load is over, well or not."""
        self._check("load_returned", self.stage in _UNDER_WAY)
        return replace(self, stage=Stage.RETURNED, loading_since=None)

    def loaded(self) -> Condition:
        """It serves, and everybody has been told."""
        self._check("loaded", self.state is State.LOADING and self.stage is Stage.RETURNED)
        return replace(self, state=State.AVAILABLE, error=None, reloading=False, stage=Stage.NONE)

    def load_failed(self, error: StatusError, retry_at: float | None) -> Condition:
        """It is tried again at ``retry_at``; None: never."""
        self._check("load_failed", self.state is State.LOADING and self.stage is Stage.RETURNED)
        state = State.END if retry_at is None else State.LOADING
        return replace(self, state=state, error=error, retry_at=retry_at, stage=Stage.TELLING)

    def given_up(self) -> Condition:
        """Withdrawn before its load began, or while it came to nothing. Wanted again, it is new."""
        can_be_given_up = self.stage in (Stage.QUEUED, Stage.RETURNED)
        self._check("given_up", self.state is State.LOADING and can_be_given_up)
        return replace(self, state=State.END, error=None, reloading=False, stage=Stage.NONE)

    def failure_told(self) -> Condition:
        """Everybody knows that its load failed. Changes nothing where the next one has been queued since."""
        return replace(self, reloading=False, stage=Stage.NONE) if self.stage is Stage.TELLING else self

    # ---- a load that somebody asked for

    def reload_queued(self) -> Condition:
        """It is to be loaded anew: serving meanwhile, or, if it has failed, from the first try on."""
        self._check("reload_queued", self.may_reload)
        if self.state is State.AVAILABLE:
            return replace(self, reloading=True, stage=Stage.QUEUED)
        return replace(self, state=State.LOADING, tries=0, retry_at=None, reloading=True, stage=Stage.QUEUED)

    def retries_renewed(self) -> Condition:
        """It has failed before and is being tried again: the tries are counted from here on."""
        failed_before = self.state is State.LOADING and self.error is not None
        self._check("retries_renewed", failed_before and self.retry_at is None and not self.reloading)
        return replace(self, tries=0)

    def reload_ended(self) -> Condition:
        """The reload of what was loaded is over, well or not, and told; or it never began."""
        loaded_before = self.state in (State.AVAILABLE, State.UNLOADING, State.END)
        self._check("reload_ended", loaded_before and self.stage in (Stage.QUEUED, Stage.RETURNED))
        return replace(self, reloading=False, stage=Stage.NONE)

    # ---- the unload

    def unload_begun(self) -> Condition:
        """It takes no more requests, as soon as no reload is under way."""
        self._check("unload_begun", self.state is State.AVAILABLE)
        return replace(self, state=State.UNLOADING)

    def shut_down(self) -> Condition:
        """The server ends: it is unloaded, whatever becomes of a reload."""
        self._check("shut_down", self.state is State.AVAILABLE)
        return replace(self, state=State.UNLOADING, aspired=False, reloading=False)

    def unloaded(self) -> Condition:
        """Its memory is free."""
        self._check("unloaded", self.state is State.UNLOADING and not self.reloading)
        return replace(self, state=State.END)

    def _check(self, event: str, allowed: bool) -> None:
        if not allowed:
            raise TransitionError(f"{event} cannot happen to {self}")
