"""Measures Servable against its lower bounds, and writes the table and the record.

    python benches/run.py                      everything, about ten minutes
    python benches/run.py --quick --only tiny  a quick look: one short round of a part
    python benches/run.py --against URL        the same load on another server too

The other server must serve the models of ``build/bench/models`` under their names; ``--against-pid`` adds its
CPU times. Full runs write ``docs/performance.md`` (between its two markers) and
``benches/results/rest.json``; with ``--quick``, ``--only`` or ``--against``, only ``build/bench/`` is
written. Exit status 1 if a request failed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import floors
import grpc_load
import grpc_points
import memory
import micro
import report
import ripple
import start
from load import FREE, Sample, Target, ask_once, load, wrk_version
from models import Model, prepare
from points import Request, requests
from process import BenchError
from quiet import Others, Patience, children_seconds
from results import ECHO, FLOOR, LARGE_MB, OTHER, SERVABLE, Point, Results

from servable.engines import tensorflow_library

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
RECORD = ROOT / "benches" / "results" / "rest.json"
DOCUMENT = ROOT / "docs" / "performance.md"
GRPC_READY = r"Running gRPC ModelServer at 0\.0\.0\.0:(\d+)"
OTHERS = ("start", "memory", "ripple", "returned", "micro")
SAME_ENGINE = "--engine=tensorflow"
"""For servers beside bare runs of TensorFlow: the last digits of another engine differ."""
RIPPLE_SECONDS = 20.0
RETURNED_CYCLES = 20

Put = Callable[[Target, Path, int, float, str], Sample]
"""Puts a load on a target: body, connections, seconds, layout of cores."""


@dataclass(frozen=True)
class Settings:
    """Durations and repetitions. seconds: load for each sample; bare_seconds: bare runs each way.

    patience: seconds in all to wait for a quiet machine, and to repeat disturbed measurements.
    """

    rounds: int
    seconds: float
    warm_up: float
    bare_seconds: float
    starts: int
    patience: float

    def __str__(self) -> str:
        return (
            f"Medians (lowest to highest) of {self.rounds} rounds, servers alternating, "
            f"{self.seconds:g} s each, load generator on the same cores; {self.starts} starts."
        )


def all_groups() -> list[str]:
    """Returns the groups that can be measured alone, in order."""
    return [*(request.name for request in [*requests(), *grpc_points.requests()]), *OTHERS]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the command line."""
    groups = all_groups()
    parser = argparse.ArgumentParser(description="Measure Servable beside its floors.")
    parser.add_argument("--only", action="append", choices=groups, help="this group alone; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each point (3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="seconds of load for each sample (6)")
    parser.add_argument("--starts", type=int, default=9, help="starts to time (9)")
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        help="seconds in all to wait and measure again while others use the machine (60)",
    )
    parser.add_argument("--quick", action="store_true", help="one round of a second, three starts")
    parser.add_argument("--against", metavar="URL", help="another server, such as http://127.0.0.1:8501")
    parser.add_argument("--against-pid", type=int, metavar="PID", help="its process, for its CPU times")
    parser.add_argument(
        "--servable",
        type=Path,
        default=Path(sys.executable).with_name("servable"),
        help="the program to measure",
    )
    return parser.parse_args(argv)


