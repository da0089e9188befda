"""The composition root: configuration → core → source → manager → ports, and shutdown on a signal.

Start: TensorFlow's library begins to open on a thread at once; the ports open when every configured model has
settled. Stop, on SIGTERM or SIGINT: clients are told to go elsewhere, and nothing more is loaded; after the
drain delay no connections are accepted, requests in flight finish within the grace period, versions unload,
exit 0. A second signal exits at once. SIGHUP reads the model config file again, and opens the access log's
file again. Where the next server takes over the ports (``handover.py``), it takes the place of the signal.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from servable.admin.changes import Changes
from servable.admin.interfaces import Core as AdminCore
from servable.admin.model_control import ModelControl
from servable.admin.operations import Management
from servable.config import memory_limit
from servable.config.base_paths import AllowedPaths, Way
from servable.config.model_paths import cache_dir, is_remote
from servable.config.residence import too_large, unknown_pins
from servable.config.values import CoreOptions, ModelConfig, ServerConfig
from servable.errors import StatusError
from servable.lifecycle.availability import Availability
from servable.lifecycle.interfaces import Core as LifecycleCore, Preparation
from servable.lifecycle.inventory import Inventory
from servable.lifecycle.manager import Manager
from servable.lifecycle.memory_budget import MemoryBudget
from servable.lifecycle.preparing import PreparingCore
from servable.serving import log_format
from servable.serving.console import Parts, bring_console
from servable.serving.handover import LAST_REQUESTS_SECONDS, ON_ITS_WAY_SECONDS, HandoverSocket
from servable.serving.main_thread import Bell, Outcome
from servable.serving.models_dir import ModelsDir
from servable.serving.readiness import Readiness
from servable.serving.report import StartReport
from servable.serving.surroundings import Surroundings
from servable.sources.discovery import discovery_at
from servable.sources.filesystem import FilesystemSource
from servable.sources.routing import RemoteSource, RoutedSource

if TYPE_CHECKING:
    from servable import _core
    from servable.admin.http import AdminServer
    from servable.sources.listing import Listing

_log = logging.getLogger("servable.server")

EXIT_OK = 0


_Handler = Callable[[int, FrameType | None], None]


class Core(LifecycleCore, AdminCore, Protocol):
    """The part of ``_core.Server`` that a server uses: for the packages below, the ports, and their end."""

    def adopt(self, port: str, socket: int) -> None:
        """Has ``start`` use a copy of ``socket``, which listens already, instead of opening ``port``."""

    def start(self) -> dict[str, str]:
        """Opens the ports; returns the addresses of those opened."""

    def listeners(self) -> dict[str, int]:
        """Returns copies of the listening sockets by port, as descriptors to be closed."""

    def pass_on(self) -> None:
        """Accepts no more, and leaves connections that wait to others who have the sockets."""

    def wait_for_clients(self, seconds: float) -> bool:
        """Waits until no connection is open; True if that happened in this time."""

    def drain(self) -> None:
        """Tells clients to send their next requests elsewhere."""

    def reopen_logs(self) -> None:
        """Opens the access log's file again, and ends those of payload logs."""

    def stop(self, grace_seconds: float) -> bool:
        """Stops accepting and finishes what is in flight; True if all of it ended in time."""


