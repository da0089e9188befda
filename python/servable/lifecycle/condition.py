"""The condition of one version, and every event that changes it: pure functions, and its only owner.

No clock, no threads, no input or output: times are arguments. An event makes a new condition of the present
one, or raises ``TransitionError`` if it cannot happen. Everything else known about versions is derived from
their conditions (``availability.py``) or records what was done about them (the core's registry).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from servable.errors import StatusError
from servable.lifecycle.state import State
from servable.sources import AspiredVersion


class TransitionError(RuntimeError):
    """A defect: an event that cannot happen to a version in its present condition."""


class Stage(Enum):
    """The stage of a version's load, whether the first or a reload."""

    NONE = "none"
    QUEUED = "queued"  # waits for a thread
    SETTINGS = "settings"  # the settings next to the model are being read
    CORE = "core"  # the core loads it
    RETURNED = "returned"  # the core is done; the result is not recorded yet
    TELLING = "telling"  # the failure is recorded and being announced


_UNDER_WAY = (Stage.SETTINGS, Stage.CORE)


@dataclass(frozen=True)
class Condition:
    """A version from its announcement until it is at END and no longer wanted.

    tries: loads begun since it was announced, repaired or reloaded. retry_at: time of the next load, if it
    waits for one. reload_tries, reload_at: likewise, of the reloads of one that serves. error: of the last
    load, until one succeeds. reloading: a load was requested and the requester may be waiting. loading_since:
    start of the current load. reports: number of warnings that it takes long. on_demand: it is loaded once
    somebody asks for it, and tried again by the next one who asks. loaded_from: path of what is loaded, which
    ``place`` may have left. reload_error: of the last reload, if it failed.
    """

    place: AspiredVersion
    state: State = State.START
    aspired: bool = True
    tries: int = 0
    retry_at: float | None = None
    reload_tries: int = 0
    reload_at: float | None = None
    error: StatusError | None = None
    reloading: bool = False
    stage: Stage = Stage.NONE
    loading_since: float | None = None
    reports: int = 0
    on_demand: bool = False
    loaded_from: str = ""
    reload_error: StatusError | None = None

    # ---- derived

    @property
    def was_unloaded(self) -> bool:
        """At END because it was unloaded or given up, not because its load failed."""
        return self.state is State.END and self.error is None

    @property
    def has_failed(self) -> bool:
        """At END because its load failed."""
        return self.state is State.END and self.error is not None

    @property
    def may_be_forgotten(self) -> bool:
        """Nothing more will happen to it."""
        return self.state is State.END and not self.aspired

    @property
    def may_be_withdrawn(self) -> bool:
        """No load, or no further one, has begun."""
        return self.state is State.START or self.retry_at is not None

    @property
    def may_be_repaired(self) -> bool:
        """Its load failed, and no other is on its way."""
        return self.has_failed or self.retry_at is not None

    @property
    def may_reload(self) -> bool:
        """It serves or has failed, and no load has been requested yet."""
        return not self.reloading and (self.state is State.AVAILABLE or self.may_be_repaired)

    @property
    def may_begin_reload(self) -> bool:
        """It still serves, and its reload is due."""
        return self.state is State.AVAILABLE and self.stage is Stage.QUEUED

    @property
    def unload_waits(self) -> bool:
        """It is to be unloaded once its reload has ended."""
        return self.state is State.UNLOADING and self.reloading

    @property
    def may_be_shut_down(self) -> bool:
        """It is loaded, and its unload has not been submitted."""
        return self.state is State.AVAILABLE or self.unload_waits

    @property
    def sleeps(self) -> bool:
        """It is not loaded, or not for long, and a request has it loaded."""
        return self.on_demand and self.state in (State.START, State.UNLOADING)

    @property
    def is_put_off_load(self) -> bool:
        """Its load is under way, or is about to begin, as somebody has asked for it."""
        return self.on_demand and self.state is State.LOADING

    @property
    def answers(self) -> bool:
        """Requests to it are answered, though they may have to wait for its load."""
        waits = self.on_demand and self.state in (State.START, State.LOADING) and self.error is None
        return self.state is State.AVAILABLE or waits

    @property
    def may_rest(self) -> bool:
        """It serves, and nothing is being done about it."""
        return self.state is State.AVAILABLE and self.stage is Stage.NONE and not self.reloading

    @property
    def withdrawal(self) -> StatusError:
        """The error of a version withdrawn before it was loaded."""
        return self.error or StatusError("CANCELLED", "The version was withdrawn before it was loaded")

    def report_at(self, patience: float) -> float | None:
        """Returns when to warn that the load takes long: after ``patience`` seconds, then more rarely."""
        return None if self.loading_since is None else self.loading_since + patience * 2**self.reports

    # ---- announcements

    def announced(self, wanted: bool) -> Condition:
        """The source announced the wanted versions.

        An unloaded version must become new before it counts again.
        """
        return replace(self, aspired=wanted and not self.was_unloaded)

    def moved(self, place: AspiredVersion) -> Condition:
        """It serves or is new, and its files moved or changed; a load or reload finds them there."""
        self._check("moved", self.state in (State.START, State.AVAILABLE))
        return replace(self, place=place, reload_tries=0, reload_at=None)

    def repaired(self, place: AspiredVersion) -> Condition:
        """Its load failed, and its files changed: at END it becomes new, otherwise it is retried now."""
        self._check("repaired", self.may_be_repaired)
        if self.has_failed:
            return Condition(place)
        return replace(self, place=place, tries=0, retry_at=None, stage=Stage.QUEUED)

    def withdrawn(self) -> Condition:
        """It is no longer wanted, and not loaded."""
        self._check("withdrawn", self.may_be_withdrawn)
        return replace(self, state=State.END, retry_at=None)

    def put_off(self) -> Condition:
        """It is new, and loaded once somebody asks for it."""
        self._check("put_off", self.state is State.START)
        return replace(self, on_demand=True)

    # ---- a load

    def load_queued(self) -> Condition:
        """It is to be loaded for the first time."""
        self._check("load_queued", self.state is State.START)
        return replace(self, state=State.LOADING, stage=Stage.QUEUED)

    def retry_queued(self) -> Condition:
        """Its next try is due."""
        self._check("retry_queued", self.retry_at is not None)
        return replace(self, retry_at=None, stage=Stage.QUEUED)

    def load_begun(self, now: float) -> Condition:
        """A thread has started its load or reload."""
        can_load = self.state in (State.LOADING, State.AVAILABLE)
        self._check("load_begun", can_load and self.stage is Stage.QUEUED)
        tries = self.tries + 1 if self.state is State.LOADING else self.tries
        return replace(self, tries=tries, stage=Stage.SETTINGS, loading_since=now, reports=0)

    def settings_read(self) -> Condition:
        """The settings are read; the core is next."""
        self._check("settings_read", self.stage is Stage.SETTINGS)
        return replace(self, stage=Stage.CORE)

    def reported(self) -> Condition:
        """A warning said that its load takes long."""
        self._check("reported", self.stage in _UNDER_WAY)
        return replace(self, reports=self.reports + 1)

    def load_returned(self) -> Condition:
        """The load is over, successful or not."""
        self._check("load_returned", self.stage in _UNDER_WAY)
        return replace(self, stage=Stage.RETURNED, loading_since=None)

    def loaded(self) -> Condition:
        """It serves, and everybody has been told."""
        self._check("loaded", self.state is State.LOADING and self.stage is Stage.RETURNED)
        now = replace(self, state=State.AVAILABLE, loaded_from=self.place.path)
        return replace(now, error=None, reloading=False, stage=Stage.NONE)

    def load_failed(self, error: StatusError, retry_at: float | None, counts: bool = True) -> Condition:
        """Its load failed, and is retried at ``retry_at``; None: never. counts: that was one of its tries."""
        self._check("load_failed", self.state is State.LOADING and self.stage is Stage.RETURNED)
        state = State.END if retry_at is None else State.LOADING
        tries = self.tries if counts else max(0, self.tries - 1)
        return replace(self, state=state, tries=tries, error=error, retry_at=retry_at, stage=Stage.TELLING)

    def given_up(self) -> Condition:
        """It was withdrawn before its load began, or its withdrawn load failed. Wanted again, it is new."""
        can_be_given_up = self.stage in (Stage.QUEUED, Stage.RETURNED)
        self._check("given_up", self.state is State.LOADING and can_be_given_up)
        return replace(self, state=State.END, error=None, reloading=False, stage=Stage.NONE)

    def failure_told(self) -> Condition:
        """The failure has been announced. Changes nothing if the next load has been queued since."""
        return replace(self, reloading=False, stage=Stage.NONE) if self.stage is Stage.TELLING else self

    # ---- a requested load

    def reload_queued(self) -> Condition:
        """It is to be loaded anew: while serving, or, if it failed, starting with the first try."""
        self._check("reload_queued", self.may_reload)
        if self.state is State.AVAILABLE:
            again = replace(self, reload_tries=self.reload_tries + 1, reload_at=None, reload_error=None)
            return replace(again, reloading=True, stage=Stage.QUEUED)
        return replace(self, state=State.LOADING, tries=0, retry_at=None, reloading=True, stage=Stage.QUEUED)

    def retries_renewed(self) -> Condition:
        """It failed before and is being retried: the tries are counted anew."""
        failed_before = self.state is State.LOADING and self.error is not None
        self._check("retries_renewed", failed_before and self.retry_at is None and not self.reloading)
        return replace(self, tries=0)

    def reload_ended(
        self, again_at: float | None = None, loaded_from: str = "", error: StatusError | None = None
    ) -> Condition:
        """The reload of a loaded version is over, successful or not, and announced; or it never began.

        again_at: when it is tried again, if it failed, by this ``error``; None: never. loaded_from: the path
        of what is loaded now, if it did not.
        """
        loaded_before = self.state in (State.AVAILABLE, State.UNLOADING, State.END)
        self._check("reload_ended", loaded_before and self.stage in (Stage.QUEUED, Stage.RETURNED))
        again_at = again_at if self.state is State.AVAILABLE else None
        tries = 0 if again_at is None else self.reload_tries
        loaded_from = loaded_from or self.loaded_from
        now = replace(
            self, reload_tries=tries, reload_at=again_at, loaded_from=loaded_from, reload_error=error
        )
        return replace(now, reloading=False, stage=Stage.NONE)

    # ---- the unload

    def unload_begun(self) -> Condition:
        """It takes no more requests, once no reload is in progress."""
        self._check("unload_begun", self.state is State.AVAILABLE)
        return replace(self, state=State.UNLOADING, reload_at=None)

    def rested(self) -> Condition:
        """It makes room for others: it takes no more requests, and the next one has it loaded again."""
        self._check("rested", self.may_rest)
        return replace(self, state=State.UNLOADING, reload_at=None, on_demand=True)

    def shut_down(self) -> Condition:
        """The server stops: it is unloaded, whatever becomes of a reload."""
        self._check("shut_down", self.may_be_shut_down)
        return replace(self, state=State.UNLOADING, aspired=False, reloading=False, reload_at=None)

    def unloaded(self) -> Condition:
        """Its memory is free."""
        self._check("unloaded", self.state is State.UNLOADING and not self.reloading)
        return replace(self, state=State.END)

    def _check(self, event: str, allowed: bool) -> None:
        if not allowed:
            raise TransitionError(f"{event} cannot happen to {self}")
