"""What systemd passes to a service: sockets that listen already, and one to tell it how the service stands.

See sd_listen_fds(3) and sd_notify(3). Without systemd nothing is passed, and nothing is told.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import MutableMapping

from servable.errors import invalid_argument

_log = logging.getLogger("servable.systemd")

FIRST_DESCRIPTOR = 3
MOST_SOCKETS = 64


def take_sockets(environment: MutableMapping[str, str]) -> list[tuple[str, int]]:
    """Returns the names and descriptors of the passed sockets; "" for one without a name of its own.

    Removes the variables, so that no child takes the sockets for its own. Raises ``StatusError`` for
    variables that make no sense.
    """
    number, pid, names = (environment.pop(f"LISTEN_{name}", "") for name in ("FDS", "PID", "FDNAMES"))
    if not number:
        return []
    if pid != str(os.getpid()):
        _log.warning(
            "the sockets of systemd are not used: LISTEN_PID is %r and this process %d. A script that starts "
            "the server must do it by exec",
            pid,
            os.getpid(),
        )
        return []
    if not (number.isascii() and number.isdigit() and int(number[:6]) <= MOST_SOCKETS):
        raise invalid_argument(f"LISTEN_FDS expects a number of sockets up to {MOST_SOCKETS}, got {number!r}")
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(number))
    named = names.split(":") if names else [""] * len(descriptors)
    if len(named) != len(descriptors):
        raise invalid_argument(
            f"LISTEN_FDNAMES names {len(named)} sockets and LISTEN_FDS has {number}: {names!r}",
            "give a name for each, or leave LISTEN_FDNAMES out",
        )
    # systemd's own names for sockets without FileDescriptorName=: that of the unit, or "unknown".
    nameless = ("unknown", "stored", "connection")
    return [
        ("" if name in nameless or name.endswith(".socket") else name, descriptor)
        for name, descriptor in zip(named, descriptors, strict=True)
    ]


class Notifier:
    """Tells systemd how the service stands; nothing, if ``$NOTIFY_SOCKET`` is not set.

    Removes the variable, so that no child tells anything.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        path = environment.pop("NOTIFY_SOCKET", "")
        # @ stands for the zero byte of an abstract name.
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self._lock = threading.Lock()
        self._is_serving = False

    def loading(self) -> None:
        """The service starts, and its models load."""
        self._tell("STATUS=loading models")

    def ready(self, status: str, *, took_over: bool = False) -> None:
        """Requests are answered. took_over: in the place of the process that systemd knows."""
        main = (f"MAINPID={os.getpid()}",) if took_over else ()
        self._change(True, "READY=1", *main, f"STATUS={status}")

    def serving(self, status: str) -> None:
        """How the models stand has changed. Told only while requests are answered."""
        self._tell_if_serving(f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; ``reloaded`` follows.

        Both are told only while requests are answered.
        """
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell_if_serving(
            "RELOADING=1", f"MONOTONIC_USEC={microseconds}", "STATUS=reading the configuration again"
        )

    def reloaded(self) -> None:
        """What was read is applied, or refused."""
        self._tell_if_serving("READY=1", "STATUS=serving")

    def stopping(self) -> None:
        """The shutdown has begun."""
        self._change(False, "STOPPING=1", "STATUS=finishing requests in flight")

    def replaced(self) -> None:
        """Another process has taken over. The service goes on."""
        self._change(False, "STATUS=another server has taken over: finishing requests in flight")

    def _change(self, is_serving: bool, *lines: str) -> None:
        with self._lock:
            self._is_serving = is_serving
            self._tell(*lines)

    def _tell_if_serving(self, *lines: str) -> None:
        # Under the lock, so that nothing is told after the end.
        with self._lock:
            if self._is_serving:
                self._tell(*lines)

    def _tell(self, *lines: str) -> None:
        if not self._path:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                # A service manager that takes no messages must not hold up the server.
                to.settimeout(1.0)
                to.sendto("\n".join(lines).encode(), self._path)
        except OSError as error:
            _log.warning("systemd could not be told %s: %s", lines[0], error.strerror or error)
