"""Starts a server beside the program that it is a part of, and ends it.

No handler of a signal is set, no stream is taken over, and the main thread stays the program's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

from servable.embedded import former, logs, process, versions
from servable.embedded.beside import Beside
from servable.embedded.configuration import Flag, configuration
from servable.embedded.exporting import ExportFolder
from servable.embedded.models import model_configs
from servable.embedded.outcomes import ANSWERS, unavailable
from servable.lifecycle.availability import Availability
from servable.serving.server import Server as InnerServer

if TYPE_CHECKING:
    from servable import _core
    from servable.embedded.prediction import Asking

MOST_WAITING = 64
"""Most calls of ``apredict`` that are under way at once; each takes a thread, which waits."""
LONGEST_LOAD = 600.0
"""Seconds that a load is waited for, if nothing else is said."""
_SETTLED = ANSWERS | {Availability.FAILED, Availability.FAILING, Availability.MISSING}


class Running:
    """A server that runs, until ``end``. Thread-safe.

    since: the time of its start, as in the log. process: the one that it runs in. is_lost: this is another
    one.
    """

    def __init__(self, server: InnerServer, folder: ExportFolder, since: str) -> None:
        self.core = cast("_core.Server", server.core)
        self.addresses = server.addresses
        self.scheme = "https" if server.config.core.tls_files else "http"
        self.process = os.getpid()
        self.since = since
        self.is_lost = self.is_over = False
        self.asking: Asking | None = None
        self._server = server
        self._folder = folder
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._stopped = threading.Event()

    @property
    def server(self) -> InnerServer:
        """What runs."""
        return self._server

    @property
    def ports(self) -> Collection[int]:
        """The ports that it listens on."""
        at = [one for port, one in self.addresses.items() if port != "grpc_socket"]
        at += [self._server.admin_address] if self._server.admin_address else []
        return [int(one.rpartition(":")[2]) for one in at]

    def threads(self) -> ThreadPoolExecutor:
        """Returns the threads that wait for answers."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(MOST_WAITING, thread_name_prefix="servable-ask")
            return self._threads

    def end(self) -> None:
        """Ends it: requests finish, models are unloaded, ports closed. Later calls do nothing."""
        self._end(lambda: Beside(self._stop).result())

    def end_at_exit(self) -> None:
        """Does the same in this thread, or waits for the one that does."""
        self._end(self._stop)
        if not self.is_lost:
            self._stopped.wait(process.LONGEST_END)

    def _end(self, stop: Callable[[], object]) -> None:
        if self.is_lost:
            return
        with self._lock:
            if self.is_over:
                return
            self.is_over = True
            threads = self._threads
        try:
            stop()
        finally:
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)

    def _stop(self) -> None:
        try:
            self._server.stop()
        finally:
            self._folder.remove()
            process.remove(self)
            self._stopped.set()

    def lose(self) -> None:
        """Leaves it alone for ever, in a process that was forked."""
        self.is_lost = True
        self.core.leak()


def begin(what: object, name: str, flags: Mapping[str, Flag], partly: bool = False) -> Running:
    """Starts a server, and returns it once every model is available and the ports are open.

    One that is loaded on demand is available before it is loaded; one of several versions, once each of them
    serves or has failed. partly: one is enough, once the others have failed, or are not there; the server
    goes on to try them. Of a model whose latest version fails, the one before is available, as if the server
    had run before that came.

    Raises ``StatusError`` if a model is not, ``UsageError`` for flags that are wrong, and
    ``TensorFlowNotFoundError``; nothing is left of it then.
    """
    process.check()
    since = logs.now()
    logs.begin(str(flags.get("log_level", "")))
    folder = ExportFolder()
    try:
        config, opening = configuration(model_configs(what, name, folder), flags)
        server = InnerServer(config, before_loading=opening.wait)
        starting = Beside(lambda: _start(server, partly))
        try:
            starting.result()
        except BaseException:
            server.manager.cancel_wait()
            starting.wait()
            Beside(server.stop).result()
            raise
    except BaseException:
        folder.remove()
        raise
    running = Running(server, folder, since)
    process.add(running)
    return running


def _start(server: InnerServer, partly: bool = False) -> None:
    if server.start():
        # A load that takes long has not been waited for.
        server.manager.wait(lambda now: all(one in _SETTLED for one in now.values()))
        versions.wait_for_outcomes(server.manager, server.config.models, time.monotonic() + LONGEST_LOAD)
    errors, models = server.manager.errors(), server.config.models
    if partly:
        former.stand_in(server.manager, models)
    availability = server.manager.availability()
    lacking = [model for model in models if availability.get(model.name) not in ANSWERS]
    if lacking and not (partly and len(lacking) < len(models)):
        raise unavailable(lacking[0], errors.get(lacking[0].name))
