"""Ports before they are opened: is one free, and if not, who holds it; and the limit on connections."""

from __future__ import annotations

import glob
import os
import socket
from contextlib import closing, suppress

_LISTEN = "0A"


def allow_many_connections() -> None:
    """Raises the limit on open descriptors to the hard limit: each connection needs one.

    The usual soft limit, 1024, exists for programs that use select(2); this one does not.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_free(address: str) -> bool:
    """True if ``host:port`` can be bound now; always True for port 0.

    Binds without SO_REUSEPORT, so that a port shared by another server with that option counts as taken.
    Raises ``OSError`` for an address that is not this machine's, or that may not be bound (ports below 1024).
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
            probe.listen(1)
        except OSError as error:
            import errno

            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def owner(port: int) -> str:
    """Returns ``name (pid N)`` of the process that listens on TCP ``port``, "" if unknown."""
    inodes = _listening_inodes(port)
    if not inodes:
        return ""
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            pid = link.split("/")[2]
            return f"{_command(pid)} (pid {pid})"
    return ""


def _listening_inodes(port: int) -> set[str]:
    """Returns socket inodes in state LISTEN on ``port``, from /proc/net/tcp and tcp6 (proc(5))."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        inodes.update(
            row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
        )
    return inodes


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process"


def port_hint(address: str, flag: str) -> str:
    """Returns the holder of a port that could not be bound, if known, and the flag that selects another."""
    port = int(address.rpartition(":")[2])
    holder = owner(port)
    who = f"port {port} is taken by {holder}" if holder else f"port {port} is taken by another process"
    return f"{who}; choose another with --{flag}=N, or take it over with --handover_socket"
