"""A process under measurement: its CPU time, its memory, and an orderly end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.002
IDLE_WINDOW = 0.1
PR_SET_PDEATHSIG = 1  # prctl(2)
CPUCLOCK_SCHED = 2  # the kernel's clock of all CPU time of a process, as clock_getcpuclockid(3) encodes it


class BenchError(Exception):
    """The reason why a benchmark could not be measured, with advice."""


def wait_until(done: Callable[[], bool], seconds: float, what: str, every: float = POLL_SECONDS) -> None:
    """Polls ``done`` until it is true; raises ``BenchError`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(every)


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time, user and system, of all present and past threads; nanosecond resolution."""
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


@dataclass(frozen=True)
class Usage:
    """What a process has used: CPU seconds and minor page faults, of all present and past threads."""

    cpu: float
    faults: int


def usage(pid: int | None) -> Usage:
    """Returns the usage so far; nothing for a process that is not known."""
    if pid is None:
        return Usage(0.0, 0)
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return Usage(cpu_seconds(pid), minor_faults(text))


def minor_faults(stat: str) -> int:
    """Returns the minor faults told by a line of /proc/PID/stat, whose second field may hold blanks."""
    return int(stat.rpartition(")")[2].split()[7])


class Peak:
    """The most bytes that are resident while the block runs, read five times a second."""

    def __init__(self, pid: int | None) -> None:
        self.most = 0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while self._pid is not None:
            self.most = max(self.most, memory_bytes(self._pid, "VmRSS"))
            if self._done.wait(0.2):
                return

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._thread.join()


def wait_idle(pid: int | None, seconds: float = 60.0) -> None:
    """Waits until the process computes next to nothing: what a load has left behind is over."""

    def idle() -> bool:
        before = cpu_seconds(pid) if pid is not None else 0.0
        time.sleep(IDLE_WINDOW)  # the window that is measured
        return pid is None or cpu_seconds(pid) - before < IDLE_WINDOW * 0.05

    wait_until(idle, seconds, f"process {pid} to come to rest")


def memory_bytes(pid: int, field: str) -> int:
    """Returns a size from /proc/PID/status: ``VmRSS`` (resident now), ``VmHWM`` (peak resident)."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise BenchError(f"/proc/{pid}/status has no {field}: the process has ended")
    return int(found[1]) * 1024


def end_with_parent() -> None:
    """Makes the child end when the benchmark dies, even by SIGKILL. Called in the child before it starts."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def pin(pid: int, cores: set[int]) -> None:
    """Restricts every thread of the process, and those that they start, to ``cores``."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread.name), cores)


class Process:
    """A child process as a context manager; its output goes to ``log``."""

    def __init__(self, command: Sequence[str | Path], log: Path) -> None:
        self.log = log
        self.command = [str(part) for part in command]
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self.pid = self._child.pid

    def printed(self, pattern: str) -> re.Match[str] | None:
        """Returns the first match of ``pattern`` (multi-line) in the output so far."""
        if self._child.poll() is not None:
            raise BenchError(
                f"{' '.join(self.command)} ended with status {self._child.returncode}: {self.tail()}"
            )
        return re.search(pattern, self.log.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Waits until ``pattern`` is printed, for up to two minutes."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            match = self.printed(pattern)
            found.extend([match] if match else [])
            return bool(found)

        wait_until(seen, START_SECONDS, f"{pattern!r} from {self.command[0]}", every=0.02)
        return found[0]

    def tail(self) -> str:
        """Returns the last lines of the output."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])

    def stop(self) -> None:
        """Sends SIGTERM, and SIGKILL if the process does not end."""
        if self._child.poll() is None:
            self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.stop()
