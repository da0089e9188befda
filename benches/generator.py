"""The load generator against others: what it reaches on one core, and what its open loop tells.

    python benches/generator.py [--seconds 5] [--rounds 5] [--rate N] [--vegeta PROGRAM]

The server is bare hyper (``floor_http.rs``), which answers with the same bytes every time. It has one core,
and the load generators another: by turns wrk and ``servable bench``, with 1, 16 and 64 connections. A row
each: the medians of answers a second and of the generator's CPU time per request, and the median of the
rounds' ratios. Then an open loop at half of what was reached, by turns with vegeta, if that is given:
percentiles of both.
Writes ``build/bench/generator.json``. Needs wrk and cargo.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from floors import build_http, serve_http
from load import SCRIPT, wrk_version
from process import BenchError, pin
from quiet import children_seconds
from report import digits, table

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
RECORD = BUILD / "generator.json"
BODY = b'{"instances": [1.0, 2.0, 5.0]}'
REPLY = b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
CONNECTIONS = (1, 16, 64)
LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Reached:
    """One run in a closed loop. cpu_us: of the load generator, for each request."""

    per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float


@dataclass(frozen=True)
class Percentiles:
    """One run in an open loop, in microseconds."""

    p50: float
    p90: float
    p99: float


def on(
    cores: set[int], command: Sequence[str | Path], more: dict[str, str] | None = None
) -> tuple[str, float]:
    """Runs a program on some cores; returns what it printed, and its CPU seconds."""
    before = children_seconds()
    ran = subprocess.run(
        [str(part) for part in command],
        env=os.environ | (more or {}),
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    if ran.returncode != 0:
        raise BenchError(f"{command[0]} failed: {ran.stdout}{ran.stderr}")
    return ran.stdout, children_seconds() - before


def by_wrk(url: str, body: Path, connections: int, seconds: float, cores: set[int]) -> Reached:
    """Asks with wrk, of one thread."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--script={SCRIPT}", url]
    out, cpu = on(cores, command, {"BODY_FILE": str(body)})
    told = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    if sum(told["errors"].values()):
        raise BenchError(f"wrk: {told['errors']}")
    rate = told["requests"] / told["seconds"]
    return Reached(rate, told["p50_us"], told["p99_us"], cpu / told["requests"] * 1e6)


def bench_sample(url: str, body: Path, cores: set[int], how: Sequence[str]) -> dict[str, Any]:
    """Asks with ``servable bench``, of one thread; returns its record."""
    path = BUILD / "generator.sample.json"
    command = [sys.executable, "-m", "servable", "bench", url, f"--body={body}", f"--json={path}", *how]
    on(cores, command)
    (sample,) = json.loads(path.read_text())["samples"]
    found: dict[str, Any] = sample
    return found


def by_bench(url: str, body: Path, connections: int, seconds: float, cores: set[int]) -> Reached:
    """The same load as ``by_wrk``. Its CPU time is as it measures it: of its threads, while they measure."""
    how = [f"--concurrency={connections}", f"--duration={seconds:g}", "--warm-up=0"]
    sample = bench_sample(url, body, cores, how)
    quantiles = sample["all"]["times"]["quantiles"]
    return Reached(
        sample["per_second"], quantiles["p50"] * 1e3, quantiles["p99"] * 1e3, sample["generator_cpu_us"]
    )


def open_bench(url: str, body: Path, rate: float, seconds: float, cores: set[int]) -> Percentiles:
    """An open loop of ``servable bench``."""
    how = [f"--rate={rate:.0f}", f"--duration={seconds:g}", "--warm-up=1"]
    quantiles = bench_sample(url, body, cores, how)["all"]["times"]["quantiles"]
    return Percentiles(*(quantiles[name] * 1e3 for name in ("p50", "p90", "p99")))


