"""What two servers say to each other at ``--handover_socket``. One message is one packet of JSON:

    next   {"handover": 1, "pid": 12}
    former {"ports": ["rest", "grpc"], "kept": false}    with the sockets in this order; or {"error": "…"}
    next   {"ready": true}
    former {"left": true}                                it accepts no more

Both have to run as the same user, whom the kernel names (SO_PEERCRED).
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Mapping
from typing import Any

from servable.errors import StatusError, invalid_argument

PROTOCOL = 1
ANSWER_SECONDS = 10.0
"""Longest wait for an answer that needs no loading."""
LARGEST = 1 << 16
_LONGEST_PATH = 107 - len(".4194304")
"""The longest path of a Unix socket, with room for a process number."""


def check(path: str) -> None:
    """Raises ``StatusError`` if there can be no socket at ``path``."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise invalid_argument(f"--handover_socket expects a path of up to {_LONGEST_PATH} bytes, got {path}")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise unusable(path, error) from None
    if not stat.S_ISSOCK(mode):
        raise invalid_argument(f"--handover_socket={path} is a file that is no socket", "name another path")


def unusable(path: str, error: OSError) -> StatusError:
    """Makes the error about a path that the system refuses."""
    why = error.strerror or str(error)
    return invalid_argument(
        f"--handover_socket={path} cannot be used: {why}", "its folder must be this user's"
    )


def peer(connection: socket.socket) -> tuple[int, int]:
    """Returns process and user at the other end."""
    form = "iII"
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
    pid, user, _ = struct.unpack(form, credentials)
    return pid, user


def send(connection: socket.socket, message: Mapping[str, object]) -> None:
    """Sends one message."""
    connection.send(json.dumps(message).encode())


def read(packet: bytes) -> dict[str, Any]:
    """Returns a message; an empty one for the end of the connection and for what is none."""
    try:
        message = json.loads(packet)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
