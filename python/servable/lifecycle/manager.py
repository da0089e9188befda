"""The loop that makes the served versions follow the aspired ones.

Sources announce (``aspire``, ``missing``), configuration enters (``apply``), loads and unloads finish: each
marks a model as touched and wakes the loop, which takes a snapshot of every touched model, asks the policy
for the next action until there is none, and hands loads and unloads to threads of their own. A failed load
gives its thread back while it waits for its next try, so that one bad model never holds up another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from servable.config import batching, saved_model_config
from servable.config.base_paths import AllowedPaths, Way
from servable.config.values import BatchingOptions, LifecycleOptions, LoadOptions, ModelConfig, check_models
from servable.errors import StatusError
from servable.lifecycle import labels
from servable.lifecycle.policy import POLICIES, Load, Snapshot, State
from servable.lifecycle.workers import Workers
from servable.sources import AspiredVersion, Source

_log = logging.getLogger("manager")


PATIENCE = 30.0
"""Seconds after which a load counts as hanging: its place goes to the next one, and the log says so."""

LAST_LOADS_SECONDS = 2.0
"""How long the end waits for loads that are under way."""

_MOST_RETIRING = 32
"""Versions that wait for the last of their requests at once, each on a thread. Hundreds of threads that
unload a thousand models on a busy machine would mostly wait for each other."""


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

    def load(self, name: str, version: int, path: str, options: object) -> Report:
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


class Availability(Enum):
    """How a configured model stands, for whoever waits for it."""

    WAITING = "waiting"  # nothing has been announced, or nothing has come of it yet
    MISSING = "missing"  # its source has nothing to load
    FAILING = "failing"  # a load failed, and will be tried again
    HANGING = "hanging"  # a load has been under way for so long that nobody should wait for it
    FAILED = "failed"  # a version is at END
    AVAILABLE = "available"


@dataclass
class _Version:
    """A managed version: from its announcement until it is at END and no longer wanted."""

    place: AspiredVersion
    state: State = State.START
    aspired: bool = True
    tries: int = 0
    retry_at: float | None = None
    error: StatusError | None = None
    reloading: bool = False
    loading_since: float | None = None
    reads_settings: bool = False
    told: int = 0

    @property
    def tell_at(self) -> float | None:
        """When it is time to say that its load takes long: after the patience, and then ever more rarely."""
        return None if self.loading_since is None else self.loading_since + PATIENCE * 2**self.told


@dataclass
class _Model:
    """What is known of one model. wanted: the last announcement; None before the first."""

    name: str
    wanted: tuple[AspiredVersion, ...] | None = None
    missing: bool = False
    versions: dict[int, _Version] = field(default_factory=dict)

    def wants(self, version: int) -> bool:
        """As last announced, whether or not the loop has taken it over yet."""
        return any(one.version == version for one in self.wanted or ())


class Manager:
    """Drives ``core`` so that what is served follows what ``source`` announces. All methods are thread-safe.

    Owns the source (starts and stops it) and the threads that load and unload; does not own the core.
    """

    def __init__(
        self,
        core: Core,
        source: Source,
        listener: Listener,
        load_options: LoadOptions | None = None,
        options: LifecycleOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = core
        self._source = source
        self._listener = listener
        self._load_options = load_options or LoadOptions()
        self._options = options or LifecycleOptions()
        self._clock = clock
        self._allowed = AllowedPaths(self._options.allowed_base_paths)
        self._policy = POLICIES[self._options.policy]
        self._changed = threading.Condition()
        self._applying = threading.Lock()
        self._configured: tuple[ModelConfig, ...] = ()
        self._applied = False
        self._models: dict[str, _Model] = {}
        # Of the configured models only; kept up to date by the loop, so that waiting costs nothing per model.
        self._availability: dict[str, Availability] = {}
        # The configured models that have labels, and where these are.
        self._labelled: dict[str, ModelConfig] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._touched: set[str] = set()
        self._stopping = False
        self._wait_cancelled = False
        self._loaders = Workers("load", self._options.start_threads, PATIENCE)
        # Waiting for requests takes no memory and no core: one that goes on for ever holds up nobody else's.
        self._retirers = Workers("retire", _MOST_RETIRING)
        self._unloaders = Workers("unload", self._options.unload_threads)
        # Of its own: a reload waits for the last request to the version it replaces.
        self._reloaders = Workers("reload", 1, PATIENCE)
        self._thread = threading.Thread(target=self._loop, name="manager", daemon=True)

    def start(self) -> None:
        """Starts the source and the loop. Call once."""
        self._thread.start()
        self._source.start(self)

    def apply(
        self, models: Sequence[ModelConfig], allow_unavailable_labels: bool = False, way: Way = Way.START
    ) -> None:
        """Serve these models, and no others, from now on: the single way in which configuration enters.

        Validates first and raises ``StatusError`` with nothing changed; one configuration at a time. Does not
        wait for loads.
        """
        self.change(lambda _: models, allow_unavailable_labels, way)

    def change(
        self,
        edit: Callable[[tuple[ModelConfig, ...]], Sequence[ModelConfig]],
        allow_unavailable_labels: bool = False,
        way: Way = Way.ADMINISTRATION,
    ) -> None:
        """Like ``apply``, with what ``edit`` makes of the present models; no other change comes between."""
        with self._applying:
            models = edit(self._configured)
            check_models(tuple(models), self._configured)
            self._allowed.check(models, self._configured, way)
            if self._applied and way is not Way.START:
                self._check_labels(models, allow_unavailable_labels, way)
            self._applied = True
            _warn_of_logging(models)
            before = {model.name: (model.base_path, model.policy) for model in self._configured}
            gone = before.keys() - {model.name for model in models}
            with self._changed:
                self._configured = tuple(models)
                for model in models:
                    known = self._models.setdefault(model.name, _Model(model.name))
                    # That nothing was found is true of where it was looked for.
                    known.missing &= before.get(model.name) == (model.base_path, model.policy)
                    self._availability[model.name] = _availability_of(known)
                for name in gone:
                    del self._availability[name]
            with self._changed:
                self._labelled = {model.name: model for model in models if model.labels}
                for name in gone:
                    self._core.set_labels(name, {})
                    self._labels.pop(name, None)
                for model in models:
                    self._labels.setdefault(model.name, {})
                    self._place_labels(model)
            self._source.watch(models)

    def _place_labels(self, model: ModelConfig) -> None:
        """Puts the labels of a configured model where they are by now; see ``labels.py``."""
        known = self._models.get(model.name)
        now = labels.in_force(
            model.labels,
            self._labels.get(model.name, {}),
            lambda version: known is not None and _stays(known, version),
        )
        if now != self._labels.get(model.name) or not now:
            self._labels[model.name] = now
            self._core.set_labels(model.name, now)

    def _check_labels(self, models: Sequence[ModelConfig], allow_new: bool, way: Way) -> None:
        """While serving, clients may put a label on an available version only, unless new and ``allow_new``.

        A label that stays where it is is not looked at again. What config files say applies when the version
        serves, and so does what the administration says of a model that it adds.
        """
        before = {model.name: model.labels for model in self._configured}
        for model in models:
            old = before.get(model.name, {})
            for label, version in model.labels.items():
                settled = old.get(label) == version or (allow_new and label not in old)
                settled = settled or (way is Way.ADMINISTRATION and model.name not in before)
                if not settled and not self._is_available(model.name, version):
                    raise StatusError(
                        "FAILED_PRECONDITION",
                        f"Request to assign label to version {version} of model {model.name}, "
                        "which is not currently available for inference",
                        "new labels may be, with --allow_version_labels_for_unavailable_models",
                    )

    def _is_available(self, name: str, version: int) -> bool:
        with self._changed:
            known = self._models.get(name)
            return known is not None and _stays(known, version)

    def configured(self) -> tuple[ModelConfig, ...]:
        """The models that are followed now."""
        with self._changed:
            return self._configured

    def reload(self, name: str, timeout: float) -> bool:
        """Loads what ``name`` serves again from its files, and tries failed versions once more.

        A version serves as it was until its new load is done, and goes on if that fails.
        True when all loads have ended within ``timeout`` seconds.
        """
        with self._changed:
            model = self._models.get(name)
            entries = list(model.versions.values()) if model is not None else []
            for entry in entries:
                if model is None or entry.reloading:
                    continue
                if entry.state is State.AVAILABLE:
                    entry.reloading = True
                    self._submit_reload(model, entry)
                elif entry.error is not None:
                    entry.tries = 0
                    if entry.state is State.END:
                        entry.state, entry.reloading = State.LOADING, True
                        self._submit_load(model, entry)
                    elif entry.retry_at is not None:
                        entry.retry_at, entry.reloading = None, True
                        self._submit_load(model, entry)
            return self._changed.wait_for(lambda: self._stopping or self._is_reloaded(name, entries), timeout)

    def _is_reloaded(self, name: str, entries: Sequence[_Version]) -> bool:
        """All loads have ended, and the loop has taken notice."""
        return name not in self._touched and not any(entry.reloading for entry in entries)

    # ---- announcements (Receiver)

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        """See ``Receiver``."""
        with self._changed:
            known = self._models.setdefault(model, _Model(model))
            known.wanted, known.missing = versions, not versions
            self._touch(model)

    def missing(self, model: str) -> None:
        """See ``Receiver``."""
        with self._changed:
            known = self._models.setdefault(model, _Model(model))
            known.missing = not known.wanted
            self._touch(model)

    # ---- waiting

    def availability(self) -> dict[str, Availability]:
        """How each configured model stands."""
        with self._changed:
            return dict(self._availability)

    def errors(self) -> dict[str, tuple[int, StatusError]]:
        """Model → (version, error) of the highest version whose load has failed."""
        with self._changed:
            failed = {}
            for model in self._models.values():
                for number in sorted(model.versions):
                    error = model.versions[number].error
                    if error is not None:
                        failed[model.name] = (number, error)
            return failed

    def wait(self, enough: Callable[[dict[str, Availability]], bool], timeout: float | None = None) -> bool:
        """Blocks until ``enough`` says so of the configured models' availability (True).

        False after ``timeout`` seconds, or when ``cancel_wait`` or ``stop`` is called.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._wait_cancelled or enough(self._availability), timeout)
            return done and not self._wait_cancelled

    def cancel_wait(self) -> None:
        """Ends every ``wait``, present and future."""
        with self._changed:
            self._wait_cancelled = True
            self._changed.notify_all()

    def end_of_start(self) -> None:
        """Start-up is over: from now on only so many loads at once as protects the serving of requests."""
        self._loaders.resize(self._options.load_threads)

    # ---- the end

    def stop(self) -> None:
        """No more announcements, loads and retries.

        Loads that are inside TensorFlow go on; see ``unload_all``.
        """
        with self._changed:
            self._stopping = self._wait_cancelled = True
            self._changed.notify_all()
        self._source.stop()
        self._loaders.clear()
        self._reloaders.clear()
        if self._thread.ident is not None:
            self._thread.join()

    def unload_all(self, timeout: float) -> bool:
        """After ``stop``: unloads everything.

        True if that, and every load under way, ended in ``timeout`` seconds. Loads get a part of it: nobody
        waits for what they bring any more.
        """
        deadline = self._clock() + timeout
        last_loads = self._clock() + min(timeout, LAST_LOADS_SECONDS)
        loaded = self._wait_idle(last_loads, self._loaders, self._reloaders)
        if not loaded:
            self._tell_of_last_loads()
        # Nothing is left that unloading could disturb.
        self._unloaders.resize(self._options.start_threads)
        with self._changed:
            for model in self._models.values():
                for entry in model.versions.values():
                    if entry.state is State.AVAILABLE:
                        entry.state, entry.aspired, entry.reloading = State.UNLOADING, False, False
                        self._submit_unload(model, entry)
        return self._wait_idle(deadline, self._retirers, self._unloaders) and loaded

    def _wait_idle(self, deadline: float, *all_workers: Workers) -> bool:
        """In turn: what the earlier ones do may be work for the later ones."""
        return all(workers.wait_idle(max(0.0, deadline - self._clock())) for workers in all_workers)

    def _tell_of_last_loads(self) -> None:
        with self._changed:
            for model in self._models.values():
                for number, entry in model.versions.items():
                    if entry.loading_since is not None:
                        _log.warning(
                            "the load of %s version %d is left where it is: %s",
                            model.name,
                            number,
                            self._waits_for(model.name, entry),
                        )

    # ---- the loop

    def _touch(self, model: str) -> None:
        self._touched.add(model)
        self._changed.notify_all()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._touched, self._until_next_time())
                if self._stopping:
                    return
                self._wake_retries()
                self._tell_of_long_loads()
                touched, self._touched = self._touched, set()
                for name in touched:
                    self._follow(name)
                self._changed.notify_all()

    def _follow(self, name: str) -> None:
        """Everything that follows from one model having been touched, which may be gone already."""
        model = self._models.get(name)
        if model is None:
            return
        try:
            # Before anything is unloaded: a label leaves a version before it goes.
            config = self._labelled.get(name)
            if config is not None and config.labels != self._labels.get(name):
                self._place_labels(config)
            self._advance(model)
        except Exception:
            # A defect that one model brings to light must not end the serving of all others.
            _log.exception("following %s failed", name)
        if model.name in self._availability:
            self._availability[model.name] = _availability_of(model)
        elif not model.versions:
            del self._models[model.name]

    def _until_next_time(self) -> float | None:
        times = [
            time
            for model in self._models.values()
            for entry in model.versions.values()
            for time in (entry.retry_at, entry.tell_at)
            if time is not None
        ]
        return min(max(0.0, min(times) - self._clock()), threading.TIMEOUT_MAX) if times else None

    def _tell_of_long_loads(self) -> None:
        now = self._clock()
        for model in self._models.values():
            for number, entry in model.versions.items():
                if entry.tell_at is None or entry.tell_at > now or entry.loading_since is None:
                    continue
                entry.told += 1
                self._touched.add(model.name)
                _log.warning(
                    "%s version %d has been loading for %d s: %s (%s); other models go on",
                    model.name,
                    number,
                    now - entry.loading_since,
                    self._waits_for(model.name, entry),
                    entry.place.path,
                )

    def loading(self, name: str, version: int) -> tuple[float, str] | None:
        """For how many seconds a version has been loading, and what the load is at; None when it is not."""
        with self._changed:
            model = self._models.get(name)
            entry = model.versions.get(version) if model is not None else None
            if entry is None or entry.loading_since is None:
                return None
            return self._clock() - entry.loading_since, self._waits_for(name, entry)

    def _waits_for(self, name: str, entry: _Version) -> str:
        if entry.reads_settings:
            return "its settings are being read"
        return self._core.phase(name, entry.place.version) or "it is about to begin or to end"

    def _wake_retries(self) -> None:
        now = self._clock()
        for model in self._models.values():
            for entry in model.versions.values():
                if entry.retry_at is not None and entry.retry_at <= now:
                    entry.retry_at = None
                    self._submit_load(model, entry)

    def _advance(self, model: _Model) -> None:
        """Takes over the last announcement and starts every action that the policy asks for."""
        self._merge(model)
        while True:
            snapshots = [Snapshot(number, one.state, one.aspired) for number, one in model.versions.items()]
            action = self._policy(snapshots)
            if action is None:
                return
            entry = model.versions[action.version]
            if isinstance(action, Load):
                entry.state = State.LOADING
                self._submit_load(model, entry)
            else:
                entry.state = State.UNLOADING
                self._submit_unload(model, entry)

    def _merge(self, model: _Model) -> None:
        """Marks what is wanted.

        A version on its way out that is wanted again counts as wanted, so that the policy keeps what serves
        meanwhile, and becomes new once it is gone.
        """
        wanted = {one.version: one for one in model.wanted or ()}
        for number, entry in list(model.versions.items()):
            entry.aspired = number in wanted and not self._ended(entry)
            if number not in wanted:
                self._withdraw(model, entry)
            if entry.state is State.END and not entry.aspired:
                del model.versions[number]
        for number, place in wanted.items():
            known = model.versions.get(number)
            if known is not None and known.error is not None and known.place != place:
                self._repaired(model, known, place)
            elif known is not None and known.state is State.AVAILABLE:
                # Where a reload will find it.
                known.place = place
            if number not in model.versions:
                model.versions[number] = _Version(place)
                self._core.announce(model.name, number)

    def _repaired(self, model: _Model, entry: _Version, place: AspiredVersion) -> None:
        """A failed version whose files have changed: at END it is new again, else its next try is now."""
        if entry.state is State.END:
            del model.versions[place.version]
        elif entry.retry_at is not None:
            entry.place, entry.tries, entry.retry_at = place, 0, None
            self._submit_load(model, entry)

    @staticmethod
    def _ended(entry: _Version) -> bool:
        """At END because it was unloaded, rather than because its load failed."""
        return entry.state is State.END and entry.error is None

    def _withdraw(self, model: _Model, entry: _Version) -> None:
        """Ends a version that is no longer wanted and is not loaded yet, or waits for its next try."""
        if entry.state is State.START or entry.retry_at is not None:
            entry.retry_at = None
            entry.state = State.END
            error = entry.error or _withdrawn()
            self._core.fail(model.name, entry.place.version, error.code, error.message)

    # ---- work, on threads of its own

    def _submit_load(self, model: _Model, entry: _Version) -> None:
        self._loaders.submit(lambda: self._load(model, entry))

    def _submit_reload(self, model: _Model, entry: _Version) -> None:
        self._reloaders.submit(lambda: self._reload(model, entry))

    def _submit_unload(self, model: _Model, entry: _Version) -> None:
        """A version that is being loaded again goes when that is done."""
        if not entry.reloading:
            self._retirers.submit(lambda: self._retire(model, entry))

    def _load(self, model: _Model, entry: _Version) -> None:
        """One try to load one version."""
        with self._changed:
            if not model.wants(entry.place.version) or self._stopping:
                self._give_up(model, entry, entry.error or _withdrawn())
                return
            entry.tries += 1
            retrying = entry.tries <= self._options.retries
        try:
            report = self._load_in_core(model, entry, retrying)
        except StatusError as error:
            self._load_failed(model, entry, error, retrying)
            return
        # Told first: who waits for the model to stand otherwise finds everything else in its place.
        self._listener.loaded(model.name, entry.place, report)
        with self._changed:
            entry.state, entry.error = State.AVAILABLE, None
        self._load_ended(model, entry)

    def _load_in_core(self, model: _Model, entry: _Version, retrying: bool) -> Report:
        with self._changed:
            entry.loading_since, entry.told, entry.reads_settings = self._clock(), 0, True
            # So that the loop knows when it is time to tell.
            self._touch(model.name)
        try:
            return self._loaded_in_core(model, entry, retrying)
        finally:
            with self._changed:
                entry.loading_since = None

    def _loaded_in_core(self, model: _Model, entry: _Version, retrying: bool) -> Report:
        options = replace(self._load_options, retrying=retrying)
        options = saved_model_config.options_for(entry.place.path, options)
        if options.batching and options.batching_per_version:
            options = replace(options, batching=self._batching_of(model, entry, retrying))
        entry.reads_settings = False
        try:
            return self._core.load(model.name, entry.place.version, entry.place.path, options)
        except Exception as error:
            # The core's own error, or a defect: either way this version alone has failed.
            raise _status(error) from error

    def _batching_of(self, model: _Model, entry: _Version, retrying: bool) -> BatchingOptions | None:
        """What the version's own file says; one that cannot be read is a load that fails."""
        try:
            return batching.of_version(entry.place.path)
        except StatusError as error:
            if not retrying and not entry.reloading:
                self._core.fail(model.name, entry.place.version, error.code, error.message)
            raise

    def _reload(self, model: _Model, entry: _Version) -> None:
        """A new load of a version that serves; the core puts it in the old one's place."""
        try:
            with self._changed:
                gone = self._stopping or entry.state is not State.AVAILABLE
            if not gone:
                self._listener.loaded(model.name, entry.place, self._load_in_core(model, entry, False))
        except StatusError as error:
            self._listener.failed(model.name, entry.place, error, None)
        self._load_ended(model, entry)

    def _load_failed(self, model: _Model, entry: _Version, error: StatusError, retrying: bool) -> None:
        pause = self._options.retry_seconds
        with self._changed:
            entry.error = error
            again = retrying and model.wants(entry.place.version) and not self._stopping
            if again:
                entry.retry_at = self._clock() + pause
            elif retrying:
                self._give_up(model, entry, error)
            else:
                entry.state = State.END
        self._listener.failed(model.name, entry.place, error, pause if again else None)
        self._load_ended(model, entry)

    def _load_ended(self, model: _Model, entry: _Version) -> None:
        """After everybody has been told. What was to be unloaded meanwhile goes now."""
        with self._changed:
            was_reloading, entry.reloading = entry.reloading, False
            if was_reloading and entry.state is State.UNLOADING:
                self._submit_unload(model, entry)
            self._touch(model.name)

    def _give_up(self, model: _Model, entry: _Version, error: StatusError) -> None:
        """Ends a withdrawn version whose load the core still regards as going on; wanted again, it is new."""
        entry.state, entry.error, entry.reloading = State.END, None, False
        self._core.fail(model.name, entry.place.version, error.code, error.message)
        self._touch(model.name)

    def _retire(self, model: _Model, entry: _Version) -> None:
        try:
            self._core.retire(model.name, entry.place.version)
        except Exception:
            _log.exception("retiring %s version %d failed", model.name, entry.place.version)
        self._unloaders.submit(lambda: self._unload(model, entry))

    def _unload(self, model: _Model, entry: _Version) -> None:
        try:
            self._core.unload(model.name, entry.place.version)
        except Exception:
            _log.exception("unloading %s version %d failed", model.name, entry.place.version)
        with self._changed:
            entry.state, entry.error = State.END, None
        self._listener.unloaded(model.name, entry.place)
        with self._changed:
            self._touch(model.name)