def open_vegeta(
    vegeta: Path, url: str, body: Path, rate: float, seconds: float, cores: set[int]
) -> Percentiles:
    """An open loop of vegeta."""
    targets, results = BUILD / "generator.targets", BUILD / "generator.results"
    targets.write_text(f"POST {url}\nContent-Type: application/json\n@{body}\n")
    how = [f"-rate={rate:.0f}/s", f"-duration={seconds:g}s", f"-targets={targets}", f"-output={results}"]
    on(cores, [vegeta, "attack", *how])
    told = json.loads(on(cores, [vegeta, "report", "-type=json", results])[0])
    if told["success"] < 1:
        raise BenchError(f"vegeta: {told['errors']}")
    return Percentiles(*(told["latencies"][name] / 1e3 for name in ("50th", "90th", "99th")))


def closed_row(connections: int, runs: dict[str, list[Reached]]) -> list[str]:
    """Returns a row of the table."""
    wrk, own = runs["wrk"], runs["servable bench"]
    ratios = sorted(one.per_second / other.per_second for one, other in zip(own, wrk, strict=True))

    def median(of: list[Reached], name: str) -> str:
        return digits(statistics.median(getattr(one, name) for one in of))

    return [
        str(connections),
        *(
            f"{median(wrk, name)}; {median(own, name)}"
            for name in ("per_second", "p50_us", "p99_us", "cpu_us")
        ),
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
    ]


def open_row(name: str, runs: list[Percentiles]) -> list[str]:
    """Returns a row of the second table."""
    return [
        name,
        *(digits(statistics.median(getattr(one, p) for one in runs)) for p in ("p50", "p90", "p99")),
    ]


def by_turns(tools: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Lets tools take turns; the one that begins changes."""
    found: dict[str, list[Any]] = {name: [] for name in tools}
    for number in range(rounds):
        for name in list(tools) if number % 2 else reversed(list(tools)):
            found[name].append(tools[name]())
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measures both loops; prints the tables."""
    last = {max(os.sched_getaffinity(0))}
    program = build_http()
    body = BUILD / "generator.body"
    body.write_bytes(BODY)
    server, root = serve_http(program, REPLY, BUILD, "generator")
    url = f"{root}v1/models/m:predict"
    closed, seconds = {}, options.seconds
    with server:
        pin(server.pid, os.sched_getaffinity(0) - last or last)
        for connections in CONNECTIONS:
            asked = (url, body, connections, seconds, last)
            tools = {"wrk": partial(by_wrk, *asked), "servable bench": partial(by_bench, *asked)}
            closed[connections] = by_turns(tools, options.rounds)
            print(closed_row(connections, closed[connections]), flush=True)
        reached = statistics.median(one.per_second for one in closed[16]["servable bench"])
        rate = options.rate or reached / 2
        arrivals = (url, body, rate, seconds, last)
        both: dict[str, Callable[[], Any]] = {"servable bench": partial(open_bench, *arrivals)}
        if options.vegeta:
            both["vegeta"] = partial(open_vegeta, options.vegeta, *arrivals)
        opened = by_turns(both, options.rounds)
    heads = (
        "connections",
        "answers/s: wrk; bench",
        "p50 µs",
        "p99 µs",
        "CPU µs of the load",
        "bench over wrk",
    )
    print("\n" + table(heads, [closed_row(*one) for one in closed.items()]))
    rows = [open_row(*one) for one in opened.items()]
    print(f"\nopen loop, {rate:.0f}/s\n\n" + table(("tool", "p50 µs", "p90 µs", "p99 µs"), rows))
    return {
        "closed": {count: _plain(runs) for count, runs in closed.items()},
        "rate": rate,
        "open": _plain(opened),
    }


def _plain(runs: dict[str, list[Any]]) -> dict[str, list[dict[str, float]]]:
    return {name: [asdict(one) for one in found] for name, found in runs.items()}


def main() -> int:
    """Measures and writes; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (5)")
    parser.add_argument("--rounds", type=int, default=5, help="of each tool (5)")
    parser.add_argument("--rate", type=float, help="of the open loop (half of what 16 connections reach)")
    parser.add_argument("--vegeta", type=Path, help="the program of the second tool for the open loop")
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        wrk_version()
        found = measure(parser.parse_args())
    except (BenchError, subprocess.SubprocessError) as error:
        print(f"benches/generator.py: {error}", file=sys.stderr)
        return 1
    RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
