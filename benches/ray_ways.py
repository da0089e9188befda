"""What Ray's proxies cost: the same model by Ray Serve, and by servers that Ray keeps running.

    PYTHONPATH=python build/ray/bin/python benches/ray_ways.py [--seconds 10]

One node, one replica or server, a tiny model, and ``servable bench`` as the clients, by both APIs. For each
number of clients: answers a second, p50, p99, and the CPU time of an answer: of all of Ray's processes and
the server together, without the clients. On one machine, clients and servers share its cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil
from quiet import load_before
from ray_cluster import ON_WORKERS, RayCluster

MODEL = Path(__file__).resolve().parent.parent / "tests" / "models" / "half_plus_two"
CLIENTS = (1, 4, 16)
WARM_UP_SECONDS = 2


@dataclass
class Point:
    """One measurement: answers a second, p50 and p99 in ms, CPU ms for each answer."""

    rate: float
    p50: float
    p99: float
    cpu: float


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each point")
    seconds: float = parser.parse_args().seconds
    import servable.ray

    print(load_before())
    cluster = RayCluster(workers=1)
    try:
        from ray import serve

        application = servable.ray.deployment(str(MODEL), options={"ray_actor_options": ON_WORKERS})
        serve.run(application, name="ways", route_prefix="/ways")
        print(f"{'':26}{'clients':>8}{'answers/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}")
        (http,), (grpc,) = cluster.http(), cluster.grpc()
        show("Ray Serve, REST", f"http://{http}/ways/v1/models/half_plus_two", seconds)
        show("Ray Serve, gRPC", f"grpc://{grpc}/half_plus_two", seconds)
        serve.delete("ways")
        servers = servable.ray.servers(str(MODEL), resource="worker")
        servers.wait(1)
        (rest,), (rpc,) = servers.addresses(), servers.addresses("grpc")
        show("servers on nodes, REST", f"http://{rest}/v1/models/half_plus_two", seconds)
        show("servers on nodes, gRPC", f"grpc://{rpc}/half_plus_two", seconds)
        servers.close()
    finally:
        cluster.close()


def show(title: str, address: str, seconds: float) -> None:
    """Measures a way with each number of clients, and prints the points."""
    for clients in CLIENTS:
        point = measured(address, clients, seconds)
        print(
            f"{title:26}{clients:>8}{point.rate:>12.0f}{point.p50:>9.2f}{point.p99:>9.2f}{point.cpu:>9.3f}",
            flush=True,
        )


def measured(address: str, clients: int, seconds: float) -> Point:
    """Measures one point."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "servable", "bench", address, "--json", str(file)]
        command += ["--concurrency", str(clients), "--duration", str(seconds)]
        command += ["--warm-up", str(WARM_UP_SECONDS)]
        cpu = CpuTime()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        spent = cpu.spent()
        (load,) = json.loads(file.read_text())["samples"]
    times = load["all"]["times"]
    # The warm-up is in the CPU time, with as many answers a second.
    answers = times["count"] * (seconds + WARM_UP_SECONDS) / seconds
    quantiles = times["quantiles"]
    return Point(load["per_second"], quantiles["p50"], quantiles["p99"], 1000 * spent / answers)


class CpuTime:
    """The CPU time of this process's descendants that are there at the beginning."""

    def __init__(self) -> None:
        self._before = {
            process: process.cpu_times() for process in psutil.Process(os.getpid()).children(recursive=True)
        }

    def spent(self) -> float:
        """Returns the seconds since then, of those that are still there."""
        total = 0.0
        for process, before in self._before.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                now = process.cpu_times()
                total += now.user + now.system - before.user - before.system
        return total


if __name__ == "__main__":
    main()
