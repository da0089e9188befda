"""A core that has versions fetched and made ready before it loads them, and heals those that it could not
load.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from servable.config.traffic import Traffic
from servable.config.values import LoadOptions, PayloadLog
from servable.errors import CancelledError, StatusError
from servable.lifecycle.interfaces import Core, Preparation, Report, Room
from servable.savedmodel.layout import holds_saved_model, keras_file_at
from servable.sources import Fetcher, VersionLoad

HIDDEN = "Could not find variable"
"""How the core's error begins for signatures that do not see their variables (``variables.rs``)."""
HEALED_TAGS = ("serve",)
"""The only tags that a healed model has."""
FETCHING = "its files are being fetched"
_Key = tuple[str, int]


class PreparingCore:
    """``core``, with a ``Preparation`` for the loads that need one: its failure is the load's. See ``Core``.

    make_preparation: called with the first of them, as most servers never need its imports. room: makes room
    for loads, if memory is limited. fetcher: has their files be there; None if they are.
    """

    def __init__(
        self,
        core: Core,
        make_preparation: Callable[[], Preparation],
        room: Room | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._core = core
        self._room = room
        self._fetcher = fetcher
        self._make_preparation = make_preparation
        self._preparation: Preparation | None = None
        self._stopped = False
        self._lock = threading.Lock()
        # By model and version.
        self._loading: dict[_Key, VersionLoad] = {}
        self._fetching: set[_Key] = set()
        self._cancelled: set[_Key] = set()
        # Where each version that serves was loaded from.
        self._serving: dict[_Key, str] = {}

    def stop(self) -> None:
        """Ends preparations; no further one begins."""
        with self._lock:
            self._stopped = True
            for load in self._loading.values():
                load.stopped.set()

    def cancel(self, name: str, version: int) -> None:
        """Ends the preparation of a load, also of one that is about to begin. See ``CancellableCore``."""
        with self._lock:
            self._cancelled.add((name, version))
            load = self._loading.get((name, version))
            if load is not None:
                load.stopped.set()

    def announce(self, name: str, version: int) -> None:
        """See ``Core``."""
        with self._lock:
            self._cancelled.discard((name, version))
        self._core.announce(name, version)

    def phase(self, name: str, version: int) -> str:
        """See ``Core``."""
        with self._lock:
            is_loading, preparation = (name, version) in self._loading, self._preparation
            if (name, version) in self._fetching:
                return FETCHING
        doing = preparation.phase(name, version) if preparation is not None and is_loading else ""
        return doing or self._core.phase(name, version)

    def load(self, name: str, version: int, path: str, options: LoadOptions) -> Report:
        """See ``Core``."""
        try:
            with self._begun(name, version, path) as load:
                return self._load(load, options)
        finally:
            self._ended(name, version)
            self._keep((name, version))

    @contextmanager
    def _begun(self, name: str, version: int, path: str) -> Iterator[VersionLoad]:
        """Surrounds a load, or the part of it before the core's, which may be ended meanwhile."""
        key, load = (name, version), VersionLoad(name, version, path, threading.Event())
        with self._lock:
            self._loading[key] = load
            if self._stopped or key in self._cancelled:
                load.stopped.set()
        try:
            yield load
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def _ended(self, name: str, version: int) -> None:
        """The load is over: what ended it says nothing of the next one."""
        with self._lock:
            self._cancelled.discard((name, version))

    def bring(self, name: str, version: int, path: str) -> None:
        """See ``CancellableCore``."""
        if self._fetcher is None:
            return
        try:
            with self._begun(name, version, path) as load:
                with self._lock:
                    self._fetching.add((name, version))
                self._fetcher.bring(load)
        except BaseException:
            self._ended(name, version)
            raise
        finally:
            with self._lock:
                self._fetching.discard((name, version))

    def _load(self, load: VersionLoad, options: LoadOptions) -> Report:
        name, version, ready = load.model, load.version, load.path
        try:
            if keras_file_at(load.path):
                ready = self._prepared().prepare(load)
                load.check()
            elif options.tags == HEALED_TAGS and holds_saved_model(load.path):
                try:
                    # Not final: the version may be healed.
                    report = self._load_in_core(load, load.path, replace(options, retrying=True))
                except Exception as error:
                    failure = _status(error)
                    if not failure.message.startswith(HIDDEN):
                        raise
                    ready = self._prepared().heal(load, failure)
                    load.check()
                else:
                    return self._loaded(load, ready, report)
        except CancelledError:
            # Not final: it may be wanted again already.
            raise
        except Exception as error:
            self._failed(name, version, error, options)
            raise
        return self._loaded(load, ready, self._load_in_core(load, ready, options))

    def _load_in_core(self, load: VersionLoad, path: str, options: LoadOptions) -> Report:
        """Loads what is ready, once there is room for it."""
        if self._room is None:
            return self._core.load(load.model, load.version, path, options)
        try:
            with self._room.turn(load, path) as turn:
                options = replace(options, most_memory=turn.most)
                report = self._core.load(load.model, load.version, path, options)
                turn.took(report.memory_bytes)
        except StatusError as error:
            # The core's own error is of another type: there is no room.
            self._failed(load.model, load.version, error, options)
            raise
        return report

    def _loaded(self, load: VersionLoad, ready: str, report: Report) -> Report:
        with self._lock:
            self._serving[load.model, load.version] = ready
        return report

    def _keep(self, key: _Key) -> None:
        """Lets go of what was made for a version, but for what it serves from."""
        with self._lock:
            preparation, serves_from = self._preparation, self._serving.get(key, "")
        if preparation is not None:
            preparation.keep(*key, serves_from)

    def _prepared(self) -> Preparation:
        with self._lock:
            if self._preparation is None:
                self._preparation = self._make_preparation()
            return self._preparation

    def _failed(self, name: str, version: int, error: Exception, options: LoadOptions) -> None:
        """Makes a failure final if it is the last one, of a version that does not serve."""
        with self._lock:
            serves = (name, version) in self._serving
        if not options.retrying and not serves:
            failure = _status(error)
            self._core.fail(name, version, failure.code, failure.message)

    def retire(self, name: str, version: int) -> None:
        """See ``Core``."""
        self._core.retire(name, version)

    def unload(self, name: str, version: int) -> None:
        """See ``Core``."""
        self._core.unload(name, version)
        if self._room is not None:
            self._room.freed(name, version)
        with self._lock:
            self._serving.pop((name, version), None)
        self._keep((name, version))
        if self._fetcher is not None:
            self._fetcher.let_go(name, version)

    def fail(self, name: str, version: int, code: str, message: str) -> None:
        """See ``Core``."""
        self._core.fail(name, version, code, message)

    def set_on_demand(self, name: str, version: int, on_demand: bool) -> None:
        """See ``DemandCore``."""
        self._core.set_on_demand(name, version, on_demand)

    def next_demand(self, seconds: float) -> tuple[str, int] | None:
        """See ``DemandCore``."""
        return self._core.next_demand(seconds)

    def demand_loaded(self, name: str, version: int) -> None:
        """See ``DemandCore``."""
        self._core.demand_loaded(name, version)

    def demand_failed(self, name: str, version: int, error: tuple[str, str], seconds: float) -> None:
        """See ``DemandCore``."""
        self._core.demand_failed(name, version, error, seconds)

    def end_demand(self) -> None:
        """See ``DemandCore``."""
        self._core.end_demand()

    def uses(self) -> Sequence[tuple[str, int, float, int, int]]:
        """See ``DemandCore``."""
        return self._core.uses()

    def rest(self, name: str, version: int) -> bool:
        """See ``DemandCore``."""
        return self._core.rest(name, version)

    def set_configured(self, names: set[str]) -> None:
        """See ``Core``."""
        self._core.set_configured(names)

    def set_labels(self, name: str, labels: dict[str, int]) -> None:
        """See ``Core``."""
        self._core.set_labels(name, labels)

    def set_traffic(self, name: str, rules: Traffic | None, renewed: bool = False) -> None:
        """See ``Core``."""
        self._core.set_traffic(name, rules, renewed)

    def set_payload_logs(self, logs: Sequence[PayloadLog]) -> None:
        """See ``Core``."""
        self._core.set_payload_logs(logs)


def _status(error: Exception) -> StatusError:
    """Returns the core's error as a ``StatusError``; what else is raised is a defect."""
    if isinstance(error, StatusError):
        return error
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    if isinstance(code, str) and isinstance(message, str):
        return StatusError(code, message)
    return StatusError("INTERNAL", f"{type(error).__name__}: {error}")
