"""A server that is many processes: their CPU time and memory together, and the end of them all.

This process adopts whatever a server leaves behind (``PR_SET_CHILD_SUBREAPER``), so all that a server has
started stays below it. One server runs at a time; so its processes are all those below this one. Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from load import Sample, Target, load
from process import BenchError, Process, cpu_seconds, wait_until
from quiet import Others, children_seconds

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
END_SECONDS = 10.0


def adopt() -> None:
    """Makes orphans below this process its children."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1) != 0:
        raise BenchError("this kernel does not let a process adopt its orphans")


def below() -> list[int]:
    """Returns every process below this one."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            # PID (NAME) STATE PARENT …, where NAME may have anything in it
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(os.getpid(), []))
    for pid in found:  # grows meanwhile
        found.extend(children.get(pid, []))
    return found


def cpu_of_all() -> dict[int, float]:
    """Returns the CPU seconds of each process."""
    spent = {}
    for pid in below():
        with contextlib.suppress(OSError):
            spent[pid] = cpu_seconds(pid)
    return spent


def resident_bytes() -> int:
    """Returns the proportional set size of all: pages that several share count once."""
    total = 0
    for pid in below():
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            found = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
            total += int(found[1]) * 1024 if found else 0
    return total


def load_all(url: str, body: Path, connections: int, seconds: float) -> Sample:
    """Puts a load on the server; its CPU time is that of all its processes."""
    before, wrk_before, others = cpu_of_all(), children_seconds(), Others()
    sample = load(Target(url, None), body, connections, seconds)
    spent = sum(after - before.get(pid, 0.0) for pid, after in cpu_of_all().items())
    share = others.share(spent + children_seconds() - wrk_before)
    return replace(sample, cpu_us=spent / sample.requests * 1e6, others=share)


@contextlib.contextmanager
def running(command: list[str | Path], log: Path) -> Iterator[Process]:
    """Runs a server, and ends every process of it."""
    try:
        with Process(command, log) as process:
            yield process
    finally:
        _end_all()


def _end_all() -> None:
    with contextlib.suppress(BenchError):
        wait_until(_none_left, END_SECONDS / 2, "the server's processes to end", every=0.05)
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(number)
        with contextlib.suppress(BenchError):
            wait_until(_none_left, END_SECONDS, "the server's processes to end", every=0.05)
            return
    raise BenchError(f"processes {below()} did not end")


def _signal(number: signal.Signals) -> None:
    for pid in below():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _none_left() -> bool:
    for pid in below():
        with contextlib.suppress(ChildProcessError):  # not a child of this process, or not any more
            os.waitpid(pid, os.WNOHANG)
    return not below()
