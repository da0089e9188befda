"""A local server's process while it is under load: CPU time, memory, page faults, by /proc."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from dataclasses import dataclass

from servable.errors import UsageError

_CPUCLOCK_SCHED = 2
"""The kernel's clock of all CPU time of a process, as clock_getcpuclockid(3) encodes it."""
_LISTENING = "0A"


@dataclass(frozen=True)
class Usage:
    """What processes have used so far: CPU seconds, and page faults; and bytes that are resident."""

    cpu: float
    minor_faults: int
    major_faults: int
    resident: int
    at: float = 0.0


@dataclass(frozen=True)
class Spent:
    """What they used between two looks. cores: CPU time over time. resident: at the end."""

    cpu: float
    minor_faults: int
    major_faults: int
    resident: int
    cores: float


def usage(pids: tuple[int, ...]) -> Usage | None:
    """Returns the sum for processes; None if there are none, or one has ended."""
    if not pids:
        return None
    cpu, minor, major, resident = 0.0, 0, 0, 0
    try:
        for pid in pids:
            cpu += time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                faults = stat_faults(file.read())
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                resident += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            minor, major = minor + faults[0], major + faults[1]
    except (OSError, OverflowError, IndexError, ValueError):
        return None
    return Usage(cpu, minor, major, resident, time.monotonic())


def stat_faults(stat: str) -> tuple[int, int]:
    """Returns minor and major faults of a line of /proc/PID/stat, whose second field may hold blanks."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[7]), int(fields[9])


def between(before: Usage | None, after: Usage | None) -> Spent | None:
    """Returns what was used between two looks."""
    if before is None or after is None:
        return None
    cpu = after.cpu - before.cpu
    return Spent(
        cpu,
        after.minor_faults - before.minor_faults,
        after.major_faults - before.major_faults,
        after.resident,
        cpu / max(after.at - before.at, 1e-9),
    )


def checked(pid: int) -> int:
    """Returns the number of a process that can be watched. Raises ``UsageError``."""
    if pid < 1 or usage((pid,)) is None:
        raise UsageError(f"--pid {pid}: there is no such process, or it cannot be watched")
    return pid


def listening_on(host: str, port: int) -> tuple[int, ...]:
    """Returns the processes on this machine that listen there; none if it is another machine's address."""
    try:
        if not _is_local(host):
            return ()
        inodes = {
            inode
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            if os.path.exists(table)
            for inode in listening_inodes(_text(table), port)
        }
    except (OSError, UnicodeError):
        # No such host; UnicodeError: nor can there be one of that name.
        return ()
    return tuple(sorted(pid for pid in _processes() if inodes & _sockets(pid)))


def listening_inodes(table: str, port: int) -> set[str]:
    """Returns the inodes of sockets that listen on ``port``, from the text of /proc/net/tcp."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
            found.add(fields[9])
    return found


def _is_local(host: str) -> bool:
    """True if sockets can be opened under the address: it is one of this machine's."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _sockets(pid: int) -> set[str]:
    """Returns the inodes of a process' sockets; none of a process that belongs to another user."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{name}"))
                found |= {link[1]} if link else set()
    return found
