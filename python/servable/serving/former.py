"""The server that runs already, as the one sees it that takes over its ports (``--handover_socket``)."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Mapping

from servable.errors import StatusError
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

_MOST_SOCKETS = 8


class Former:
    """The server that runs now, as the next one sees it.

    sockets: of its ports. kept: they came from systemd, which keeps them open.
    """

    def __init__(
        self, connection: socket.socket, pid: int, sockets: dict[str, socket.socket], kept: bool
    ) -> None:
        self._connection = connection
        self.pid = pid
        self.sockets = sockets
        self.kept = kept

    @classmethod
    def find(cls, path: str) -> Former | None:
        """Asks the server at ``path`` for its ports; None if there is none.

        Raises ``StatusError`` if it does not give them, or is another user's.
        """
        check(path)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        except OSError as error:
            connection.close()
            raise unusable(path, error) from None
        try:
            return cls._ask(connection, path)
        except BaseException:
            connection.close()
            raise

    @classmethod
    def _ask(cls, connection: socket.socket, path: str) -> Former:
        pid, user = peer(connection)
        if user != os.geteuid():
            raise StatusError(
                "PERMISSION_DENIED",
                f"the server at --handover_socket={path} (pid {pid}) runs as user {user}, this one as user "
                f"{os.geteuid()}: the ports of another user's server are not taken over",
            )
        try:
            send(connection, {"handover": PROTOCOL, "pid": os.getpid()})
            packet, sockets = _receive(connection)
        except OSError as error:
            raise _refused(pid, f"it does not answer ({error.strerror or error})") from None
        answer = read(packet)
        ports = answer.get("ports")
        if not isinstance(ports, list) or len(ports) != len(sockets):
            for one in sockets:
                one.close()
            raise _refused(pid, answer.get("error", "it sent something other than its ports"))
        return cls(connection, pid, dict(zip(ports, sockets, strict=True)), bool(answer.get("kept")))

    def take_over(self) -> None:
        """Tells it that its ports are served here; returns once it accepts no more, has ended, or for long
        does not answer.
        """
        try:
            send(self._connection, {"ready": True})
            answer = read(self._connection.recv(LARGEST))
        except TimeoutError:
            _log.warning(
                "the former server (pid %d) does not answer: it may still accept connections", self.pid
            )
            # As long as the connection is open, it knows that its ports are another's, too: it must not close
            # them for both.
            self.keep({})
            return
        except OSError:
            _log.info("the former server (pid %d) has ended before this one was ready", self.pid)
        else:
            if answer.get("left"):
                _log.info("took over from the former server (pid %d)", self.pid)
            else:
                # It was told to stop meanwhile: the ports are this server's alone.
                _log.info("the former server (pid %d) ended before this one was ready", self.pid)
        self.close()

    def keep(self, sockets: Mapping[str, socket.socket]) -> None:
        """Closes the sockets of all other ports."""
        for port in self.sockets.keys() - sockets.keys():
            self.sockets.pop(port).close()

    def close(self) -> None:
        """Lets it go on, unless it was taken over."""
        self._connection.close()
        self.keep({})


def _receive(connection: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """Returns a packet and the sockets with it. ``socket.recv_fds`` would let children inherit them."""
    room = socket.CMSG_SPACE(_MOST_SOCKETS * struct.calcsize("i"))
    packet, attached, _, _ = connection.recvmsg(LARGEST, room, socket.MSG_CMSG_CLOEXEC)
    sockets = []
    for level, kind, data in attached:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(data) - len(data) % struct.calcsize("i")
            sockets += [socket.socket(fileno=one) for (one,) in struct.iter_unpack("i", data[:whole])]
    return packet, sockets


def _refused(pid: int, why: object) -> StatusError:
    return StatusError("FAILED_PRECONDITION", f"the running server (pid {pid}) does not hand over: {why}")
