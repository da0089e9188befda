"""Measures real models under real load, beside the bare C API and, on request, another server by turns.

    python benches/real.py                                    everything, about an hour
    python benches/real.py --only mobilenet_v2 --over rest    one model over one protocol
    python benches/real.py --quick --only table               a quick look: one short round
    python benches/real.py --against http://HOST:PORT --against-grpc HOST:PORT --against-pid PID
    python benches/real.py --against-command "tensorflow_model_server --model_name={name} \
        --model_base_path={base} --rest_api_port={rest_port} --port={grpc_port}"

Each round of a model first runs it bare, in many numbers of threads; then, for each protocol, starts a server
of it alone, times the first ten requests, lets it rest, loads it with 1, 4, 16 and 64 clients, and lets it
rest again. The other server must serve the models of ``build/bench/models`` under their names; one that is
started by a command has its first requests and its memory measured alike. Full runs
write ``docs/performance.md`` (between markers of their own) and ``benches/results/real.json``; any other run
writes ``build/bench/real.json``. Exit status 1 if a request failed. Needs wrk, a C compiler and TensorFlow.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import first
import floors
import grpc_load
import real_points
import real_report
import real_servers
import report
import start
from grpc_points import predict_request
from load import Sample, Target, load, wrk_version
from models import prepare
from points import Request
from process import BenchError, Peak, memory_bytes, wait_idle
from quiet import Others, Patience, children_seconds
from real_results import GRPC, REST, RealResults, Resident, Served, best
from real_servers import Server
from results import OTHER, SERVABLE

from servable.engines import tensorflow_library

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
RECORD = ROOT / "benches" / "results" / "real.json"
DOCUMENT = ROOT / "docs" / "performance.md"
CLIENTS = (1, 4, 16, 64)
THREADS = (1, 2, 3, 4, 6, 8)
PROTOCOLS = {"rest": REST, "grpc": GRPC}
ANSWERS_EACH = 4  # a client gets at least so many in a load, or waiting would not show in the percentiles

Put = Callable[[Target, Path, int, float], Sample]
"""Puts a load on a target: body, clients, seconds."""


@dataclass(frozen=True)
class Settings:
    """Durations in seconds, and repetitions. seconds: a load. bare: each bare way. rest: without load.

    patience: in all, to wait for a quiet machine and to repeat disturbed measurements.
    """

    rounds: int
    seconds: float
    bare: float
    rest: float
    patience: float

    def __str__(self) -> str:
        return (
            f"Medians (lowest to highest) of {self.rounds} rounds, servers alternating, {self.seconds:g} s "
            f"or {ANSWERS_EACH} answers a client, load generator on the same cores; memory is read after "
            f"{self.rest:g} s of rest."
        )


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the command line."""
    names = [request.name for request in real_points.requests()]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=names, help="this model alone; may be repeated")
    parser.add_argument("--over", choices=list(PROTOCOLS), help="this protocol alone")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS), help="at once (1 4 16 64)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each model (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each load (5)")
    parser.add_argument(
        "--bare-seconds", type=float, default=1.5, help="of each bare way; 0: no bare runs (1.5)"
    )
    parser.add_argument("--rest", type=float, default=10.0, help="seconds before memory is read (10)")
    parser.add_argument(
        "--patience", type=float, default=120.0, help="seconds in all to wait for quiet (120)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of a second")
    parser.add_argument(
        "--flag", action="append", default=[], help="of the server, such as --flag=--batching=auto"
    )
    parser.add_argument("--against", metavar="URL", help="another server, such as http://127.0.0.1:8501")
    parser.add_argument("--against-grpc", metavar="HOST:PORT", help="its gRPC port")
    parser.add_argument(
        "--against-pid", type=int, metavar="PID", help="its process, for CPU, faults and memory"
    )
    parser.add_argument(
        "--against-command",
        metavar="COMMAND",
        help="instead, a command with {name}, {base}, {rest_port}, {grpc_port}, run for each model",
    )
    parser.add_argument(
        "--servable",
        type=Path,
        default=Path(sys.executable).with_name("servable"),
        help="the program to measure",
    )
    return parser.parse_args(argv)


