"""Two builds of Servable by turns: the CPU time of a request to this one over that to another.

    python benches/turns.py CHECKOUT [--seconds 3] [--rounds 6] [--only NAME …]

CHECKOUT is another checkout of this project with its core built the same way into its python/servable
(``maturin develop --release``). Both serve the same models at once; load goes to one and then to the other,
and the one that begins changes with each round, so that a machine that gets slower does so for both. A row a
load: the median of CPU time per request of each, the median and range of the rounds' ratios, and the median
of the ratios of p50. Needs wrk.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc_load
import load
from grpc_points import predict_request
from load import Sample, Target
from models import Model, prepare
from points import Feed, requests
from process import BenchError, Process

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
Ask = Callable[["Running", float], Sample]


@dataclass(frozen=True)
class Running:
    """A server of one checkout, with both ports."""

    rest: str
    grpc: str
    pid: int


@contextmanager
def serving(checkout: Path, models: list[Model], log: Path) -> Iterator[Running]:
    """Runs a server of ``models``, from the package in ``checkout``."""
    served = [f"{model.name}={model.base}" for model in models]
    command = ["env", f"PYTHONPATH={checkout / 'python'}", sys.executable, "-m", "servable", "serve", *served]
    with Process([*command, "--port=0", "--rest_api_port=0"], log) as process:
        rest = process.wait_for(r"REST API at:\S+?:(\d+)")[1]
        grpc = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
        process.wait_for(rf"ready: {len(models)} of {len(models)} models")
        yield Running(rest, grpc, process.pid)


def loads() -> dict[str, Ask]:
    """Returns the loads to measure, by name: REST and gRPC, tiny and not."""
    by_name = {request.name: request for request in requests()}
    programs = grpc_load.build_load()

    def rest(name: str, connections: int) -> Ask:
        request = by_name[name]
        body = BUILD / f"turns.{name}.json"
        body.write_bytes(request.body)

        def ask(server: Running, seconds: float) -> Sample:
            url = f"http://127.0.0.1:{server.rest}/v1/models/{request.model}:predict"
            return load.load(Target(url, server.pid), body, connections, seconds)

        return ask

    def grpc(name: str, message: bytes, calls: int) -> Ask:
        body = BUILD / f"turns.{name}.body"
        body.write_bytes(message)

        def ask(server: Running, seconds: float) -> Sample:
            programs.ask_once(server.grpc, body)
            return programs.load_on(Target(server.grpc, server.pid), body, calls, seconds)

        return ask

    numbers = array("f", [1.0, 2.0, 5.0]).tobytes()
    tiny = predict_request("half_plus_two", {"x": Feed("float", (3,), numbers)})
    floats = predict_request("floats_stub", by_name["picture"].feeds)
    return {
        "tiny, REST, 1": rest("tiny", 1),
        "tiny, REST, 16": rest("tiny", 16),
        "tiny, REST, 64": rest("tiny", 64),
        "tiny, gRPC, 1": grpc("tiny", tiny, 1),
        "tiny, gRPC, 16": grpc("tiny", tiny, 16),
        "602 KB in, 4 KB out, gRPC, 1": grpc("floats", floats, 1),
        "150,528 floats in and out, REST, 1": rest("floats", 1),
    }


def row(name: str, ask: Ask, mine: Running, theirs: Running, rounds: int, seconds: float) -> str:
    """Measures one load; returns its row of the table."""
    samples: dict[Running, list[Sample]] = {mine: [], theirs: []}
    for turn in range(rounds):
        for server in (mine, theirs) if turn % 2 else (theirs, mine):
            sample = ask(server, seconds)
            if sample.errors:
                raise BenchError(f"{name}: {sample.errors} requests failed")
            samples[server].append(sample)
    cpu = [[sample.cpu_us or 0.0 for sample in samples[server]] for server in (mine, theirs)]
    ratios = sorted(one / other for one, other in zip(*cpu, strict=True))
    p50 = [one.p50_us / other.p50_us for one, other in zip(samples[mine], samples[theirs], strict=True)]
    return (
        f"| {name} | {statistics.median(cpu[1]):.1f} | {statistics.median(cpu[0]):.1f} "
        f"| {statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
        f"| {statistics.median(p50):.3f} |"
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="the other one, built")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load, in each round")
    parser.add_argument("--rounds", type=int, default=6, help="of each load")
    parser.add_argument("--only", action="append", metavar="NAME", help="this load; may be repeated")
    given = parser.parse_args()
    prepared = prepare(BUILD / "models")
    measured = loads()
    models = [prepared[name] for name in ("half_plus_two", "echo_floats", "floats_stub")]
    with ExitStack() as stack:
        mine = stack.enter_context(serving(ROOT, models, BUILD / "turns.mine.log"))
        theirs = stack.enter_context(serving(given.checkout, models, BUILD / "turns.theirs.log"))
        print("| load | other, µs of CPU | this, µs of CPU | this over other | p50, this over other |")
        print("| --- | --- | --- | --- | --- |")
        for name in given.only or measured:
            print(row(name, measured[name], mine, theirs, given.rounds, given.seconds), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (BenchError, subprocess.SubprocessError) as error:
        sys.exit(f"turns: {error}")
