"""A running server hands its ports to the next one, over a Unix socket (``--handover_socket``).

The next server gets the listening sockets themselves (SCM_RIGHTS): connections that wait to be accepted
belong to both. It loads its models, begins to accept, and says that it is ready. Only then the former one
accepts no more, finishes what is in flight, and ends. If the next one ends before, nothing has happened.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from servable.serving.handover_packets import (
    ANSWER_SECONDS,
    LARGEST,
    PROTOCOL,
    check,
    peer,
    read,
    send,
    unusable,
)

_log = logging.getLogger("servable.handover")

LAST_REQUESTS_SECONDS = 5.0
"""How long a replaced server waits for one more request on each connection, to send its client away."""
ON_ITS_WAY_SECONDS = 0.5
"""How long a request may be on its way on a connection that was just accepted."""


class Ports(Protocol):
    """The ports of a server, as far as they can be handed over."""

    @property
    def are_kept(self) -> bool:
        """True if whoever made them keeps them open."""

    def listeners(self) -> Mapping[str, int]:
        """Returns copies of the listening sockets, as descriptors by port."""

    def pass_on(self) -> None:
        """Stops accepting, as another server does; called once."""

    def leave(self) -> None:
        """Begins the shutdown."""


class HandoverSocket:
    """Waits for the next server at ``path``, from ``publish`` on. ``ports``: of this server."""

    def __init__(self, path: str, ports: Ports) -> None:
        check(path)
        self._path = path
        self._hidden = f"{path}.{os.getpid()}"
        self._ports = ports
        self._lock = threading.Lock()
        self._next: socket.socket | None = None
        self._next_pid = 0
        self._is_given = self._is_passed_on = self._is_closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._hidden)
            self._socket.bind(self._hidden)
            os.chmod(self._hidden, 0o600)
            self._socket.listen(8)
        except OSError as error:
            self._socket.close()
            raise unusable(path, error) from None
        self._inode = os.stat(self._hidden).st_ino

    def publish(self) -> None:
        """Is there for the next server from now on. A server that cannot be goes on without."""
        try:
            os.rename(self._hidden, self._path)
        except OSError as error:
            _log.error("%s", unusable(self._path, error).message)
            return
        threading.Thread(target=self._accept, name="handover", daemon=True).start()

    def close(self) -> bool:
        """Answers no further server. Returns whether another has the listening sockets, too."""
        with self._lock:
            self._is_closed = True
            is_shared = self._is_given or self._is_passed_on
            following = self._next
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if following is not None and not self._is_passed_on:
            with suppress(OSError):
                following.shutdown(socket.SHUT_RDWR)
        # What a next server is about to put at the path is not removed by accident.
        for path in (self._hidden,) if is_shared else (self._hidden, self._path):
            with suppress(OSError):
                if os.stat(path).st_ino == self._inode:
                    os.unlink(path)
        return is_shared

    @property
    def is_passed_on(self) -> bool:
        """True once the next server is the one that accepts."""
        return self._is_passed_on

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if self._is_closed:
                    return
                # Out of descriptors, most likely.
                threading.Event().wait(1.0)
                continue
            connection.settimeout(ANSWER_SECONDS)
            try:
                refusal = self._refusal(connection, read(connection.recv(LARGEST)))
                if refusal:
                    send(connection, {"error": refusal})
            except OSError as error:
                refusal = f"a process said nothing: {error.strerror or error}"
            except RecursionError:
                refusal = "a process said something nested too deeply"
            if refusal:
                _log.warning("no handover: %s", refusal)
                connection.close()
                continue
            try:
                threading.Thread(
                    target=self._serve, args=(connection,), name="handing-over", daemon=True
                ).start()
            except RuntimeError as error:
                _log.warning("no handover to process %d: %s", self._next_pid, error)
                self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        """Makes room for another server."""
        connection.close()
        with self._lock:
            if self._next is connection:
                self._next, self._is_given = None, False

    def _refusal(self, connection: socket.socket, hello: dict[str, Any]) -> str:
        """Returns why ``connection`` gets nothing; "" if it is the next server."""
        pid, user = peer(connection)
        if user != os.geteuid():
            return f"process {pid} runs as user {user}, this server as user {os.geteuid()}"
        if hello.get("handover") != PROTOCOL:
            return f"handover {PROTOCOL} is expected, got {hello!r}"
        with self._lock:
            if self._is_closed or self._is_passed_on:
                return "this server is stopping"
            if self._next is not None:
                return f"a handover to process {self._next_pid} is under way"
            self._next, self._next_pid = connection, pid
        return ""

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._hand_over(connection)
        except OSError as error:
            _log.warning("no handover to process %d: %s", self._next_pid, error.strerror or error)
        finally:
            self._forget(connection)

    def _hand_over(self, connection: socket.socket) -> None:
        pid = self._next_pid
        if not self._give(connection):
            return
        _log.info("process %d is going to take over: serving on until it is ready", pid)
        connection.settimeout(None)
        if not read(connection.recv(LARGEST)).get("ready"):
            if not self._is_closed:
                # Whoever reads that line finds the place free.
                self._forget(connection)
                _log.warning("process %d ended before it was ready to take over: nothing changes", pid)
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_passed_on = True
        _log.info("process %d is ready and takes over: finishing requests in flight", pid)
        self._ports.pass_on()
        connection.settimeout(ANSWER_SECONDS)
        try:
            send(connection, {"left": True})
        finally:
            self._ports.leave()

    def _give(self, connection: socket.socket) -> bool:
        """Sends the listening sockets; False if the shutdown has begun."""
        with self._lock:
            if self._is_closed:
                return False
            self._is_given = True
        listeners = self._ports.listeners()
        try:
            message = {"ports": list(listeners), "kept": self._ports.are_kept}
            socket.send_fds(connection, [json.dumps(message).encode()], list(listeners.values()))
        finally:
            for one in listeners.values():
                os.close(one)
        return True