class Bench:
    """One run: the models, the programs, the settings, and the results so far."""

    def __init__(self, options: argparse.Namespace, settings: Settings) -> None:
        self.options = options
        self.settings = settings
        self.patience = Patience(settings.patience)
        self.command = start.Command((str(options.servable), "serve"), BUILD)
        self.models = prepare(BUILD / "models")
        self.run_floor = floors.build_run(Path(tensorflow_library.find()), BUILD)
        # The last digits of a real model's results may depend on the batch and on the number of threads.
        self.programs = grpc_load.Programs(grpc_load.build_load().load, same_bytes=False)
        self.results = RealResults()

    def measure(self) -> RealResults:
        """Measures every wanted model, each in all its rounds."""
        for request in real_points.requests():
            if self.options.only and request.name not in self.options.only:
                continue
            served = [
                Served(request.model, request.title, name)
                for protocol, name in PROTOCOLS.items()
                if self.options.over in (None, protocol) and (protocol == "grpc" or request.body)
            ]
            self.results.served += served
            for number in range(self.settings.rounds):
                print(f"{request.name}: round {number + 1} of {self.settings.rounds}", flush=True)
                self._bare(request)
                for one in served:
                    self._round(request, one)
        return self.results

    def _bare(self, request: Request) -> None:
        if not self.settings.bare:
            return
        model = self.models[request.model]

        def measure() -> tuple[list[floors.Run], float]:
            before, others = children_seconds(), Others()
            runs = floors.bare_threads(self.run_floor, model, request, BUILD, self.settings.bare, THREADS)
            return runs, others.share(children_seconds() - before)

        runs = self.patience.undisturbed(measure, lambda found: found[1])[0]
        self.results.bare.setdefault(request.model, []).append(runs)

    def _round(self, request: Request, served: Served) -> None:
        """Starts a server of the model alone, and measures it beside the other one if there is one."""
        model = self.models[request.model]
        with ExitStack() as stack:
            ours = real_servers.servable(self.command, model, self.options.flag)
            servers = {SERVABLE: stack.enter_context(ours)}
            if self.options.against_command:
                log = BUILD / f"{model.name}.other.log"
                other = real_servers.started(self.options.against_command, model, log)
                servers[OTHER] = stack.enter_context(other)
            elif self.options.against or self.options.against_grpc:
                given = self.options
                servers[OTHER] = real_servers.running(given.against, given.against_grpc, given.against_pid)
            (self._over_rest if served.protocol == REST else self._over_grpc)(request, served, servers)

    def _over_rest(self, request: Request, served: Served, servers: Mapping[str, Server]) -> None:
        body = BUILD / f"real.{request.name}.json"
        body.write_bytes(request.body)
        targets = {}
        for name, server in servers.items():
            if server.rest is not None:
                took = first.over_rest(server.rest, request.model, request.body)
                served.add_first(name, took, server.fresh)
                url = f"http://{server.rest}/v1/models/{request.model}:predict"
                targets[name] = Target(url, server.pid)
        self._loads(served, targets, body, load)

    def _over_grpc(self, request: Request, served: Served, servers: Mapping[str, Server]) -> None:
        body = BUILD / f"real.{request.name}.request"
        body.write_bytes(predict_request(request.model, request.feeds))
        targets = {}
        for name, server in servers.items():
            if server.grpc is not None:
                took = first.over_grpc(server.grpc, request.model, body.read_bytes())
                served.add_first(name, took, server.fresh)
                targets[name] = Target(server.grpc, server.pid)
        self._loads(served, targets, body, self.programs.load_on)

    def _loads(self, served: Served, targets: Mapping[str, Target], body: Path, put: Put) -> None:
        """Puts every load on every target, by turns; reads memory at rest before and after."""
        known = {name: target.pid for name, target in targets.items() if target.pid is not None}
        time.sleep(self.settings.rest)  # the first requests are over, and what they needed may go back
        before = {name: memory_bytes(pid, "VmRSS") for name, pid in known.items()}
        with ExitStack() as stack:
            peaks = {name: stack.enter_context(Peak(pid)) for name, pid in known.items()}
            for target in targets.values():
                self._sample(served.model, target, body, max(self.options.clients), put)  # warms it
            for clients in self.options.clients:
                for name, target in targets.items():
                    sample = self._sample(served.model, target, body, clients, put)
                    served.add(clients, name, sample)
        time.sleep(self.settings.rest)  # the time that memory is given to come back
        for name, pid in known.items():
            resident = Resident(before[name], peaks[name].most, memory_bytes(pid, "VmRSS"))
            served.resident.setdefault(name, []).append(resident)

    def _sample(self, model: str, target: Target, body: Path, clients: int, put: Put) -> Sample:
        seconds = self.settings.seconds
        if model in self.results.bare:
            rate = best(self.results.bare[model])[-1].per_second
            seconds = max(seconds, ANSWERS_EACH * clients / rate)

        def measure() -> Sample:
            sample = put(target, body, clients, seconds)
            wait_idle(target.pid)  # what the clients left behind at the end is not the next load's
            return sample

        return self.patience.undisturbed(measure, lambda sample: sample.others)


def main(argv: Sequence[str]) -> int:
    """Measures, prints and writes; returns the exit status."""
    options = arguments(argv)
    settings = (
        Settings(1, 1.0, min(0.3, options.bare_seconds), 2.0, 0.0)
        if options.quick
        else Settings(options.rounds, options.seconds, options.bare_seconds, options.rest, options.patience)
    )
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        wrk_version()
        results = Bench(options, settings).measure()
    except BenchError as error:
        print(f"benches/real.py: {error}", file=sys.stderr)
        return 1
    head: dict[str, object] = {
        "command": " ".join(["python benches/real.py", *map(shlex.quote, argv)]),
        "date": datetime.date.today().isoformat(),
        "settings": str(settings),
        "machine": report.machine(),
    }
    write(results, head, is_partial(options))
    failed = real_report.errors(results)
    if failed:
        print(f"benches/real.py: {failed} requests failed", file=sys.stderr)
    return 1 if failed else 0


def is_partial(options: argparse.Namespace) -> bool:
    """Returns whether something is left out or added, so that the documents do not take it."""
    against = options.against or options.against_grpc or options.against_command
    narrowed = options.quick or options.only or options.over or options.clients != list(CLIENTS)
    return bool(narrowed or options.flag or against or not options.bare_seconds)


def write(results: RealResults, head: dict[str, object], partial: bool) -> None:
    """Prints the tables; writes them and the record."""
    text = real_report.as_markdown(results, head)
    print("\n" + text, flush=True)
    record = BUILD / "real.json" if partial else RECORD
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(real_report.as_json(results, head), encoding="utf-8")
    if not partial:
        report.replace_between_markers(DOCUMENT, text, "benches/real.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
