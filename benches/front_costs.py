"""What a front costs: the configurations of ``deploy/fronts`` with two servers behind, beside a server alone.

    python benches/front_costs.py [--seconds 4] [--rounds 3] [--only envoy]

Each is asked by ``servable bench`` with 16 callers over REST and gRPC, by turns; all of it shares the cores.
*Front µs* is the CPU time of the front for a request, *server µs* that of the servers. Medians of the rounds.
Programs that are not installed are left out: ``make test-fronts`` says how; $SERVABLE_ENVOY is Envoy's.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "e2e"), str(ROOT / "tests" / "fronts")]

from front_kinds import FRONTS, Running, running  # noqa: E402 - found by the lines above
from process import cpu_seconds  # noqa: E402
from quiet import load_before  # noqa: E402
from servers_behind import Behind  # noqa: E402

ALONE = "none"
MODEL = "m0"
CALLERS = "16"


@dataclass(frozen=True)
class Cost:
    """What one load found. front, server: µs of CPU for a request; ms otherwise."""

    per_second: float
    p50: float
    p99: float
    front: float
    server: float
    failed: int


@contextmanager
def places(only: Sequence[str], servers: tuple[Behind, Behind], folder: Path) -> Iterator[dict[str, Running]]:
    """Yields where each front answers, and the first server alone."""
    with ExitStack() as stack:
        found = {ALONE: Running(servers[0].rest_port, servers[0].grpc_port, ())}
        for front in FRONTS:
            if front.program() and front.name in (only or [one.name for one in FRONTS]):
                own = folder / front.name
                own.mkdir()
                found[front.name] = stack.enter_context(running(front, own, servers))
        yield found


def measure(place: Running, protocol: str, servers: Sequence[Behind], seconds: float, table: Path) -> Cost:
    """Puts one load on a place."""
    url = f"{place.rest}/v1/models/{MODEL}" if protocol == "REST" else f"grpc://{place.grpc}/{MODEL}"
    command = [sys.executable, "-m", "servable", "bench", url, "--concurrency", CALLERS, f"--csv={table}"]
    before = [cpu_seconds(one.pid) for one in servers]
    done = subprocess.run(
        [*command, "--warm-up=0", "--duration", f"{seconds}"], capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 3):
        raise SystemExit(done.stdout + done.stderr)
    used = sum(cpu_seconds(one.pid) - start for one, start in zip(servers, before, strict=True))
    (row,) = csv.DictReader(table.read_text().splitlines())
    asked = int(row["requests"])
    front = float(row["server_cpu_us"] or "nan") if place.servers else 0.0
    return Cost(
        float(row["answers_per_second"]),
        float(row["p50_ms"]),
        float(row["p99_ms"]),
        front,
        used / asked * 1e6,
        int(row["failed"]),
    )


def line(name: str, protocol: str, costs: Sequence[Cost]) -> str:
    """Returns a row of the table."""
    median = {
        field: statistics.median(getattr(cost, field) for cost in costs)
        for field in ("per_second", "p50", "p99", "front", "server")
    }
    return (
        f"| {name} | {protocol} | {median['per_second']:,.0f} | {median['p50']:.2f} | {median['p99']:.2f} | "
        f"{median['front']:.0f} | {median['server']:.0f} | {sum(cost.failed for cost in costs)} |"
    )


def main(argv: Sequence[str]) -> int:
    """Measures, and prints the table."""
    parser = argparse.ArgumentParser(description="What a front costs.")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args(argv)
    before = load_before()
    with tempfile.TemporaryDirectory(prefix="servable-fronts-") as name:
        folder = Path(name)
        servers = (Behind(folder / "1.log", MODEL, log=False), Behind(folder / "2.log", MODEL, log=False))
        try:
            with places(options.only, servers, folder) as found:
                costs: dict[tuple[str, str], list[Cost]] = {}
                for _ in range(options.rounds):
                    for place in found:
                        for protocol in ("REST", "gRPC"):
                            cost = measure(found[place], protocol, servers, options.seconds, folder / "a.csv")
                            costs.setdefault((place, protocol), []).append(cost)
        finally:
            for server in servers:
                server.kill()
    print(f"{before}\n")
    print("| front | over | requests/s | p50 ms | p99 ms | front µs | server µs | failed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (place, protocol), found_costs in costs.items():
        print(line(place, protocol, found_costs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
