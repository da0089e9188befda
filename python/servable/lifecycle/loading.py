"""The work on versions, on threads of its own: load, reload, retire, unload.

A failed load releases its thread while it waits for its next try, so that a bad model never delays others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from servable.config import batching, saved_model_config
from servable.config.values import LifecycleOptions, LoadOptions
from servable.errors import CancelledError, StatusError
from servable.lifecycle.condition import Condition, Stage
from servable.lifecycle.interfaces import CancellableCore, Listener, NoRoomError, Report
from servable.lifecycle.models import Model, Models, Version
from servable.lifecycle.workers import Workers
from servable.progress import board

_log = logging.getLogger("servable.manager")

_MOST_RETIRING = 32
"""Most versions that wait for their last requests at once, each on a thread.

Hundreds of threads unloading a thousand models on a busy machine would mostly wait for each other.
"""


class Loader:
    """Loads and unloads versions of ``models``, notifies ``listener``, then touches the model.

    ``models.changed`` guards the conditions. It is not held while the listener is notified or the core loads,
    retires and unloads; methods called with it held say so. patience: seconds after which a load hangs.
    """

    def __init__(
        self,
        core: CancellableCore,
        listener: Listener,
        models: Models,
        load_options: LoadOptions,
        options: LifecycleOptions,
        patience: float,
    ) -> None:
        self._core = core
        self._listener = listener
        self._models = models
        self._changed = models.changed
        self._load_options = load_options
        self._options = options
        self._patience = patience
        self._loaders = Workers("load", options.start_threads, patience)
        # Waiting for requests takes neither memory nor a core, and an endless wait delays no other version.
        self._retirers = Workers("retire", _MOST_RETIRING)
        self._unloaders = Workers("unload", options.unload_threads)
        # Separate: a reload waits for the last request to the version it replaces.
        self._reloaders = Workers("reload", 1, patience)

    # ---- orders

    def submit_load(self, model: Model, version: Version) -> None:
        """Queues the load of a version whose condition says so."""
        self._loaders.submit(lambda: self._load(model, version))

    def submit_reload(self, model: Model, version: Version) -> None:
        """Queues the reload of a serving version whose condition says so."""
        self._reloaders.submit(lambda: self._reload(model, version))

    def submit_unload(self, model: Model, version: Version) -> None:
        """Queues an unload; that of a reloading version follows later. Called with the lock held."""
        if not version.condition.unload_waits:
            self._retirers.submit(lambda: self._retire(model, version))

    def submit_rest(self, model: Model, version: Version) -> None:
        """Queues the unload of a version that no request holds."""
        self._unloaders.submit(lambda: self._unload(model, version))

    def end_of_start(self) -> None:
        """From now on, limits concurrent loads to protect the serving of requests."""
        self._loaders.resize(self._options.load_threads)

    def clear(self) -> None:
        """Drops all loads that have not begun."""
        self._loaders.clear()
        self._reloaders.clear()

    def wait_for_loads(self, deadline: float) -> bool:
        """Returns whether all loads have ended by then."""
        return self._wait_idle(deadline, self._loaders, self._reloaders)

    def unload_at_once(self) -> None:
        """Unloads on many threads: nothing is left that this could disturb."""
        self._unloaders.resize(self._options.start_threads)

    def wait_for_unloads(self, deadline: float) -> bool:
        """Returns whether all unloads have ended by then."""
        return self._wait_idle(deadline, self._retirers, self._unloaders)

    def _wait_idle(self, deadline: float, *all_workers: Workers) -> bool:
        """Waits in order: the earlier workers may submit work to the later ones."""
        return all(workers.wait_idle(max(0.0, deadline - self._models.clock())) for workers in all_workers)

    # ---- long loads; all called with the lock held

    def report_at(self, condition: Condition) -> float | None:
        """Returns when to warn that a load takes long; None if none is in progress."""
        return condition.report_at(self._patience)

    def report_long_load(self, model: Model, version: Version, now: float) -> None:
        """Warns of a long load if it is due for a warning."""
        condition = version.condition
        due = self.report_at(condition)
        if due is None or due > now or condition.loading_since is None:
            return
        # First, so that a warning that fails is not due again at once.
        version.condition = condition.reported()
        self._models.touched.add(model.name)
        _log.warning(
            "%s version %d has been loading for %d s: %s (%s); other models go on",
            model.name,
            condition.place.version,
            now - condition.loading_since,
            self._waits_for(model.name, condition),
            condition.place.path,
        )

    def report_last_loads(self) -> None:
        """Warns of the loads that nobody waits for any more."""
        for model, version in self._models.versions():
            condition = version.condition
            if condition.loading_since is None:
                continue
            with _logged("reporting on", model, version):
                _log.warning(
                    "the load of %s version %d is left where it is: %s",
                    model.name,
                    condition.place.version,
                    self._waits_for(model.name, condition),
                )

    def loading(self, name: str, condition: Condition) -> tuple[float, str] | None:
        """Returns for how many seconds a version has been loading, and the phase; None if it is not."""
        if condition.loading_since is None:
            return None
        return self._models.clock() - condition.loading_since, self._waits_for(name, condition)

    def _waits_for(self, name: str, condition: Condition) -> str:
        phase = self._core.phase(name, condition.place.version)
        if condition.stage is Stage.SETTINGS:
            return phase or "its settings are being read"
        return phase or "it is about to begin or to end"

    # ---- loads

    def _load(self, model: Model, version: Version) -> None:
        """Tries once to load one version."""
        with self._changed:
            condition, number = version.condition, version.condition.place.version
            if not (model.wants(number) or model.awaits(number)) or self._models.stopping:
                self._give_up(model, version, condition.withdrawal)
                return
            begun = self._begin(model, version)
        # What is loaded on demand is tried again by the next one who asks.
        retrying = begun.tries <= self._options.retries and not begun.on_demand
        try:
            report = self._load_in_core(model, version, begun, retrying)
        except StatusError as error:
            self._load_failed(model, version, error, retrying)
            return
        # Notified first, so that everything is in place once the model's availability changes.
        with _logged("notifying of", model, version):
            self._listener.loaded(model.name, begun.place, report)
        with self._changed:
            version.condition = version.condition.loaded()
            self._models.touch(model.name)

    def _reload(self, model: Model, version: Version) -> None:
        """Loads a serving version anew; the core replaces the old load by it."""
        with self._changed:
            condition = version.condition
            begins = condition.may_begin_reload and not self._models.stopping
            if begins:
                condition = self._begin(model, version)
        pause: float | None = None
        failure: StatusError | None = None
        loaded_from = ""
        try:
            if begins:
                report = self._load_in_core(model, version, condition, False)
                loaded_from = condition.place.path
                with _logged("notifying of", model, version):
                    self._listener.loaded(model.name, condition.place, report)
        except StatusError as error:
            pause, failure = self._pause_before_reload(condition, error), error
            with _logged("notifying of", model, version):
                self._listener.failed(model.name, condition.place, error, pause)
        again_at = None if pause is None else self._models.clock() + pause
        self._reload_ended(model, version, lambda now: now.reload_ended(again_at, loaded_from, failure))

    def _pause_before_reload(self, begun: Condition, error: StatusError) -> float | None:
        """Returns the seconds until a failed reload is tried again; None if it is not.

        A file that changed is all that there is of its model, and what failed may pass: a disk was full, a
        file was there before its weights, or its rights.
        """
        is_last = begun.reload_tries > self._options.retries or error.message in self._options.final_errors
        return self._options.retry_seconds if begun.place.reloads and not is_last else None

    def _reload_ended(self, model: Model, version: Version, ended: Callable[[Condition], Condition]) -> None:
        """Ends a reload, after everybody has been told. A pending unload goes ahead now."""
        with self._changed:
            waited = version.condition.unload_waits
            version.condition = ended(version.condition)
            if waited:
                self.submit_unload(model, version)
            self._models.touch(model.name)

    def _begin(self, model: Model, version: Version) -> Condition:
        """Marks the load as begun. Called with the lock held."""
        version.condition = version.condition.load_begun(self._models.clock())
        # So that the loop knows when to warn.
        self._models.touch(model.name)
        return version.condition

    def _load_in_core(self, model: Model, version: Version, begun: Condition, retrying: bool) -> Report:
        try:
            options = self._read_settings(model, version, begun, retrying)
            with self._changed:
                version.condition = version.condition.settings_read()
            version_text = f"{model.name} version {begun.place.version}"
            try:
                with board.task(
                    f"loading {version_text}",
                    detail=lambda: self._core.phase(model.name, begun.place.version),
                ):
                    return self._core.load(model.name, begun.place.version, begun.place.path, options)
            except Exception as error:
                # The core's own error, or a defect: either way only this version has failed.
                raise _status(error) from error
        finally:
            with self._changed:
                version.condition = version.condition.load_returned()

    def _read_settings(self, model: Model, version: Version, begun: Condition, retrying: bool) -> LoadOptions:
        """Returns a version's load options, with its own files considered, which are brought first.

        Raises ``StatusError``.
        """
        try:
            self._core.bring(model.name, begun.place.version, begun.place.path)
            options = replace(self._load_options, retrying=retrying)
            options = saved_model_config.options_for(begun.place.path, options)
            if options.batching and options.batching_per_version:
                options = replace(options, batching=batching.of_version(begun.place.path))
            return options
        except Exception as error:
            failure = _status(error)
            # One that was ended may be wanted again already.
            if not (retrying or begun.reloading or isinstance(failure, CancelledError)):
                self._fail(model, version, failure)
            raise failure from None

    def _load_failed(self, model: Model, version: Version, error: StatusError, retrying: bool) -> None:
        is_final = error.message in self._options.final_errors
        with self._changed:
            place = version.condition.place
            wanted = model.wants(place.version) and not self._models.stopping
            # Wanted again while it was being cancelled: that was no try.
            cancelled = isinstance(error, CancelledError)
            pause = 0.0 if cancelled else self._options.retry_seconds
            again = (retrying or cancelled) and wanted and not is_final
            if (retrying or cancelled) and not wanted:
                self._give_up(model, version, error)
            else:
                if retrying and is_final:
                    self._fail(model, version, error)
                retry_at = self._models.clock() + pause if again else None
                # Where there was no room, the model is not at fault: it is tried until there is.
                counts = not isinstance(error, NoRoomError)
                version.condition = version.condition.load_failed(error, retry_at, counts)
        with _logged("notifying of", model, version):
            self._listener.failed(model.name, place, error, pause if again else None)
        with self._changed:
            version.condition = version.condition.failure_told()
            self._models.touch(model.name)

    def _give_up(self, model: Model, version: Version, error: StatusError) -> None:
        """Ends a withdrawn version that the core still considers loading. Called with the lock held."""
        version.condition = version.condition.given_up()
        self._fail(model, version, error)
        self._models.touch(model.name)

    def _fail(self, model: Model, version: Version, error: StatusError) -> None:
        """Tells the core of a failure outside it."""
        with _logged("failing", model, version):
            self._core.fail(model.name, version.condition.place.version, error.code, error.message)

    # ---- unloads

    def _retire(self, model: Model, version: Version) -> None:
        with _logged("retiring", model, version):
            self._core.retire(model.name, version.condition.place.version)
        self._unloaders.submit(lambda: self._unload(model, version))

    def _unload(self, model: Model, version: Version) -> None:
        place = version.condition.place
        with _logged("unloading", model, version):
            self._core.unload(model.name, place.version)
        with self._changed:
            version.condition = version.condition.unloaded()
        with _logged("notifying of", model, version):
            self._listener.unloaded(model.name, place)
        with self._changed:
            self._models.touch(model.name)


@contextmanager
def _logged(doing: str, model: Model, version: Version) -> Iterator[None]:
    """Logs an error inside, which is a defect and must not keep the version from its next condition."""
    try:
        yield
    except Exception:
        _log.exception("%s %s version %d failed", doing, model.name, version.condition.place.version)


def _status(error: Exception) -> StatusError:
    """Converts the core's error; anything else but a ``StatusError`` is a defect and logged as such."""
    if isinstance(error, StatusError):
        return error
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    if isinstance(code, str) and isinstance(message, str):
        return StatusError(code, message)
    _log.error("unexpected error while loading", exc_info=error)
    return StatusError("INTERNAL", f"{type(error).__name__}: {error}")