class Bench:
    """One run: the models, the floors' programs, the settings, and the results so far."""

    def __init__(self, options: argparse.Namespace, settings: Settings) -> None:
        self.settings = settings
        self.options = options
        self.patience = Patience(settings.patience)
        self.command = start.Command((str(options.servable), "serve"), BUILD)
        self.models = prepare(BUILD / "models")
        self.results = Results()

    @cached_property
    def run_floor(self) -> Path:
        """The program that runs a model bare; built on first use."""
        return floors.build_run(Path(tensorflow_library.find()), BUILD)

    @cached_property
    def http_floor(self) -> Path:
        """The bare hyper server; built on first use."""
        return floors.build_http()

    def measure(self, wanted: Sequence[str]) -> Results:
        """Measures the groups in ``wanted``."""
        if set(wanted) - set(OTHERS):
            built = (self.http_floor, self.run_floor)  # before any server runs
            print("floors: " + ", ".join(program.name for program in built), flush=True)
        for request in requests():
            if request.name in wanted:
                self._load(request)
        over_grpc = [request for request in grpc_points.requests() if request.name in wanted]
        programs = grpc_load.build(BUILD) if over_grpc else None
        for request in over_grpc:
            if programs is not None:
                self._load_grpc(request, programs)
        base = self.models["half_plus_two"].base
        tiny, large = (
            next(one.body for one in requests() if one.name == name) for name in ("tiny", "floats")
        )
        if "start" in wanted:
            print("start to first answer", flush=True)
            self.results.starts = start.starts(self.command, base, tiny, self.settings.starts, self.patience)
        if "memory" in wanted:
            print("memory", flush=True)
            rounds = range(self.settings.rounds)
            self.results.memory = [start.memory(self.command, base, tiny, large) for _ in rounds]
        self._large(wanted)
        if "micro" in wanted:
            self.patience.wait()
            self.results.micro = micro.run_all()
        return self.results

    def _large(self, wanted: Sequence[str]) -> None:
        """Measures the effects of loading and unloading a large model."""
        quick = self.settings.rounds == 1
        if "ripple" in wanted:
            print("ripple", flush=True)
            self.patience.wait()
            seconds = RIPPLE_SECONDS / 4 if quick else RIPPLE_SECONDS
            self.results.ripple = ripple.run(BUILD, LARGE_MB["ripple"], self.settings.rounds, seconds)
        if "returned" in wanted:
            print("memory that comes back", flush=True)
            self.results.returned = memory.run(BUILD, RETURNED_CYCLES, LARGE_MB["returned"])

    def _load(self, request: Request) -> None:
        model = self.models[request.model]
        body = BUILD / f"{request.name}.json"
        body.write_bytes(request.body)
        with self.command.serve(model.base, 0, (SAME_ENGINE, *request.flags)) as process:
            port = process.wait_for(r"Exporting HTTP/REST API at:localhost:(\d+)")[1]
            path = f"/v1/models/{request.model}:predict"
            url = f"http://127.0.0.1:{port}{path}"
            reply = ask_once(url, request.body)
            floor, floor_url = floors.serve_http(self.http_floor, reply, BUILD, request.name)
            targets = {SERVABLE: Target(url, process.pid), FLOOR: Target(floor_url, floor.pid)}
            if self.options.against:
                targets[OTHER] = Target(self.options.against.rstrip("/") + path, self.options.against_pid)
            with floor:
                self._rounds(request, model, body, targets, reply, load)
            if ask_once(url, request.body) != reply:
                raise BenchError(f"{request.name}: the reply after the load is not the one before it")

    def _load_grpc(self, request: Request, programs: grpc_load.Programs) -> None:
        model = self.models[request.model]
        body = BUILD / f"{request.name}.request"
        body.write_bytes(request.body)
        with self.command.serve(model.base, 0, (SAME_ENGINE, *request.flags)) as process:
            port = process.wait_for(GRPC_READY)[1]
            reply = programs.ask_once(port, body)
            echo, echo_port = programs.serve_echo(body.with_suffix(".reply"))
            targets = {SERVABLE: Target(port, process.pid), ECHO: Target(echo_port, echo.pid)}
            with echo:
                self._rounds(request, model, body, targets, reply, programs.load_on)
            if programs.ask_once(port, body) != reply:
                raise BenchError(f"{request.name}: the reply after the load is not the one before it")

    def _rounds(
        self,
        request: Request,
        model: Model,
        body: Path,
        targets: dict[str, Target],
        reply: bytes,
        put: Put,
    ) -> None:
        points = [
            Point(
                request.name,
                request.title,
                connections,
                layout,
                len(request.body),
                len(reply),
                {name: [] for name in targets},
            )
            for connections, layout in request.loads
        ]
        self.results.points += points
        bare = self.results.bare.setdefault(request.name, {})
        for target in targets.values():
            put(target, body, max(request.loads)[0], self.settings.warm_up, FREE)
        for number in range(self.settings.rounds):
            print(f"{request.name}: round {number + 1} of {self.settings.rounds}", flush=True)
            for way, run in self._bare(request, model).items():
                bare.setdefault(way, []).append(run)
            for point in points:
                for name, sample in self._samples(point, body, targets, put).items():
                    point.samples[name].append(sample)

    def _bare(self, request: Request, model: Model) -> dict[str, floors.Run]:
        def measure() -> tuple[dict[str, floors.Run], float]:
            before, others = children_seconds(), Others()
            runs = floors.bare_runs(self.run_floor, model, request, BUILD, self.settings.bare_seconds)
            return runs, others.share(children_seconds() - before)

        return self.patience.undisturbed(measure, lambda found: found[1])[0]

    def _samples(self, point: Point, body: Path, targets: dict[str, Target], put: Put) -> dict[str, Sample]:
        def measure() -> dict[str, Sample]:
            return {
                name: put(target, body, point.connections, self.settings.seconds, point.layout)
                for name, target in targets.items()
            }

        return self.patience.undisturbed(
            measure, lambda found: max(sample.others for sample in found.values())
        )


def main(argv: Sequence[str]) -> int:
    """Measures, prints and writes; returns the exit status."""
    options = arguments(argv)
    # The kernels of bare runs are those of the server by default; TensorFlow decides by the processor.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    settings = (
        Settings(1, 1.0, 1.0, 0.5, 3, 0.0)
        if options.quick
        else Settings(options.rounds, options.seconds, 2.0, 1.5, options.starts, options.patience)
    )
    wanted = options.only or all_groups()
    partial = bool(options.only or options.quick or options.against)
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        wrk_version()
        results = Bench(options, settings).measure(wanted)
    except BenchError as error:
        print(f"benches/run.py: {error}", file=sys.stderr)
        return 1
    head: dict[str, object] = {
        "command": " ".join(["python benches/run.py", *map(shlex.quote, argv)]),
        "date": datetime.date.today().isoformat(),
        "settings": str(settings),
        "machine": report.machine(),
    }
    write(results, head, partial)
    errors = sum(
        sample.errors for point in results.points for all in point.samples.values() for sample in all
    )
    if errors:
        print(f"benches/run.py: {errors} requests failed", file=sys.stderr)
    return 1 if errors else 0


def write(results: Results, head: dict[str, object], partial: bool) -> None:
    """Prints the tables; writes them and the record."""
    text = report.as_markdown(results, head)
    print("\n" + text, flush=True)
    record = BUILD / "partial.json" if partial else RECORD
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(report.as_json(results, head), encoding="utf-8")
    if not partial:
        report.replace_between_markers(DOCUMENT, text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
