"""What ``Server.predict`` costs over the bare run of the engine: ``python benches/embedded.py``.

The tiny model, and 602 KB in and out (a picture of 224 by 224, as floats), from one thread and from four. The
bare run is that of the same server, which measures it by itself: the mean time of the phase ``run``, by its
metrics. So what remains is everything else: Python's values to arrays, the way to the engine and back.
"""

from __future__ import annotations

import argparse
import re
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import servable

MODEL = Path(__file__).resolve().parent.parent / "tests" / "models" / "half_plus_two"
PICTURE = 224 * 224 * 3


def main() -> None:
    """Prints a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each case")
    seconds: float = parser.parse_args().seconds
    tiny = np.array([1.0, 2.0, 5.0], np.float32)
    cases: list[tuple[str, Any]] = [
        ("tiny, an array", tiny),
        ("tiny, a list", [1.0, 2.0, 5.0]),
        ("602 KB", np.zeros(PICTURE, np.float32)),
        ("602 KB, aligned", aligned(PICTURE)),
    ]
    print(f"{'':20} {'threads':>8} {'calls/s':>9} {'median':>9} {'p99':>9} {'run':>9} {'over it':>9}   (µs)")
    with servable.serve(MODEL) as server:
        for name, value in cases:
            for threads in (1, 4):
                line(server, name, value, threads, seconds)


def aligned(count: int) -> Any:
    """Returns an array that begins at a multiple of 64 bytes, which TensorFlow takes as it is."""
    space = np.zeros(count * 4 + 64, np.uint8)
    start = -space.ctypes.data % 64
    return space[start : start + count * 4].view(np.float32)


def line(server: servable.Server, name: str, value: Any, threads: int, seconds: float) -> None:
    """Measures a case, and prints it."""
    measured(lambda: server.predict(value), threads, min(1.0, seconds))
    before = run_time(server)
    times = measured(lambda: server.predict(value), threads, seconds)
    after = run_time(server)
    run = (after[0] - before[0]) / (after[1] - before[1]) * 1e6
    times.sort()
    median, late = statistics.median(times) * 1e6, times[int(len(times) * 0.99)] * 1e6
    mean = statistics.fmean(times) * 1e6
    rate = len(times) / seconds
    print(f"{name:20} {threads:8} {rate:9.0f} {median:9.1f} {late:9.1f} {run:9.1f} {mean - run:9.1f}")


def measured(call: Callable[[], object], threads: int, seconds: float) -> list[float]:
    """Returns how long each call took, of as many threads."""
    found: list[list[float]] = [[] for _ in range(threads)]
    until = time.perf_counter() + seconds

    def work(times: list[float]) -> None:
        now = time.perf_counter()
        while now < until:
            call()
            ended = time.perf_counter()
            times.append(ended - now)
            now = ended

    workers = [threading.Thread(target=work, args=(one,)) for one in found]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [one for times in found for one in times]


def run_time(server: servable.Server) -> tuple[float, float]:
    """Returns the seconds of all runs, and how many they were, by the server's metrics."""
    with urllib.request.urlopen(f"{server.url}/metrics") as reply:
        page = reply.read().decode()
    found = []
    for kind in ("sum", "count"):
        pattern = rf"^servable_request_run_seconds_{kind}\{{.*\}} (\S+)$"
        found.append(sum(map(float, re.findall(pattern, page, re.MULTILINE))))
    return found[0], found[1]


if __name__ == "__main__":
    main()
