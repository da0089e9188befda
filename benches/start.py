"""Measures the time from process start to the first answer, and the memory the server keeps."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from load import Client
from process import (
    POLL_SECONDS,
    START_SECONDS,
    BenchError,
    Process,
    cpu_seconds,
    memory_bytes,
    wait_until,
)
from quiet import Others, Patience

LARGE_REQUESTS = 100
QUIET_SECONDS = 1.0  # an idle server should have handed its memory back after this time
SETTLED_SECONDS = 10.0


@dataclass(frozen=True)
class Start:
    """One start. seconds: from spawning the process to the complete first answer. resident: bytes then.

    others: the share of the machine, 0 to 1, that went to other processes meanwhile.
    """

    seconds: float
    resident: int
    others: float


@dataclass(frozen=True)
class Memory:
    """Resident bytes: at the first answer, at the peak, after the large requests and a quiet second."""

    first_answer: int
    most: int
    after_large: int
    large_requests: int
    large_bytes: int


@dataclass(frozen=True)
class Command:
    """The command that starts the server: program with leading arguments, and the folder for its logs."""

    program: Sequence[str]
    build: Path

    def serve(self, base: Path, port: int, flags: Sequence[str] = ()) -> Process:
        """Starts the server on ``base``; port 0 is any free one."""
        flags = (f"--rest_api_port={port}", "--port=0", *flags)
        return Process([*self.program, base, *flags], self.build / f"{base.name}.server.log")


def free_port() -> int:
    """Returns a port that nothing listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def started(command: Command, base: Path, body: bytes) -> Iterator[tuple[Process, Start, str]]:
    """Runs a server of ``base`` until its first answer to ``body``; yields process, times, URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/models/{base.name}:predict"
    begin, own, others = time.monotonic(), time.process_time(), Others()
    with command.serve(base, port) as process:
        while not _answers(url, body):
            process.printed("$")  # raises if the process has ended
            if time.monotonic() - begin > START_SECONDS:
                raise BenchError(f"no answer after {START_SECONDS:g} s: {process.tail()}")
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - begin
        share = others.share(cpu_seconds(process.pid) + time.process_time() - own)
        yield process, Start(seconds, memory_bytes(process.pid, "VmRSS"), share), url


def _answers(url: str, body: bytes) -> bool:
    client = Client(url)
    try:
        return client.ask(body)[0] == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def starts(command: Command, base: Path, body: bytes, runs: int, patience: Patience) -> list[Start]:
    """Times ``runs`` starts, each on a quiet machine, after an uncounted one that fills the page cache."""

    def measure() -> Start:
        with started(command, base, body) as (_process, start, _url):
            return start

    measure()
    return [patience.undisturbed(measure, lambda start: start.others) for _ in range(runs)]


def memory(command: Command, base: Path, small: bytes, large: bytes) -> Memory:
    """Sends ``large`` a hundred times after the first answer, then lets the server settle."""
    with started(command, base, small) as (process, start, url):
        client = Client(url)
        for _ in range(LARGE_REQUESTS):
            status, reply = client.ask(large)
            if status != 200:
                raise BenchError(f"a large request was answered {status}: {reply[:200]!r}")
        client.close()
        return Memory(
            first_answer=start.resident,
            most=memory_bytes(process.pid, "VmHWM"),
            after_large=_settled(process.pid),
            large_requests=LARGE_REQUESTS,
            large_bytes=len(large),
        )


def _settled(pid: int) -> int:
    """Returns the resident bytes once they have not changed for the quiet second."""
    seen = [(time.monotonic(), memory_bytes(pid, "VmRSS"))]

    def unchanged() -> bool:
        now, resident = time.monotonic(), memory_bytes(pid, "VmRSS")
        if resident != seen[-1][1]:
            seen.append((now, resident))
        return now - seen[-1][0] >= QUIET_SECONDS

    wait_until(unchanged, SETTLED_SECONDS, "the server's memory to settle", every=0.05)
    return seen[-1][1]
