"""The process that servers are embedded in: its end, and the processes that are forked from it.

A forked process has none of the threads of the one that it comes from. Servers that ran there are lost in it:
they are never touched again, and say so. No other can be started in it, as the engines would wait for threads
of theirs that are not there either. A process that is forked before the first server starts has no such
limits, nor has one that is spawned.
"""

from __future__ import annotations

import atexit
import os
import socket
import stat
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from servable.embedded.last_thread import LastThread
from servable.errors import FailedPreconditionError

if TYPE_CHECKING:
    from types import ModuleType

LONGEST_END = 30.0
"""Seconds that the process waits at its end for its servers."""
_SPAWN = (
    "start it before anything else in a process that is spawned, "
    'multiprocessing.get_context("spawn"), or fork before the first server starts'
)


class Embedded(Protocol):
    """A server that runs in this process."""

    @property
    def ports(self) -> Collection[int]:
        """The ports that it listens on."""

    def end_at_exit(self) -> None:
        """Ends it in this thread, when no other can be started any more."""

    def lose(self) -> None:
        """Leaves it alone for ever, in a process that was forked."""


last_thread = LastThread()
_servers: set[Embedded] = set()
_started_in: int | None = None
_tensorflow_ran = _tensorflow_was_inherited = False


def core() -> ModuleType:
    """Imports the core, whose allocator is bound to a thread that lives on: the main one, or its own."""
    if "servable._core" in sys.modules or threading.current_thread() is threading.main_thread():
        return import_module("servable._core")
    imported = threading.Event()

    def keep() -> None:
        try:
            import_module("servable._core")
        finally:
            imported.set()
        threading.Event().wait()

    threading.Thread(target=keep, name="servable-core", daemon=True).start()
    imported.wait()
    return import_module("servable._core")


def check() -> None:
    """Raises ``FailedPreconditionError`` if no server can be started in this process."""
    if _started_in not in (None, os.getpid()):
        raise FailedPreconditionError(
            "FAILED_PRECONDITION",
            f"this process was forked from process {_started_in} after a server had started there, and has "
            "none of the engines' threads: no server can run in it",
            _SPAWN,
        )
    if _tensorflow_was_inherited:
        raise FailedPreconditionError(
            "FAILED_PRECONDITION",
            "this process was forked after TensorFlow had run, and has none of its threads: no server can "
            "run in it",
            _SPAWN,
        )


def started() -> None:
    """Notes that engines are about to start threads in this process."""
    global _started_in
    last_thread.begin()
    _started_in = os.getpid()


def add(server: Embedded) -> None:
    """Has a server ended with the process."""
    _servers.add(server)


def remove(server: Embedded) -> None:
    """Notes that a server has ended."""
    _servers.discard(server)


@atexit.register
def _end_all() -> None:
    servers, ended = list(_servers), threading.Event()

    def end() -> None:
        for server in servers:
            with suppress(Exception):
                server.end_at_exit()
        ended.set()

    # A model whose run never ends must not keep the process from its end.
    if servers and last_thread.do(end):
        ended.wait(LONGEST_END)


def _before_fork() -> None:
    global _tensorflow_ran
    context: Any = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    _tensorflow_ran = bool(getattr(context, "_initialized", False))


def _after_fork() -> None:
    global _tensorflow_was_inherited
    _tensorflow_was_inherited = _tensorflow_was_inherited or _tensorflow_ran
    ports = {port for server in _servers for port in server.ports}
    for server in _servers:
        server.lose()
    _servers.clear()
    last_thread.forget()
    if ports:
        _close_sockets(ports)


def _close_sockets(ports: Collection[int]) -> None:
    """Closes the forked copies of sockets at these ports, which would be open for as long as this process."""
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as copy:
                address = copy.getsockname() if copy.type == socket.SOCK_STREAM else None
            if isinstance(address, tuple) and address[1] in ports:
                os.close(int(name))


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
