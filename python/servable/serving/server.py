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
from servable.config.residence import too_large, unknown_pins
from servable.config.values import CoreOptions, ServerConfig
from servable.errors import StatusError
from servable.lifecycle.interfaces import Core as LifecycleCore
from servable.lifecycle.inventory import Inventory
from servable.lifecycle.manager import Manager
from servable.lifecycle.memory_budget import MemoryBudget
from servable.lifecycle.preparing import PreparingCore
from servable.serving import log_format
from servable.serving.config_changes import ConfigChanges
from servable.serving.console import Parts, bring_console
from servable.serving.handover import LAST_REQUESTS_SECONDS, ON_ITS_WAY_SECONDS, HandoverSocket
from servable.serving.main_thread import Bell, Outcome
from servable.serving.model_sources import conversion_of, listing_of_bucket, models_dir_of, source_of
from servable.serving.readiness import Readiness
from servable.serving.report import StartReport
from servable.serving.settling import check_settled, have_settled
from servable.serving.surroundings import Surroundings

if TYPE_CHECKING:
    from servable import _core
    from servable.admin.http import AdminServer

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
        listing = listing_of_bucket(config)
        self.source = source = source_of(config, listing)
        inventory = Inventory(self.report)
        self._room = self._memory_budget(core) if config.lifecycle.memory_budget else None
        self._preparing = PreparingCore(core, partial(conversion_of, config), self._room, source)
        self.manager = Manager(self._preparing, source, inventory, config.load, config.lifecycle)
        self._models_dir = models_dir_of(config, self.manager, listing)
        model_control, changes = ModelControl(self.manager), Changes()
        self._config_changes = ConfigChanges(config, self.manager, model_control, changes)
        management = Management(config, model_control, inventory, core, self._config_changes.reread)
        self._admin: AdminServer | None = None
        told = (lambda: self.addresses), (lambda: self.admin_address)
        parts = Parts(core, self.manager, inventory, management, changes, *told)
        self._administered = bring_console(config, parts)
        self._before_loading = before_loading or (lambda: None)
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
        if not self.manager.wait(lambda now: have_settled(now, self.config.wait_for_retries)):
            return False
        check_settled(self.config, self.manager, around.former.pid if around.former else None)
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
            threading.Thread(
                target=self._config_changes.follow, args=(self._ended,), name="config-poll", daemon=True
            ).start()
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
        self._config_changes.reload()

    def reload_request(self, serialized: bytes, timeout: float | None = None) -> None:
        """Handles HandleReloadConfigRequest; see ``ConfigChanges``."""
        self._config_changes.reload_request(serialized, timeout)

    def _control_model(self, action: str, name: str, has_left: Callable[[], bool]) -> None:
        self._config_changes.control_model(action, name, has_left)

    def _apply_first(self) -> None:
        """Applies the initial models; reads the file again if a SIGHUP has arrived since it was read."""
        if self._models_dir is not None:
            self._models_dir.apply()
        elif not (self._takes_hangup() and self._config_changes.reread_in_time()):
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

    def _memory_budget(self, core: Core) -> MemoryBudget:
        return MemoryBudget(
            core,
            self.config.lifecycle.memory_budget,
            lambda *version: self.manager.rest(*version),
            time.monotonic,
            lambda name: self.manager.stays_loaded(name),
            lambda *version: self.manager.wants(*version),
        )

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