class Server:
    """A server built from a configuration.

    ``run`` serves until a signal; ``start`` and ``stop`` are its two halves.

    make_core: builds the core from ``CoreOptions``; by default the compiled one. before_loading: blocks until
    the first load may begin (TensorFlow is open), or raises ``StatusError``. around: what it does not open
    itself.
    """

    def __init__(
        self,
        config: ServerConfig,
        make_core: Callable[[CoreOptions], Core] | None = None,
        before_loading: Callable[[], None] | None = None,
        around: Surroundings | None = None,
    ) -> None:
        self.config = config
        self._around = around or Surroundings()
        self._handover: HandoverSocket | None = None
        self._bell: Bell | None = None
        self.addresses: dict[str, str] = {}
        self._scheme = "https" if config.core.tls_files else "http"
        self.report = StartReport(self._scheme)
        self._core: Core
        if make_core is None:
            control = _weakly(self._control_model) if config.allow_model_control else None
            self._core = _compiled_core(config.core, _weakly(self.reload_request), control)
        else:
            self._core = make_core(config.core)
        core = self._core
        self._listing = self._listing_of_bucket()
        source = RoutedSource(FilesystemSource(config.poll_seconds), self._remote_source)
        inventory = Inventory(self.report)
        self._room = self._memory_budget(core) if config.lifecycle.memory_budget else None
        self._preparing = PreparingCore(core, self._conversion, self._room, source)
        self.manager = Manager(self._preparing, source, inventory, config.load, config.lifecycle)
        self._models_dir = self._folder_of_models() if config.models_dir else None
        self._model_control = ModelControl(self.manager)
        self._management = Management(config, self._model_control, inventory, core, self.reread)
        self._changes = Changes()
        self._admin: AdminServer | None = None
        told = (lambda: self.addresses), (lambda: self.admin_address)
        parts = Parts(core, self.manager, inventory, self._management, self._changes, *told)
        self._administered = bring_console(config, parts)
        self._followed: tuple[ModelConfig, ...] | None = config.models
        self._not_applied: tuple[str, str] | None = None
        self._before_loading = before_loading or (lambda: None)
        self._rereading = threading.Lock()
        self._ended = threading.Event()
        self._signals = 0
        self._hung_up = False
        self._begun = threading.Event()

    def start(self) -> bool:
        """Loads, waits for the models to settle, opens the ports. False if stopped before that.

        Raises ``StatusError`` if a port cannot be opened, or, if so configured, if a model cannot be served.
        """
        around = self._around
        around.notifier.loading()
        if self.config.handover_socket:
            self._handover = HandoverSocket(self.config.handover_socket, self)
        if not around.is_admin_in_use:
            self._open_admin()
        self._before_loading()
        self.manager.start()
        self._apply_first()
        if not self.manager.wait(self._settled):
            return False
        self._check_models()
        self.addresses = self._open()
        self._take_over()
        self.manager.end_of_start()
        self.report.open_at(self.addresses, console=self.config.core.console == "everywhere")
        self._tell_who_may_reload()
        Readiness(self.manager, around.notifier).tell(took_over=around.former is not None)
        self._follow()
        return True

    def _follow(self) -> None:
        """Starts the threads that follow what changes by itself."""
        if self.config.config_poll_seconds is not None:
            threading.Thread(target=self._poll_config, name="config-poll", daemon=True).start()
        if self._models_dir is not None:
            following = (self._ended, time.monotonic)
            threading.Thread(
                target=self._models_dir.follow, args=following, name="models-dir", daemon=True
            ).start()
        if self._room is not None and self.config.load.engine != "tensorflow":
            # Only where models may move to another engine do they grow.
            threading.Thread(
                target=self._room.follow, args=(self._ended,), name="memory-budget", daemon=True
            ).start()

    def _take_over(self) -> None:
        """Has a former server leave, and waits for the next one."""
        if self._admin is None:
            self._open_admin()
        self._around.take_over()
        if self._handover is not None:
            self._handover.publish()

    def _tell_who_may_reload(self) -> None:
        """Logs where clients may change what is served: any client of the gRPC port can."""
        open_to = [self.addresses[port] for port in ("grpc", "grpc_socket") if port in self.addresses]
        if not open_to or not self.config.allow_reload_rpc:
            return
        paths = ", ".join(self.config.lifecycle.allowed_base_paths) or "any local path"
        _log.info(
            "clients may change the models by HandleReloadConfigRequest on %s, to %s; "
            "see --allow_reload_rpc and --allowed_base_paths",
            " and ".join(open_to),
            paths,
        )

    def stop(self) -> bool:
        """Drains, and unloads within the grace period; True if everything ended in time. Call once."""
        self._ended.set()
        # Others who have the listening sockets have to find them as they are.
        is_shared = self._close_handover() or self._around.kept
        is_passed_on = self._handover is not None and self._handover.is_passed_on
        if not is_passed_on:
            self._around.notifier.stopping()
            self._core.drain()
        self._preparing.stop()
        self.manager.stop()
        if is_passed_on:
            self._core.wait_for_clients(max(self.config.drain_delay_seconds, LAST_REQUESTS_SECONDS))
            # A request may be on its way to the administration.
            time.sleep(ON_ITS_WAY_SECONDS)
        elif self.addresses:
            time.sleep(self.config.drain_delay_seconds)
        if is_shared:
            self._core.pass_on()
        deadline = time.monotonic() + self.config.grace_seconds
        drained = self._core.stop(self.config.grace_seconds) if self.addresses else True
        unloaded = self.manager.unload_all(max(0.0, deadline - time.monotonic()))
        administered = self._close_admin()
        if not (drained and unloaded) and time.monotonic() >= deadline:
            _log.warning("not everything ended within %g s", self.config.grace_seconds)
        return drained and unloaded and administered

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT; returns the exit status.

        Call it on the main thread, because it sets signal handlers.
        """
        bell = self._bell = Bell()
        previous = self._handle_signals()
        # The work runs beside the main thread, which only waits: a Python signal handler runs between two
        # bytecodes of the main thread, so nothing that blocks inside the core may run there.
        outcome = Outcome(self.start, bell)
        if outcome.error is None:
            bell.wait(self._ended.is_set)
            outcome = Outcome(self.stop, bell)
        for number, handler in previous:
            signal.signal(number, handler)
        bell.close()
        if outcome.error is not None:
            self._abandon()
            raise outcome.error
        if not outcome.value:
            # Threads are still inside TensorFlow, or answer the administration.
            leave(EXIT_OK)
        return EXIT_OK

    def _abandon(self) -> None:
        """Closes what a failed start has opened; others who have the listening sockets keep them."""
        if self.addresses:
            if self._around.former is not None or self._around.kept:
                self._core.pass_on()
            self._core.stop(0.0)
        self._close_admin()
        self._close_handover()
        self._around.close()

    @property
    def core(self) -> Core:
        """What serves."""
        return self._core

    @property
    def are_kept(self) -> bool:
        """True if whoever made the listening sockets keeps them open."""
        return self._around.kept

    def listeners(self) -> dict[str, int]:
        """Returns copies of the listening sockets by port, as descriptors to be closed."""
        sockets = self._core.listeners()
        try:
            admin = None if self._admin is None else self._admin.listener()
        except BaseException:
            for one in sockets.values():
                os.close(one)
            raise
        return sockets if admin is None else {**sockets, "admin": admin}

    def pass_on(self) -> None:
        """Stops accepting: the next server has the ports. ``leave`` follows."""
        self._around.notifier.replaced()
        self._core.pass_on()
        if self._admin is not None:
            self._admin.pass_on()

    def leave(self) -> None:
        """Has ``run`` end as by a signal."""
        self._ended.set()
        self.manager.cancel_wait()
        if self._bell is not None:
            self._bell.ring()

    def is_ready(self) -> bool:
        """True while requests are answered: the ports are open and the shutdown has not begun."""
        return bool(self.addresses) and not self._ended.is_set()

    @property
    def admin_address(self) -> str | None:
        """``host:port`` of the administration, None if it is off."""
        return None if self._admin is None else self._admin.address

    def reload(self) -> None:
        """Reads the model config file again and applies it; errors are logged and change nothing."""
        try:
            self._changes.record("reload_config", None, self.reread)
        except StatusError as error:
            self._log_not_applied(error)

    def reread(self) -> None:
        """Does the same as ``reload``, but raises the ``StatusError``."""
        from servable.config.config_files import read_model_config_file

        # One at a time, so that what was read last is applied last.
        with self._rereading:
            models = read_model_config_file(self.config.model_config_file, replacing=True)
            self._apply(models)
            self._followed = models

    def _apply(self, models: tuple[ModelConfig, ...], way: Way = Way.START) -> None:
        with self._model_control.replaced():
            self.manager.apply(models, self.config.allow_unavailable_labels, way)

    def _apply_first(self) -> None:
        """Applies the initial models; reads the file again if a SIGHUP has arrived since it was read."""
        if self._models_dir is not None:
            self._models_dir.apply()
        elif not (self._takes_hangup() and self._reread_in_time()):
            self.manager.apply(self.config.models)
        self._begun.set()
        self._warn_of_residence()

    def _warn_of_residence(self) -> None:
        """Logs what cannot be meant of models that are loaded on demand."""
        config, lifecycle = self.config, self.config.lifecycle
        more_may_come = bool(config.models_dir or config.model_config_file or config.admin)
        for warning in (
            unknown_pins(lifecycle.pinned_models, self.manager.availability(), more_may_come),
            too_large(lifecycle.memory_budget, memory_limit.limit()) if lifecycle.memory_budget else "",
        ):
            if warning:
                _log.warning("%s", warning)

    def _reread_in_time(self) -> bool:
        try:
            self.reread()
        except StatusError as error:
            self._log_not_applied(error)
            return False
        return True

    def _reload_if_changed(self) -> None:
        """Applies the file only if it has changed: otherwise it would undo an administrator's changes."""
        from servable.config.config_files import read_model_config_file

        try:
            with self._rereading:
                models = read_model_config_file(self.config.model_config_file, replacing=True)
                if models != self._followed:
                    self._changes.record("reload_config", None, lambda: self._apply(models))
                    self._followed = models
            if self._not_applied is not None:
                self._not_applied = None
                _log.info("%s can be applied again", self.config.model_config_file)
        except Exception as error:
            # The next poll will most likely report the same, or find a readable file.
            said = f"{type(error).__name__}: {error}", getattr(error, "hint", "")
            if said != self._not_applied:
                self._not_applied = said
                self._log_not_applied(error)

    def _log_not_applied(self, error: Exception) -> None:
        if not isinstance(error, StatusError):
            _log.error("%s is not applied", self.config.model_config_file, exc_info=error)
            return
        hint = f"\n    {error.hint}" if error.hint else ""
        _log.error("%s is not applied: %s%s", self.config.model_config_file, error, hint)

    def reload_request(self, serialized: bytes, timeout: float | None = None) -> None:
        """Handles HandleReloadConfigRequest: applies a ModelServerConfig, waits for the models new in it.

        timeout: seconds until the caller gives up (DEADLINE_EXCEEDED; the configuration stays applied), None
        if the caller never does: a model with nothing to load is then an immediate error instead of an
        endless wait. Raises ``StatusError``; a refused request changes nothing.
        """
        from servable.config.config_files import models_of
        from servable.messages import message_class

        if not self.config.allow_reload_rpc:
            raise StatusError(
                "PERMISSION_DENIED",
                "HandleReloadConfigRequest is off: clients may not change what this server serves",
                "start it with --allow_reload_rpc, or use the administration",
            )
        config = message_class("tensorflow.serving.ModelServerConfig").FromString(serialized)
        if config.WhichOneof("config") is None:
            return
        models = models_of(config)
        new = {model.name for model in models} - set(self.manager.availability())
        self._changes.record("reload_config", None, lambda: self._apply(models, Way.RPC), "client")
        self._wait_for_new(new, timeout)

    def _control_model(self, action: str, name: str, has_left: Callable[[], bool]) -> None:
        """Handles a client's load or unload by the Open Inference Protocol. Raises ``StatusError``."""
        _log.info("%s of model %s by the Open Inference Protocol", action, name)
        try:
            answer = partial(self._model_control.answer, action, name, has_left)
            self._changes.record(action, name, answer, "client")
        finally:
            if has_left():
                _log.info("nobody waits any more for the %s of model %s", action, name)

    def _wait_for_new(self, names: set[str], timeout: float | None) -> None:
        ended = {Availability.AVAILABLE, Availability.ON_DEMAND, Availability.FAILED} | (
            {Availability.MISSING} if timeout is None else set()
        )
        # A name that a later reload has removed is no longer waited for.
        done = self.manager.wait(
            lambda now: all(now.get(name, Availability.FAILED) in ended for name in names), timeout
        )
        availability = self.manager.availability()
        late = sorted(name for name in names if availability.get(name, Availability.FAILED) not in ended)
        if not done and late:
            raise StatusError(
                "DEADLINE_EXCEEDED", f"models still without an available version: {', '.join(late)}"
            )
        bad = {
            name for name in names if availability.get(name) in (Availability.FAILED, Availability.MISSING)
        }
        if bad:
            raise StatusError("UNKNOWN", self._not_available(bad, "model(s)"))

    def _not_available(self, names: set[str], noun: str) -> str:
        """Returns TensorFlow Serving's list of models that did not become available, with their errors."""
        errors = self.manager.errors()
        nothing = (0, StatusError("NOT_FOUND", "no version was found in its base path"))
        listed = ""
        for name in sorted(names):
            version, error = errors.get(name, nothing)
            listed += f"{{{{name: {name} version: {version}}} due to error: {error}}}, "
        return f"{len(names)} {noun} did not become available: {{{listed}}}"

    def _settled(self, availability: dict[str, Availability]) -> bool:
        """True if the ports may open; see ``ServerConfig.wait_for_retries``.

        A model with nothing to load does not delay the others; a server with only such models opens its ports
        only in ``servable serve``, and otherwise waits for a first version, as TensorFlow Serving does.
        """
        settled = {
            Availability.AVAILABLE,
            Availability.ON_DEMAND,
            Availability.FAILED,
            Availability.MISSING,
        }
        if not self.config.wait_for_retries:
            settled |= {Availability.FAILING, Availability.HANGING}
        if not all(one in settled for one in availability.values()):
            return False
        only_missing = bool(availability) and set(availability.values()) == {Availability.MISSING}
        return not (only_missing and self.config.wait_for_retries)

    def _check_models(self) -> None:
        """Raises TensorFlow Serving's error if a model has failed and --exit_on_failed_start is set.

        A server that could answer nothing takes over from none that can.
        """
        bad = {
            name
            for name, one in self.manager.availability().items()
            if one in (Availability.FAILED, Availability.FAILING)
        }
        if bad and self.config.exit_on_failed_start:
            raise StatusError("UNKNOWN", self._not_available(bad, "servable(s)"))
        availability = self.manager.availability()
        answers = {Availability.AVAILABLE, Availability.ON_DEMAND}
        if self._around.former and availability and not answers & set(availability.values()):
            raise StatusError(
                "FAILED_PRECONDITION",
                f"no model is available, so the running server (pid {self._around.former.pid}) goes on: "
                + self._not_available(set(availability), "servable(s)"),
            )

    def _open(self) -> dict[str, str]:
        try:
            self._around.give(self._core)
            return self._core.start()
        except Exception as error:
            code, message = getattr(error, "code", None), getattr(error, "message", None)
            if not isinstance(code, str) or not isinstance(message, str):
                raise
            raise StatusError(code, message) from error

    def _open_admin(self) -> None:
        if self.config.admin is not None:
            from servable.admin.http import AdminServer

            self._admin = AdminServer(
                self._core, self.config.admin, self._administered, self._scheme, self._around.admin
            )

    def _close_admin(self) -> bool:
        """Whether nothing is being administered any more."""
        return self._admin is None or self._admin.close()

    def _close_handover(self) -> bool:
        """Whether another server has the listening sockets."""
        return self._handover is not None and self._handover.close()

    def _poll_config(self) -> None:
        while not self._ended.wait(self.config.config_poll_seconds):
            self._reload_if_changed()

    def _remote_source(self) -> RemoteSource:
        from servable.sources import remote

        config, folder = self.config, cache_dir(self.config.cache_dir, os.environ)
        return remote.RemoteSource(
            config.remote_poll_seconds,
            folder,
            config.max_archive_bytes,
            on_demand=config.lifecycle.lazy_load,
            listing=self._listing,
        )

    def _listing_of_bucket(self) -> Listing | None:
        """Returns what is to be told of the models of ``--models_dir``, if they are fetched one by one."""
        if not (self.config.lifecycle.lazy_load and is_remote(self.config.models_dir)):
            return None
        from servable.sources.listing import Listing

        return Listing()

    def _memory_budget(self, core: Core) -> MemoryBudget:
        return MemoryBudget(
            core,
            self.config.lifecycle.memory_budget,
            lambda *version: self.manager.rest(*version),
            time.monotonic,
            lambda name: self.manager.stays_loaded(name),
            lambda *version: self.manager.wants(*version),
        )

    def _folder_of_models(self) -> ModelsDir:
        place = self.config.models_dir
        poll_seconds = self.config.remote_poll_seconds if is_remote(place) else self.config.poll_seconds
        allowed = AllowedPaths(self.config.lifecycle.allowed_base_paths)
        discovery = discovery_at(place, self._listing)
        if is_remote(place):
            from servable.sources.remembered import Remembered

            discovery = Remembered(place, discovery, cache_dir(self.config.cache_dir, os.environ))
        return ModelsDir(place, discovery, self.manager, poll_seconds, allowed)

    def _conversion(self) -> Preparation:
        from servable.sources.conversion import Conversion

        return Conversion(cache_dir(self.config.cache_dir, os.environ))

    # ---- signals

    def _handle_signals(self) -> list[tuple[int, Any]]:
        handled: list[tuple[int, _Handler]] = [
            (signal.SIGTERM, self._on_stop),
            (signal.SIGINT, self._on_stop),
        ]
        if hasattr(signal, "SIGHUP"):
            # Without a file to open again, a hang-up means what it says: the terminal is gone.
            has_file = bool(self.config.model_config_file) or self._logs_to_file()
            handled.append((signal.SIGHUP, self._on_hangup if has_file else self._on_stop))
        previous = [(number, signal.signal(number, handler)) for number, handler in handled]
        if hasattr(signal, "SIGHUP"):
            # The command has blocked it until now; see ``cli/dispatch.py``.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        return previous

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            leave(128 + number)
        self._ended.set()
        threading.Thread(target=self._begin_to_stop, args=(number,), name="signal", daemon=True).start()

    def _begin_to_stop(self, number: int) -> None:
        """Runs beside the handler, which must not log or take locks: the main thread may hold them."""
        _log.info("%s: finishing requests in flight; once more to exit at once", signal.Signals(number).name)
        self.manager.cancel_wait()

    def _logs_to_file(self) -> bool:
        log = self.config.core.access_log
        return log is not None and log.output not in ("stdout", "stderr")

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = bool(self.config.model_config_file)
        threading.Thread(target=self._reload_in_turn, name="reload", daemon=True).start()

    def _reload_in_turn(self) -> None:
        """Reloads, but not before the initial configuration is applied, which would replace it.

        Logs are opened again at once.
        """
        self._core.reopen_logs()
        self._begun.wait()
        if self._takes_hangup():
            self._around.notifier.reloading()
            try:
                self.reload()
            finally:
                self._around.notifier.reloaded()

    def _takes_hangup(self) -> bool:
        """Returns whether to read the file again.

        Clears the flag first, so that a later signal counts again.
        """
        hung_up, self._hung_up = self._hung_up, False
        return hung_up


