"""Overload: requests arrive faster than the server can answer, and clients give up.

    python benches/overload.py [--times 1 2 4] [--seconds 10] [--arrivals even|poisson] [--grpc]

The capacity is measured first, by 16 clients that each wait for their answer. Then, at each multiple of it,
photos arrive for ten seconds whether or not the earlier ones have been answered (``open_load.rs``); each
client waits for two seconds, over gRPC with that as its deadline, and then closes its connection or resets
its call. Before and right after every storm, four clients ask for some seconds, of which each is measured by
itself: a first second after the storm that is slower than all those before it and after it was made so by
the storm. Every storm meets a fresh server, ``--rounds`` times. With ``--against`` and ``--against-pid``,
another server that serves ``mobilenet_v2`` gets the same storms, at multiples of the same capacity.
Writes ``build/bench/overload.json``. Needs wrk.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc_load
import real_points
import start
from grpc_points import predict_request
from load import Sample, Target, ask_once, load, wrk_version
from models import Model, prepare
from process import BenchError, Peak, Process, memory_bytes, usage, wait_idle
from report import digits, table

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
RECORD = BUILD / "overload.json"
CARGO = ("cargo", "build", "--release", "--locked", "--example", "open_load")
MODEL = "mobilenet_v2"
GRPC_PATH = "/tensorflow.serving.PredictionService/Predict"
CLOSED_CLIENTS, BESIDE_CLIENTS = 16, 4
BESIDE_SECONDS, BESIDE_TIMES = 1.0, 4
LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Storm:
    """What became of the requests of one storm; as printed by ``open_load``.

    good_within: the good answers that came while requests arrived. late: given up, or over their deadline.
    """

    sent: int
    good: int
    good_within: int
    refused: int
    late: int
    failed: int
    good_p50_ms: float
    good_p99_ms: float
    good_max_ms: float
    refused_p50_ms: float
    refused_p99_ms: float
    refused_max_ms: float


@dataclass(frozen=True)
class Overload:
    """A storm and the server in it.

    rate: arrivals a second. cores: the server's CPU time over the storm's seconds. before, after: four
    clients, one second after the other; None where none of them was answered.
    """

    server: str
    times: float
    capacity: float
    rate: float
    seconds: float
    storm: Storm
    cores: float
    grown_bytes: int
    before: Sequence[Sample]
    after: Sequence[Sample | None]

    def beside(self) -> str:
        """Returns answers a second by the median before: those before, in the first second after, later."""
        usual = statistics.median(sample.per_second for sample in self.before)
        rates = [
            [one.per_second / usual if one else 0.0 for one in some] for some in (self.before, self.after)
        ]
        spread, (first, *later) = rates
        return (
            f"{digits(min(spread))} to {digits(max(spread))}; {digits(first)}; "
            f"{digits(min(later))} to {digits(max(later))}"
        )

    @property
    def good_per_second(self) -> float:
        """Good answers a second while requests arrived."""
        return self.storm.good_within / self.seconds


@dataclass(frozen=True)
class Load:
    """One protocol: the request's file, and how it is put in a closed loop and in an open one."""

    protocol: str
    body: Path
    path: str
    put: Callable[[Target, Path, int, float], Sample]
    program: Path

    def target(self, process: Process) -> Target:
        """Returns the address of a server that was started here."""
        if self.protocol == "grpc":
            port = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
            return Target(f"127.0.0.1:{port}", process.pid)
        port = process.wait_for(r"REST API at:\S+?:(\d+)")[1]
        return Target(f"http://127.0.0.1:{port}{self.path}", process.pid)

    def closed(self, target: Target, clients: int, seconds: float) -> Sample:
        """Runs clients that each wait for their answer; returns when the server is at rest."""
        sample = self.put(target, self.body, clients, seconds)
        wait_idle(target.pid)
        return sample

    def storm(self, target: Target, rate: float, options: argparse.Namespace) -> Storm:
        """Lets the requests arrive."""
        address = urlsplit(target.url).netloc if self.protocol == "rest" else target.url
        how = (f"{rate:g}", f"{options.seconds:g}", f"{options.give_up:g}", options.arrivals)
        ran = subprocess.run(
            [self.program, self.protocol, address, self.path, self.body, *how],
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        if ran.returncode != 0:
            raise BenchError(f"the load on {address} failed: {ran.stderr.strip()}")
        if ran.stderr:
            print(ran.stderr.strip(), flush=True)
        return Storm(**json.loads(ran.stdout))


def build() -> Path:
    """Builds the load generator; returns the program."""
    print("building the open-loop load", flush=True)
    subprocess.run(CARGO, cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples" / "open_load"


def photo_load(protocol: str) -> Load:
    """Returns the load of photos over ``protocol``."""
    (request,) = (one for one in real_points.requests() if one.model == MODEL)
    program = build()
    body = BUILD / f"overload.{protocol}"
    if protocol == "grpc":
        body.write_bytes(predict_request(MODEL, request.feeds))
        return Load(protocol, body, GRPC_PATH, grpc_load.build_load().load_on, program)
    body.write_bytes(request.body)
    return Load(protocol, body, f"/v1/models/{MODEL}:predict", load, program)


def meet(
    server: tuple[str, Target], put: Load, times: float, capacity: float, options: argparse.Namespace
) -> Overload:
    """Puts one storm on a warm server, which has a name."""
    name, target = server
    before = [one for one in _seconds(target, put) if one]
    if not before:
        raise BenchError(f"{name} answers nobody before the storm")
    wait_idle(target.pid)
    resident = memory_bytes(target.pid, "VmRSS") if target.pid is not None else 0
    with Peak(target.pid) as peak:
        used = usage(target.pid)
        storm = put.storm(target, times * capacity, options)
        cpu = usage(target.pid).cpu - used.cpu
        after = _seconds(target, put)
    wait_idle(target.pid)
    return Overload(
        server=name,
        times=times,
        capacity=capacity,
        rate=times * capacity,
        seconds=options.seconds,
        storm=storm,
        cores=cpu / options.seconds,
        grown_bytes=max(0, peak.most - resident),
        before=before,
        after=after,
    )


def _seconds(target: Target, put: Load) -> list[Sample | None]:
    """Lets a few clients ask, one second after the other."""

    def second() -> Sample | None:
        try:
            return put.put(target, put.body, BESIDE_CLIENTS, BESIDE_SECONDS)
        except BenchError as error:
            print(f"beside the storm: {error}", flush=True)
            return None

    return [second() for _ in range(BESIDE_TIMES)]


@contextmanager
def serving(options: argparse.Namespace, model: Model, put: Load) -> Iterator[Target]:
    """Runs a server of the photo model alone, warm."""
    command = start.Command((str(options.servable), "serve"), BUILD)
    with command.serve(model.base, 0, options.flag) as process:
        process.wait_for(r"ready: 1 of 1 models")
        target = put.target(process)
        if put.protocol == "rest":  # the load over gRPC does it by itself
            ask_once(target.url, put.body.read_bytes())  # the first may take a second
        put.closed(target, CLOSED_CLIENTS, options.warm_up)
        yield target


def measure(options: argparse.Namespace) -> list[Overload]:
    """Measures the capacity, then every storm on a fresh server, and on the other one if there is one."""
    model = prepare(BUILD / "models")[MODEL]
    put = photo_load("grpc" if options.grpc else "rest")
    capacity = options.capacity
    if capacity is None:
        with serving(options, model, put) as target:
            capacity = put.closed(target, CLOSED_CLIENTS, options.seconds / 2).per_second
    print(f"capacity: {capacity:.1f} requests/s", flush=True)
    found = []
    for times in [times for times in options.times for _ in range(options.rounds)]:
        print(f"{times:g} times the capacity", flush=True)
        with serving(options, model, put) as target:
            found.append(meet(("Servable", target), put, times, capacity, options))
        if options.against:
            url = options.against if options.grpc else options.against.rstrip("/") + put.path
            other = ("other server", Target(url, options.against_pid))
            found.append(meet(other, put, times, capacity, options))
    return found


TITLES = (
    *("server", "arrivals/s", "good/s", "÷ capacity", "good p50, p99 ms", "refused", "refused p99 ms"),
    *("gave up", "failed", "server's cores", "grown MB", "seconds before; first after; later, ÷ usual"),
)


def row(found: Overload) -> tuple[str, ...]:
    """Returns the row of the table."""
    storm = found.storm
    return (
        found.server,
        f"{digits(found.rate)} ({found.times:g} times)",
        digits(found.good_per_second),
        digits(found.good_per_second / found.capacity),
        f"{digits(storm.good_p50_ms)}, {digits(storm.good_p99_ms)}",
        str(storm.refused),
        digits(storm.refused_p99_ms) if storm.refused else "-",
        str(storm.late),
        str(storm.failed),
        digits(found.cores),
        digits(found.grown_bytes / 1e6),
        found.beside(),
    )


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=float, nargs="+", default=[1, 2, 4], help="of the capacity (1 2 4)")
    parser.add_argument("--rounds", type=int, default=1, help="storms at each multiple (1)")
    parser.add_argument("--capacity", type=float, help="requests/s, instead of measuring it")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each storm (10)")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds of load on a fresh server (3)")
    parser.add_argument("--give-up", type=float, default=2.0, help="seconds that a client waits (2)")
    parser.add_argument("--arrivals", choices=["even", "poisson"], default="poisson")
    parser.add_argument("--grpc", action="store_true", help="over gRPC, with deadlines")
    parser.add_argument("--flag", action="append", default=[], help="of the server; may be repeated")
    parser.add_argument("--against", metavar="ADDRESS", help="another server: URL, or HOST:PORT with --grpc")
    parser.add_argument("--against-pid", type=int, metavar="PID", help="its process, for CPU and memory")
    parser.add_argument(
        "--servable",
        type=Path,
        default=Path(sys.executable).with_name("servable"),
        help="the program to measure",
    )
    return parser.parse_args()


def main() -> int:
    """Measures, prints and writes; returns the exit status."""
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        wrk_version()
        found = measure(arguments())
    except BenchError as error:
        print(f"benches/overload.py: {error}", file=sys.stderr)
        return 1
    print("\n" + table(TITLES, map(row, found)))
    record = [dataclasses.asdict(one) | {"good_per_second": one.good_per_second} for one in found]
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