def _stays(model: _Model, version: int) -> bool:
    """Serves, and is not about to go because one that is wanted in its place serves, too."""
    serving = [number for number, one in model.versions.items() if one.state is State.AVAILABLE]
    return version in serving and (model.wants(version) or not any(map(model.wants, serving)))


def _availability_of(model: _Model) -> Availability:
    entries = model.versions.values()
    if any(one.state is State.AVAILABLE for one in entries):
        return Availability.AVAILABLE
    if any(one.state is State.END and one.error is not None for one in entries):
        return Availability.FAILED
    if any(one.error is not None for one in entries):
        return Availability.FAILING
    if any(one.told for one in entries):
        return Availability.HANGING
    if model.missing and not entries:
        return Availability.MISSING
    return Availability.WAITING


def _warn_of_logging(models: Sequence[ModelConfig]) -> None:
    for model in models:
        if model.logged:
            _log.warning("logging_config of model %s has no effect: requests are not logged yet", model.name)


def _withdrawn() -> StatusError:
    return StatusError("CANCELLED", "The version was withdrawn before it was loaded")


def _status(error: Exception) -> StatusError:
    """The core's error as ours; anything else is a defect and says so."""
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    if isinstance(code, str) and isinstance(message, str):
        return StatusError(code, message)
    _log.error("unexpected error while loading", exc_info=error)
    return StatusError("INTERNAL", f"{type(error).__name__}: {error}")