def _weakly(method: Callable[..., None]) -> Callable[..., None]:
    """Returns ``method`` without a reference to its object, which has one to the core that calls it."""
    known = weakref.WeakMethod(method)

    def call(*arguments: object) -> None:
        bound = known()
        if bound is None:
            raise StatusError("UNAVAILABLE", "The server is stopping")
        bound(*arguments)

    return call


def leave(status: int) -> None:
    """Ends the process without waiting for threads that are inside TensorFlow."""
    log_format.end()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def check_ports(config: ServerConfig, inherited: Collection[str] = ()) -> None:
    """Raises ``StatusError`` if a port is taken, before anything is loaded. inherited: those open already."""
    from servable.serving import ports

    wanted = (
        ("grpc", config.core.grpc_address, "port", "Failed to BuildAndStart gRPC server"),
        ("rest", config.core.rest_address, "rest_api_port", "Failed to start HTTP Server"),
    )
    for name, address, flag, text in wanted:
        if address is None or address.endswith(":0") or name in inherited:
            continue
        try:
            free = ports.is_free(address)
        except OSError as error:
            raise StatusError(
                "INVALID_ARGUMENT", text, f"cannot listen on {address}: {error.strerror}"
            ) from None
        if not free:
            raise StatusError("INVALID_ARGUMENT", text, ports.port_hint(address, flag))


def _compiled_core(
    options: CoreOptions,
    on_reload: Callable[[bytes, float | None], None],
    on_model_control: Callable[[str, str, Callable[[], bool]], None] | None,
) -> _core.Server:
    from servable import _core

    try:
        return _core.Server(options, on_reload, on_model_control)
    except _core.CoreError as error:
        raise StatusError(error.code, error.message) from None
