"""Load from wrk, and the server's CPU time meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from process import BenchError, pin, usage
from quiet import Others, children_seconds

SCRIPT = Path(__file__).with_name("wrk.lua")
REPLY_SECONDS = 60.0

FREE, SHARED, APART = "free", "one core", "apart"
"""Layouts of cores. free: the system decides.

one core: load and server share the last core, so that no wake-up crosses cores. apart: the load has the last
core, the server the others, as if the client were elsewhere.
"""


@dataclass(frozen=True)
class Target:
    """A server under load: its address, and its process if that is known (None: no CPU times).

    headers: of a request over REST in place of JSON's Content-Type, ``Name: value`` with | between.
    """

    url: str
    pid: int | None
    headers: str = ""


@dataclass(frozen=True)
class Sample:
    """One run of wrk. Times in microseconds.

    cpu_us: the server's CPU time per request, all threads. others: the share of the machine, 0 to 1, that
    went to other processes meanwhile. faults: the server's minor page faults per request.
    """

    requests: int
    per_second: float
    p50_us: float
    p99_us: float
    errors: int
    cpu_us: float | None
    others: float
    max_us: float = 0.0
    faults: float | None = None


def wrk_version() -> str:
    """Returns, for example, ``wrk 4.1.0``; raises ``BenchError`` if wrk is not installed."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchError("wrk is not installed. Debian, Ubuntu: apt-get install wrk")
    banner = subprocess.run([wrk, "-v"], capture_output=True, text=True).stdout.split()
    return f"wrk {banner[1].removeprefix('debian/')}" if len(banner) > 1 else "wrk"


def cores(layout: str) -> tuple[set[int], set[int]]:
    """Returns the cores of the load, and of the server."""
    every = os.sched_getaffinity(0)
    last = {max(every)}
    if layout == FREE:
        return every, every
    return last, last if layout == SHARED else (every - last or every)


def load(
    target: Target, body: Path, connections: int, seconds: float, layout: str = FREE, pause_ms: int = 0
) -> Sample:
    """POSTs the file ``body`` for ``seconds`` over ``connections`` connections.

    Each asks again once it is answered, after ``pause_ms``.
    """
    load_cores, server_cores = cores(layout)
    if target.pid is not None:
        pin(target.pid, server_cores)
    before = usage(target.pid)
    wrk_before, others = children_seconds(), Others()
    ran = subprocess.run(
        [
            "wrk",
            f"-t{min(2, connections)}",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout=30s",
            f"--script={SCRIPT}",
            target.url,
        ],
        env=os.environ
        | {"BODY_FILE": str(body)}
        | ({"HEADERS": target.headers} if target.headers else {})
        | ({"PAUSE_MS": str(pause_ms)} if pause_ms else {}),
        preexec_fn=lambda: os.sched_setaffinity(0, load_cores),
        capture_output=True,
        text=True,
    )
    after = usage(target.pid)
    spent = after.cpu - before.cpu
    share = others.share(spent + children_seconds() - wrk_before)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode != 0 or not lines:
        raise BenchError(f"wrk failed on {target.url}: {ran.stdout}{ran.stderr}")
    told = json.loads(lines[-1])
    count = int(told["requests"])
    if count == 0:
        raise BenchError(f"{target.url} answered no request in {seconds:g} s: {told['errors']}")
    return Sample(
        requests=count,
        per_second=count / float(told["seconds"]),
        p50_us=float(told["p50_us"]),
        p99_us=float(told["p99_us"]),
        errors=sum(int(errors) for errors in told["errors"].values()),
        cpu_us=None if target.pid is None else spent / count * 1e6,
        others=share,
        max_us=float(told["max_us"]),
        faults=None if target.pid is None else (after.faults - before.faults) / count,
    )


class Client:
    """One keep-alive connection to a predict URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=REPLY_SECONDS)

    def ask(self, body: bytes) -> tuple[int, bytes]:
        """Returns status and body of the reply; raises ``OSError`` or ``HTTPException`` if there is none."""
        return self.ask_at(self._path, body)

    def ask_at(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Asks at another path, over the same connection."""
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        return reply.status, reply.read()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def ask_once(url: str, body: bytes) -> bytes:
    """Returns the reply's body; raises ``BenchError`` for any status but 200."""
    client = Client(url)
    try:
        status, reply = client.ask(body)
    finally:
        client.close()
    if status != 200:
        raise BenchError(f"{url} answered {status}: {reply[:400].decode(errors='replace')}")
    return reply
