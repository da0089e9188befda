"""The administration's connections: how many there are at once, and how long each may take to ask.

Nothing that a client does or leaves undone keeps the next one from being accepted, nor the listener from
closing: a request must have arrived whole in time, however slowly it trickles; and where there are too many
connections, the one that has been silent or half-spoken for longest makes room. Requests that are being
answered are never cut; there are fewer of them than connections, so that there is always one to give way, and
a health probe gets through.
"""

from __future__ import annotations

import errno
import io
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from servable.errors import StatusError

_log = logging.getLogger("admin")

REQUEST_SECONDS = 30.0
"""From the opening of a connection, or its last answer, until the next request has arrived whole."""
NO_DESCRIPTOR_SECONDS = 0.1
"""Pause after a connection for which the system had no descriptor."""
MOST_CONNECTIONS = 64
MOST_ANSWERED = 32
"""Administrative requests being answered at once; they may wait for an hour. Health is not counted."""


class Listener(ThreadingHTTPServer):
    """Listens on ``host:port`` from construction on. Raises ``OSError`` where it cannot."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, handler: type[Connection]) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = found[0]
        self._changing = threading.Lock()
        # Those that have not asked yet, longest wait first; and those that are being answered.
        self._waiting: dict[socket.socket, None] = {}
        self._answered: set[socket.socket] = set()
        where: Any = found[4]
        super().__init__(where, handler)
        # A client that has left again before it was accepted must not block the others.
        self.socket.setblocking(False)

    def wait(self, connection: socket.socket) -> None:
        """The connection's next request may come."""
        with self._changing:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    @contextmanager
    def answering(self, connection: socket.socket) -> Iterator[None]:
        """While an administrative request is answered: its connection is not closed to make room.

        Raises ``StatusError`` where too many are.
        """
        with self._changing:
            if len(self._answered) >= MOST_ANSWERED:
                raise StatusError(
                    "UNAVAILABLE", f"{MOST_ANSWERED} administrative requests are being answered", "try again"
                )
            self._waiting.pop(connection, None)
            self._answered.add(connection)
        try:
            yield
        finally:
            with self._changing:
                self._answered.discard(connection)
                self._waiting[connection] = None

    def get_request(self) -> tuple[Any, Any]:
        """The next connection. Out of descriptors, the one that has waited for longest gives way to it."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                with self._changing:
                    if self._waiting:
                        self._hang_up(next(iter(self._waiting)))
                # The listener stays readable meanwhile: without a pause it would keep a core busy.
                time.sleep(NO_DESCRIPTOR_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Never blocks: called by the thread that accepts."""
        with self._changing:
            if len(self._waiting) + len(self._answered) >= MOST_CONNECTIONS:
                self._hang_up(next(iter(self._waiting)))
            self._waiting[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection."""
        with self._changing:
            self._waiting.pop(request, None)
            self._answered.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Stops listening and hangs up on everyone whose request is not being answered."""
        # Wakes the thread that accepts, which would otherwise look up twice a second.
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        self.server_close()
        with self._changing:
            for connection in list(self._waiting):
                self._hang_up(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        """With the lock held, so that the connection's thread has not closed it yet; that one will now."""
        del self._waiting[connection]
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break off are no news."""
        _log.debug("connection of %s ended early", client_address, exc_info=True)


class Connection(BaseHTTPRequestHandler):
    """One connection, on a thread of its own; what is asked is the subclass's business."""

    timeout = REQUEST_SECONDS
    server: Listener

    def setup(self) -> None:
        """See ``StreamRequestHandler``: opens the two directions."""
        super().setup()
        self.rfile.close()
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        """See ``BaseHTTPRequestHandler``; one that does not come in time ends the connection."""
        self.server.wait(self.connection)
        self._incoming.until = time.monotonic() + REQUEST_SECONDS
        super().handle_one_request()

    def cut_short(self) -> bool:
        """Client or listener has hung up in the middle of the request: what was read is a part of it."""
        return self._incoming.ended

    def begin_to_send(self) -> None:
        """The client has as long to take in the answer as it had to ask."""
        self.connection.settimeout(REQUEST_SECONDS)


class _Incoming(io.RawIOBase):
    """What a client sends; raises ``TimeoutError`` when the time is ``until``, whatever came before."""

    def __init__(self, connection: socket.socket) -> None:
        self.until = 0.0
        self.ended = False
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole request in {REQUEST_SECONDS:g} s")
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        self.ended = not count
        return count
