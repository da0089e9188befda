"""The manager of the served versions: takes configurations and announcements, follows them, and shuts down.

Sources announce (``aspire``, ``missing``), configurations are applied (``apply``), loads and unloads finish:
each marks a model as touched and wakes the loop. For every touched model, the loop places its labels, makes
its versions follow (``reconciling.py``), and publishes its availability.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from servable.config.base_paths import AllowedPaths, Way
from servable.config.payload_logging import PayloadLogging
from servable.config.traffic_check import check_traffic, traffic_warnings
from servable.config.values import LifecycleOptions, LoadOptions, ModelConfig, check_models
from servable.errors import StatusError
from servable.lifecycle import labels
from servable.lifecycle.availability import Availability
from servable.lifecycle.condition import Condition
from servable.lifecycle.interfaces import CancellableCore, Listener
from servable.lifecycle.label_table import LabelTable
from servable.lifecycle.loading import Loader
from servable.lifecycle.models import Model, Models, Version
from servable.lifecycle.on_demand import OnDemand
from servable.lifecycle.policy import POLICIES
from servable.lifecycle.reconciling import Reconciler
from servable.lifecycle.state import State
from servable.lifecycle.traffic_table import TrafficTable
from servable.sources import AspiredVersion, Source

_log = logging.getLogger("servable.manager")


PATIENCE = 30.0
"""Seconds after which a load counts as hanging: the next one takes its place, and the log says so."""

LAST_LOADS_SECONDS = 2.0
"""Seconds that shutdown waits for loads in progress."""

TELL_SECONDS = 0.01
"""Least time between two moments at which those who wait are told of changes: they may look at all models."""

GLANCE_SECONDS = 0.5
"""Seconds between two looks at whether whoever waits for a change has given up."""

GivesUp = Callable[[], bool]
"""Says whether nobody waits any more. It must be quick, and take no locks."""


def _never() -> bool:
    return False


def _stays(model: ModelConfig) -> bool:
    """True if a model is loaded from the beginning, even with ``lazy_load``.

    A target of traffic that is not loaded gets none, so it would never be.
    """
    return model.pinned or model.traffic is not None


class Manager:
    """Drives ``core`` so that the served versions follow the announcements of ``source``. Thread-safe.

    Owns the source (starts and stops it) and the threads that load and unload; does not own the core.

    One lock, ``_changed``, guards the models and all other changing state. A change of configuration holds
    ``_applying`` throughout, and takes it first.
    """

    def __init__(
        self,
        core: CancellableCore,
        source: Source,
        listener: Listener,
        load_options: LoadOptions | None = None,
        options: LifecycleOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        options = options or LifecycleOptions()
        load_options = load_options or LoadOptions()
        self._core = core
        self._source = source
        self._clock = clock
        self._allowed = AllowedPaths(options.allowed_base_paths)
        self._logging = PayloadLogging(options.payload_log_dir, load_options.tags)
        self._models = Models(clock)
        self._changed = self._models.changed
        self._applying = threading.Lock()
        self._configured: tuple[ModelConfig, ...] = ()
        # Models that are never loaded on demand, by their configuration.
        self._staying: frozenset[str] = frozenset()
        self._applied = False
        # Of configured models only, as last derived by the loop: once a model's availability changes, its
        # labels are placed; and waiting costs nothing per model.
        self._availability: dict[str, Availability] = {}
        # When something of a model is due, of the few of which something is.
        self._times: dict[str, float] = {}
        self._wait_cancelled = False
        self._labels = LabelTable(core, self._models)
        self._traffic = TrafficTable(core)
        self._loader = Loader(core, listener, self._models, load_options, options, PATIENCE)
        self._demand: OnDemand | None = None
        if options.lazy_load:
            threads = max(1, options.load_threads)
            self._demand = OnDemand(core, self._models, options.pinned_models, threads, PATIENCE)
        self._reconciler = Reconciler(core, POLICIES[options.policy], self._loader, self._puts_off)
        self._thread = threading.Thread(target=self._loop, name="manager", daemon=True)

    def start(self) -> None:
        """Starts the source and the loop. Call once."""
        self._thread.start()
        if self._demand is not None:
            self._demand.start(self._ask)
        self._source.start(self)

    def apply(
        self, models: Sequence[ModelConfig], allow_unavailable_labels: bool = False, way: Way = Way.START
    ) -> None:
        """Serves exactly these models from now on: the only way in which a configuration takes effect.

        Validates first and raises ``StatusError`` with nothing changed; one configuration at a time. Does not
        wait for loads.
        """
        self.change(lambda _: models, allow_unavailable_labels, way)

    def change(
        self,
        edit: Callable[[tuple[ModelConfig, ...]], Sequence[ModelConfig]],
        allow_unavailable_labels: bool = False,
        way: Way = Way.ADMINISTRATION,
        renewed: str = "",
    ) -> None:
        """Applies what ``edit`` makes of the present models, like ``apply``; no change comes between.

        renewed: a model whose versions get traffic again that was taken from them; see ``TrafficTable``.
        """
        with self._applying:
            models = edit(self._configured)
            check_models(tuple(models), self._configured)
            check_traffic(models, self._configured, way)
            self._allowed.check(models, self._configured, way)
            self._logging.check(models, self._configured, way)
            if self._applied and way is not Way.START:
                labels.check(models, self._configured, allow_unavailable_labels, way, self.is_available)
            self._applied = True
            warnings = [*self._logging.warnings(models), *traffic_warnings(models, self._configured)]
            for warning in warnings:
                _log.warning("%s", warning)
            before = {model.name: (model.base_path, model.policy) for model in self._configured}
            gone = before.keys() - {model.name for model in models}
            with self._changed:
                self._configured = tuple(models)
                staying = frozenset(model.name for model in models if _stays(model))
                self._staying, new = staying, staying - self._staying
                for model in models:
                    known = self._models.known(model.name)
                    # A finding that nothing is there holds only for the place searched.
                    is_same = before.get(model.name) == (model.base_path, model.policy)
                    known.missing, known.unreadable = known.missing and is_same, known.unreadable and is_same
                    self._availability[model.name] = known.availability()
                for name in gone:
                    del self._availability[name]
            with self._changed:
                self._labels.configure(models, gone)
                for name in new:
                    self._wake(name)
            self._core.set_configured({model.name for model in models})
            self._traffic.configure(models, renewed)
            self._core.set_payload_logs(self._logging.logs(models))
            self._source.watch(models)

    def is_available(self, name: str, version: int) -> bool:
        """True if a version answers, and is not about to be replaced; it may have to be loaded for that."""
        with self._changed:
            known = self._models.by_name.get(name)
            return known is not None and known.stays(version)

    def configured(self) -> tuple[ModelConfig, ...]:
        """Returns the models followed now."""
        # No lock, as the tuple is only replaced: every question to an embedded server may ask.
        return self._configured

    def reload(self, name: str, timeout: float, gives_up: GivesUp = _never) -> bool:
        """Reloads the serving versions of ``name`` from their files, and retries failed versions.

        A version keeps serving until its new load is done, and beyond if that fails. Returns True if all
        loads ended within ``timeout`` seconds, and before the caller ``gives_up``.
        """
        with self._changed:
            model = self._models.by_name.get(name)
            versions = list(model.versions.values()) if model is not None else []
            if model is not None:
                self._reconciler.reload(model)
            return self._wait_for(
                lambda: self._models.stopping or self._is_reloaded(name, versions), timeout, gives_up
            )

    # ---- loads on demand

    def _puts_off(self, name: str) -> bool:
        return self._demand is not None and name not in self._staying and self._demand.puts_off(name)

    def _wake(self, name: str) -> None:
        """Has every version of a model loaded that is not. Called with the lock held."""
        model = self._models.by_name.get(name)
        if model is not None and self._demand is not None:
            self._demand.demand_all(model, self._reconciler)
            # What has just failed is due later.
            self._models.touch(name)

    def _wake_at(self, model: Model) -> float | None:
        """Returns when to try failed loads of a model again that stays, as nobody may ask for it."""
        if self._demand is None or self._puts_off(model.name):
            return None
        return self._demand.retry_at(model)

    def _ask(self, name: str, version: int) -> None:
        """Has a version loaded that requests wait for. Called with the lock held."""
        assert self._demand is not None
        self._demand.demand(name, version, self._reconciler)

    def prefetch(self, name: str) -> None:
        """Has the latest version of ``name`` loaded, if it is loaded on demand; does not wait for that."""
        with self._changed:
            model = self._models.by_name.get(name)
            if model is not None and self._demand is not None:
                self._demand.hint(model, self._reconciler)

    def awaken(self, name: str, version: int | None, label: str | None, timeout: float | None) -> None:
        """Has the version loaded that a question of this process is for, as a request would; waits for that.

        version: None for that of the ``label``, without one for the latest. Does nothing where no load would
        be waited for. Raises ``StatusError`` if that fails, or takes longer than ``timeout`` seconds.
        """
        with self._changed:
            model = self._models.by_name.get(name)
            if label is not None:
                version = self._labels.version(name, label)
            if model is None or self._demand is None or (label is not None and version is None):
                return
            number = self._demand.awaken(model, version, self._reconciler)
            if number is None:
                return
            settled = self._changed.wait_for(
                lambda: self._models.stopping or number not in model.demanded, timeout
            )
            if self._models.stopping:
                raise StatusError("UNAVAILABLE", "The server is stopping")
            if not settled:
                raise StatusError("DEADLINE_EXCEEDED", "Deadline Exceeded")
            self._demand.check(model, number)

    def stays_loaded(self, name: str) -> bool:
        """True if a model makes no room for others, as it is loaded from the beginning and stays."""
        with self._changed:
            return name in self._availability and not self._puts_off(name)

    def wants(self, name: str, version: int) -> bool:
        """True if a version is to be served: it is loaded, or may be."""
        with self._changed:
            model = self._models.by_name.get(name)
            return model is not None and model.wants(version)

    def rest(self, name: str, version: int) -> bool:
        """Unloads a version to make room for others, unless it is pinned, is the last one before a version
        that replaces it is there, or somebody waits for it or holds it.

        The next request has it loaded again. Returns whether it is being unloaded.
        """
        with self._changed:
            model = self._models.by_name.get(name)
            known = model.versions.get(version) if model is not None else None
            if model is None or known is None or self._demand is None or version in model.demanded:
                return False
            if not model.wants(version):
                # Nothing would have it loaded again. The policy unloads it once it is replaced.
                return False
            rests = self._puts_off(name) and self._reconciler.rest(model, known)
            if rests:
                self._models.touch(name)
            return rests

    def _is_reloaded(self, name: str, versions: Sequence[Version]) -> bool:
        """True if all loads have ended, and the loop has processed that."""
        return name not in self._models.touched and not any(one.condition.reloading for one in versions)

    # ---- announcements (Receiver)

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        """See ``Receiver``."""
        with self._changed:
            known = self._models.known(model)
            known.wanted, known.missing, known.unreadable = versions, not versions, False
            self._models.touch(model)

    def missing(self, model: str) -> None:
        """See ``Receiver``."""
        with self._changed:
            known = self._models.known(model)
            known.missing, known.unreadable = not known.wanted, True
            self._models.touch(model)

    # ---- queries and waiting

    def availability(self) -> dict[str, Availability]:
        """Returns the availability of each configured model."""
        with self._changed:
            return dict(self._availability)

    def errors(self) -> dict[str, tuple[int, StatusError]]:
        """Returns model → (version, error) of the highest version whose load has failed."""
        with self._changed:
            failed = {}
            for model in self._models.by_name.values():
                for number in sorted(model.versions):
                    error = model.versions[number].condition.error
                    if error is not None:
                        failed[model.name] = (number, error)
            return failed

    def announced(self, name: str) -> tuple[AspiredVersion, ...] | None:
        """Returns the versions that are wanted of a model; None if nothing was said of its present place yet.

        There are none where that cannot be read, whatever still serves. Just after a change of the place, it
        may be the announcement for the former one.
        """
        with self._changed:
            model = self._models.by_name.get(name)
            if model is None:
                return None
            return () if model.unreadable or model.missing else model.wanted or None

    def conditions(self, name: str) -> dict[int, Condition]:
        """Returns the present conditions of a model's versions."""
        with self._changed:
            model = self._models.by_name.get(name)
            return {} if model is None else model.conditions()

    def failure(self, name: str, version: int) -> tuple[str, StatusError] | None:
        """Returns from where the last load of a version was tried, and why it failed; None if it did not."""
        with self._changed:
            model = self._models.by_name.get(name)
            known = model.versions.get(version) if model is not None else None
            if known is None or known.condition.error is None:
                return None
            return known.condition.place.path, known.condition.error

    def loading(self, name: str, version: int) -> tuple[float, str] | None:
        """Returns for how many seconds a version has been loading, and the phase; None if it is not."""
        with self._changed:
            model = self._models.by_name.get(name)
            known = model.versions.get(version) if model is not None else None
            return None if known is None else self._loader.loading(name, known.condition)

    def wait(
        self,
        enough: Callable[[dict[str, Availability]], bool],
        timeout: float | None = None,
        gives_up: GivesUp = _never,
    ) -> bool:
        """Blocks until ``enough`` returns True for the configured models' availability.

        Returns False after ``timeout`` seconds, if the caller ``gives_up``, or if ``cancel_wait`` or ``stop``
        is called.
        """
        with self._changed:
            done = self._wait_for(
                lambda: self._wait_cancelled or enough(self._availability), timeout, gives_up
            )
            return done and not self._wait_cancelled

    def wait_for_withdrawal(
        self, name: str, timeout: float, wholly: bool = False, gives_up: GivesUp = _never
    ) -> bool:
        """Blocks until no version of a model is loaded, or wanted; wholly: nor is being loaded.

        Returns False after ``timeout`` seconds, if the caller ``gives_up``, or if ``stop`` is called. True at
        once for one that is configured.
        """
        # One that is UNLOADING may have requests in flight, and for a moment get more.
        loaded = (State.AVAILABLE, State.UNLOADING)

        def withdrawn() -> bool:
            if name in self._availability:
                return True
            model = self._models.by_name.get(name)
            left = [] if model is None else model.conditions().values()
            return not any(wholly or one.aspired or one.state in loaded for one in left)

        with self._changed:
            self._wait_for(lambda: self._models.stopping or withdrawn(), timeout, gives_up)
            return withdrawn()

    def _wait_for(self, done: Callable[[], bool], timeout: float | None, gives_up: GivesUp) -> bool:
        """Waits, with the lock, until ``done``; returns whether it is."""
        if gives_up is _never:
            return self._changed.wait_for(done, timeout)
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self._changed.wait_for(done, min(GLANCE_SECONDS, max(0.0, until - time.monotonic()))):
            if gives_up() or time.monotonic() >= until:
                return done()
        return True

    def cancel_wait(self) -> None:
        """Ends every ``wait``, present and future."""
        with self._changed:
            self._wait_cancelled = True
            self._changed.notify_all()

    def end_of_start(self) -> None:
        """Ends the start-up: from now on, limits concurrent loads to protect the serving of requests."""
        self._loader.end_of_start()

    # ---- shutdown

    def stop(self) -> None:
        """Ends announcements, loads and retries.

        Loads inside TensorFlow continue; see ``unload_all``.
        """
        with self._changed:
            self._models.stopping = self._wait_cancelled = True
            self._models.wake_all()
        if self._demand is not None:
            self._demand.stop()
        self._source.stop()
        self._loader.clear()
        if self._thread.ident is not None:
            self._thread.join()

    def unload_all(self, timeout: float) -> bool:
        """Unloads everything, after ``stop``.

        Returns True if that, and every load in progress, ended within ``timeout`` seconds. Loads get only a
        part of it: nobody needs their results any more.
        """
        deadline = self._clock() + timeout
        last_loads = self._clock() + min(timeout, LAST_LOADS_SECONDS)
        loaded = self._loader.wait_for_loads(last_loads)
        if not loaded:
            with self._changed:
                self._loader.report_last_loads()
        self._loader.unload_at_once()
        with self._changed:
            for model, version in self._models.versions():
                if version.condition.may_be_shut_down:
                    version.condition = version.condition.shut_down()
                    self._loader.submit_unload(model, version)
        return self._loader.wait_for_unloads(deadline) and loaded

    # ---- the loop

    def _loop(self) -> None:
        models, told_at, tells = self._models, 0.0, False
        while True:
            with self._changed:
                pause = TELL_SECONDS if tells else self._until_next_time()
                models.woken.wait_for(lambda: models.stopping or models.touched, pause)
                if models.stopping:
                    return
                self._follow_time()
                for name in models.take_touched():
                    self._follow(name)
                    self._note_time(name)
                now = time.monotonic()
                tells = now - told_at < TELL_SECONDS
                if not tells:
                    told_at = now
                    self._changed.notify_all()

    def _until_next_time(self) -> float | None:
        times = self._times.values()
        return min(max(0.0, min(times) - self._clock()), threading.TIMEOUT_MAX) if times else None

    def _note_time(self, name: str) -> None:
        """Notes when something of a model is due: whatever sets a time touches the model."""
        model = self._models.by_name.get(name)
        conditions = [] if model is None else model.conditions().values()
        times = [
            due
            for one in conditions
            for due in (one.retry_at, one.reload_at, self._loader.report_at(one))
            if due is not None
        ]
        if model is not None and (wake_at := self._wake_at(model)) is not None:
            times.append(wake_at)
        if times:
            self._times[name] = min(times)
        else:
            self._times.pop(name, None)

    def _follow_time(self) -> None:
        """Starts the tries that are due, and gives the warnings of long loads that are."""
        now = self._clock()
        for name in [name for name, due in self._times.items() if due <= now]:
            model = self._models.by_name.get(name)
            if model is not None:
                for version in model.versions.values():
                    self._follow_version(model, version, now)
                self._follow_stay(model, now)
            self._note_time(name)

    def _follow_version(self, model: Model, version: Version, now: float) -> None:
        try:
            retry_at, reload_at = version.condition.retry_at, version.condition.reload_at
            if retry_at is not None and retry_at <= now:
                self._reconciler.retry(model, version)
            elif reload_at is not None and reload_at <= now:
                self._reconciler.retry_reload(model, version)
            self._loader.report_long_load(model, version, now)
        except Exception:
            # As in ``_follow``.
            _log.exception("following %s failed", model.name)

    def _follow_stay(self, model: Model, now: float) -> None:
        """Has versions loaded again whose load on demand failed, if that is due."""
        try:
            wake_at = self._wake_at(model)
            if wake_at is not None and wake_at <= now:
                self._wake(model.name)
        except Exception:
            # As in ``_follow``.
            _log.exception("following %s failed", model.name)

    def _follow(self, name: str) -> None:
        """Does everything that follows from touching a model, which may be gone already."""
        model = self._models.by_name.get(name)
        if model is None:
            return
        try:
            self._reconciler.announce(model)
            # In between: a label moves to a version that is there, and leaves one before that goes; and who
            # waited for one gets it.
            self._labels.follow(name)
            if model.demanded and self._demand is not None:
                self._demand.settle(model)
            self._reconciler.reconcile(model)
        except Exception:
            # A defect in one model must not end the serving of all others.
            _log.exception("following %s failed", name)
        if name in self._availability:
            self._availability[name] = model.availability()
        elif not model.versions:
            del self._models.by_name[name]
