"""Sockets that listen already and come from elsewhere: which port each is for, and whether it can be used."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterable, Mapping
from os import fstat

from servable.config.values import ServerConfig
from servable.errors import StatusError, invalid_argument

PORTS = {"rest": "REST", "grpc": "gRPC", "grpc_socket": "gRPC's Unix socket", "admin": "the administration"}
"""Every port by the core's name, with the name that people read."""
NAMES = {"rest": "rest", "grpc": "grpc", "grpc-unix": "grpc_socket", "admin": "admin"}
"""``FileDescriptorName=`` of a socket unit → port."""
_OPENED_BY = {
    "rest": "--rest_api_port",
    "grpc": "--port",
    "grpc_socket": "--grpc_socket_path",
    "admin": "--admin_address",
}


def wanted(config: ServerConfig) -> dict[str, str]:
    """Returns where each configured port is to be: ``host:port``, or a path."""
    core, admin = config.core, config.admin
    of = {
        "rest": core.rest_address,
        "grpc": core.grpc_address,
        "grpc_socket": core.grpc_socket_path,
        "admin": None if admin is None else admin.address,
    }
    return {port: address for port, address in of.items() if address is not None}


def listening(descriptor: int, whose: str) -> socket.socket:
    """Returns the socket of ``descriptor``, which is then closed on exec.

    Raises ``StatusError`` if it is not a stream socket that listens.
    """
    expected = f"{whose} expects a listening stream socket as descriptor {descriptor}, got"
    try:
        if not stat.S_ISSOCK(fstat(descriptor).st_mode):
            raise invalid_argument(f"{expected} no socket")
        one = socket.socket(fileno=descriptor)
    except OSError as error:
        raise invalid_argument(f"{expected} {error.strerror}") from None
    one.set_inheritable(False)
    why, hint = _unusable(one)
    if why:
        one.close()
        raise invalid_argument(f"{expected} {why}", hint)
    return one


def _unusable(one: socket.socket) -> tuple[str, str]:
    """Returns what is wrong with a socket, and advice; nothing if it can be used."""
    if one.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return f"one of the family {getattr(one.family, 'name', one.family)}", ""
    if one.type != socket.SOCK_STREAM:
        return f"one of the type {getattr(one.type, 'name', one.type)}", "ListenStream= makes the right ones"
    if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "one that does not listen", "Accept=no makes the right ones"
    return "", ""


def by_port(
    given: Iterable[tuple[str, socket.socket]], wanted: Mapping[str, str]
) -> dict[str, socket.socket]:
    """Returns which port each of systemd's sockets is for: by its name, or by its address.

    Raises ``StatusError`` for one that is for none, and for two that are for the same.
    """
    sockets: dict[str, socket.socket] = {}
    for name, one in given:
        at = address(one)
        port = _named(name) if name else _of_address(one, wanted)
        if port not in wanted:
            raise invalid_argument(
                f"systemd passes a socket at {at} for {PORTS[port]}, which is off", f"set {_OPENED_BY[port]}"
            )
        if port in sockets:
            raise invalid_argument(
                f"systemd passes two sockets for {PORTS[port]}: {address(sockets[port])} and {at}",
                "one that listens on [::] serves IPv4, too",
            )
        if (port == "grpc_socket") != (one.family == socket.AF_UNIX):
            raise invalid_argument(f"systemd passes {at} for {PORTS[port]}, which is of another kind")
        sockets[port] = one
    return sockets


def _named(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    raise invalid_argument(
        f"systemd passes a socket of the name {name!r}", f"FileDescriptorName= knows {', '.join(NAMES)}"
    )


def _of_address(one: socket.socket, wanted: Mapping[str, str]) -> str:
    at = address(one)
    for port, where in wanted.items():
        same = at == where if port == "grpc_socket" else at.rpartition(":")[2] == where.rpartition(":")[2]
        if same:
            return port
    listed = ", ".join(f"{PORTS[port]} at {where}" for port, where in wanted.items())
    raise invalid_argument(
        f"systemd passes a socket at {at}, where nothing is to be served; there are {listed}",
        f"change the port in the socket unit or the flag, or name it: FileDescriptorName={'|'.join(NAMES)}",
    )


def address(one: socket.socket) -> str:
    """Returns where it listens: ``host:port``, or a path."""
    at = one.getsockname()
    if one.family == socket.AF_UNIX:
        return at if isinstance(at, str) else at.decode(errors="replace")
    return f"[{at[0]}]:{at[1]}" if one.family == socket.AF_INET6 else f"{at[0]}:{at[1]}"


def is_at(one: socket.socket, where: str) -> bool:
    """True if it listens at ``where``, or at some port of that host if that has port 0."""
    at = address(one)
    if one.family == socket.AF_UNIX:
        return at == where
    host, _, port = at.rpartition(":")
    wanted_host, _, wanted_port = where.rpartition(":")
    if wanted_port not in ("0", port):
        return False
    everywhere = ("[::]", "0.0.0.0")
    return host == _numeric(wanted_host) or (host in everywhere and wanted_host in everywhere)


def _numeric(host: str) -> str:
    """Returns the IP address of a host name, as ``address`` writes it; ``host`` if it has none."""
    try:
        family, *_, at = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)[0]
    except OSError:
        return host
    return f"[{at[0]}]" if family == socket.AF_INET6 else str(at[0])


def matching(
    given: Mapping[str, socket.socket], wanted: Mapping[str, str]
) -> tuple[dict[str, socket.socket], list[str]]:
    """Returns those sockets of another server that are where this one is to be, and lines about the others.

    Raises ``StatusError`` if a port would have to be opened on another host beside that server.
    """
    sockets: dict[str, socket.socket] = {}
    said = []
    for port, one in given.items():
        where, at = wanted.get(port), address(one)
        if where is not None and is_at(one, where):
            sockets[port] = one
        elif where is None:
            said.append(f"{PORTS[port]} was at {at} and is off now: its clients are refused")
        elif one.family != socket.AF_UNIX and at.rpartition(":")[2] == where.rpartition(":")[2]:
            raise StatusError(
                "FAILED_PRECONDITION",
                f"the server that would be taken over has {PORTS[port]} at {at}, and this one wants {where}: "
                "both cannot be open",
                "keep --host as it is there, or stop that server first",
            )
        else:
            said.append(f"{PORTS[port]} was at {at} and is at {where} now: clients of the first are refused")
    return sockets, said
