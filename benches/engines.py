"""What --engine=auto brings: real models in TensorFlow and in what Servable moves them to, by turns.

    python benches/engines.py [--models NAME...] [--seconds 2] [--rounds 3] [--clients 1 4 16] [--flag=FLAG]

For each model two servers run side by side, one with ``--engine=tensorflow`` and one with ``--engine=auto``,
the second with a cache of its own that is empty. They are asked over REST and gRPC by turns, once the second
has decided. The table has the median of the rounds: requests per second of both and their ratio, CPU time of
a request, resident memory after the load, and the time from the start to the first answer. The third figure
of resident memory is that of a server that has let TensorFlow's session go, after the same load
(``--engine_reference_idle_seconds``). Writes ``build/bench/engines.json``. Needs TensorFlow, OpenVINO, wrk
and cargo.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc_load
import points
import real_points
from grpc_points import predict_request
from load import Sample, Target, ask_once, load
from models import Model, prepare
from points import Request
from process import BenchError, Process, memory_bytes, wait_until
from quiet import Patience
from report import table
from start import Command, started

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
RECORD = BUILD / "engines.json"
ENGINES = ("tensorflow", "auto")
LET_GO = "auto, the session let go"
REFERENCE_IDLE = "--engine_reference_idle_seconds=0.5"
SESSION_GOES = "TensorFlow's session, which no run needs, is let go"
DECIDED_SECONDS = 120.0
STARTS = 5
TINY = "half_plus_two"


@dataclass(frozen=True)
class Server:
    """A server of one model: HOST:PORT of each protocol, its process, and its administration's URL."""

    rest: str
    grpc: str
    process: Process
    admin: str

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid

    def engines(self, model: str) -> dict[str, Any]:
        """Returns what runs each signature."""
        with urllib.request.urlopen(f"{self.admin}/admin/models/{model}", timeout=30) as answer:
            found = json.load(answer)["versions"][0].get("engines", {})
        assert isinstance(found, dict)
        return found

    def is_decided(self, model: str) -> bool:
        """True once no signature is waiting or being prepared."""
        found = self.engines(model)
        return bool(found) and all(one["progress"] in ("moved", "stays") for one in found.values())


@dataclass
class Point:
    """One protocol and number of clients; each list has a sample for each round, by engine."""

    protocol: str
    clients: int
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {engine: [] for engine in ENGINES})

    def per_second(self, engine: str) -> float:
        """Returns the median of the rounds."""
        return statistics.median(one.per_second for one in self.samples[engine])

    def ratio(self) -> float:
        """Returns the median of the rounds' ratios, auto by tensorflow."""
        pairs = zip(self.samples["auto"], self.samples["tensorflow"], strict=True)
        return statistics.median(auto.per_second / tensorflow.per_second for auto, tensorflow in pairs)

    def cpu_ms(self, engine: str) -> float:
        """Returns the median CPU time of a request, in milliseconds."""
        return statistics.median((one.cpu_us or 0.0) / 1000 for one in self.samples[engine])


@dataclass
class Figures:
    """One model. engine: what runs its default signature. resident: bytes after the load, by engine, and with
    TensorFlow's session let go (``LET_GO``). starts: seconds to the first answer, by engine."""

    model: str
    title: str
    engine: str
    points: list[Point]
    resident: dict[str, int]
    starts: dict[str, float]


@contextmanager
def serving(options: argparse.Namespace, model: Model, engine: str, cache: Path) -> Iterator[Server]:
    """Runs a server of one model."""
    flags = ["--port=0", "--rest_api_port=0", "--admin_address=127.0.0.1:0", f"--model_cache_dir={cache}"]
    command = [*options.servable, "serve", f"{model.name}={model.base}", f"--engine={engine}"]
    log = BUILD / f"engines.{model.name}.{engine}.log"
    with Process([*command, *flags, *options.flag], log) as process:
        admin = process.wait_for(r"administration at (http://\S+)/admin/models")[1]
        rest = process.wait_for(r"REST API at:\S+?:(\d+)")[1]
        grpc = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
        process.wait_for(r"ready: 1 of 1 models")
        yield Server(f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}", process, admin)


Ask = Callable[[Server, int, float], Sample]


def over_rest(request: Request) -> Ask | None:
    """Returns how the request is asked over REST; None where that is left out."""
    if not request.body:
        return None
    body = BUILD / f"engines.{request.model}.json"
    body.write_bytes(request.body)

    def ask(server: Server, clients: int, seconds: float) -> Sample:
        url = f"http://{server.rest}/v1/models/{request.model}:predict"
        ask_once(url, request.body)
        return load(Target(url, server.pid), body, clients, seconds)

    return ask


def over_grpc(request: Request, programs: grpc_load.Programs) -> Ask:
    """Returns how the request is asked over gRPC."""
    body = BUILD / f"engines.{request.model}.request"
    body.write_bytes(predict_request(request.model, request.feeds))
    return lambda server, clients, seconds: programs.load_on(
        Target(server.grpc, server.pid), body, clients, seconds
    )


def measure(
    options: argparse.Namespace, model: Model, request: Request, programs: grpc_load.Programs
) -> Figures:
    """Measures one model."""
    asks = {"REST": over_rest(request), "gRPC": over_grpc(request, programs)}
    points_ = [Point(name, clients) for name, ask in asks.items() if ask for clients in options.clients]
    patience = Patience(options.patience)
    with ExitStack() as stack:
        servers = {}
        for engine in ENGINES:
            cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="servable-engines-")))
            servers[engine] = stack.enter_context(serving(options, model, engine, cache))
        auto = servers["auto"]
        wait_until(lambda: auto.is_decided(model.name), DECIDED_SECONDS, f"{model.name} to be decided")
        for _ in range(options.rounds):
            for point in points_:
                ask = asks[point.protocol]
                assert ask is not None
                for engine, server in servers.items():
                    patience.wait()
                    point.samples[engine].append(ask(server, point.clients, options.seconds))
        resident = {engine: memory_bytes(server.pid, "VmRSS") for engine, server in servers.items()}
        found = auto.engines(model.name)["serving_default"]
    let_go = without_session(options, model, asks["gRPC"]) if found["progress"] == "moved" else 0
    if let_go:
        resident[LET_GO] = let_go
    return Figures(
        model.name, request.title, found["engine"], points_, resident, starts(options, model, request)
    )


def without_session(options: argparse.Namespace, model: Model, ask: Ask | None) -> int:
    """Returns the resident bytes of a server whose session is let go, after a load; 0 if its model stays."""
    assert ask is not None
    goes = argparse.Namespace(**{**vars(options), "flag": [*options.flag, REFERENCE_IDLE]})
    with (
        tempfile.TemporaryDirectory(prefix="servable-engines-") as cache,
        serving(goes, model, "auto", Path(cache)) as server,
    ):
        wait_until(lambda: server.is_decided(model.name), DECIDED_SECONDS, f"{model.name} to be decided")
        if server.engines(model.name)["serving_default"]["progress"] != "moved":
            return 0
        server.process.wait_for(SESSION_GOES)
        ask(server, max(options.clients), options.seconds)
        return memory_bytes(server.pid, "VmRSS")


def starts(options: argparse.Namespace, model: Model, request: Request) -> dict[str, float]:
    """Returns the shortest of some times to the first answer, by engine, by turns."""
    if not request.body:
        return {}
    shortest = dict.fromkeys(ENGINES, float("inf"))
    for _ in range(STARTS):
        for engine in ENGINES:
            with tempfile.TemporaryDirectory(prefix="servable-engines-") as cache:
                flags = [f"--engine={engine}", f"--model_cache_dir={cache}"]
                command = Command([*options.servable, "serve", *flags], BUILD)
                with started(command, model.base, request.body) as (_, start, _url):
                    shortest[engine] = min(shortest[engine], start.seconds)
    return shortest


def report(figures: Sequence[Figures]) -> str:
    """Returns the table."""
    heads = [
        "model",
        "runs in",
        "",
        "clients",
        "tensorflow/s",
        "auto/s",
        "ratio",
        "CPU ms",
        "resident",
        "start",
    ]
    rows = []
    for one in figures:
        first = True
        for point in one.points:
            cpu = " -> ".join(f"{point.cpu_ms(engine):.2f}" for engine in ENGINES)
            resident = " -> ".join(f"{size / 1e6:.0f} MB" for size in one.resident.values())
            start = " -> ".join(f"{one.starts[engine]:.2f} s" for engine in one.starts)
            rates = [f"{point.per_second(engine):.1f}" for engine in ENGINES]
            head = [one.title, one.engine] if first else ["", ""]
            tail = [resident, start] if first else ["", ""]
            rows.append(
                [*head, point.protocol, str(point.clients), *rates, f"{point.ratio():.2f}", cpu, *tail]
            )
            first = False
    return table(heads, rows)


def chosen(options: argparse.Namespace, models: Mapping[str, Model]) -> list[tuple[Model, Request]]:
    """Returns the models to measure, each with its request."""
    tiny = [request for request in points.requests() if request.name == TINY or request.model == TINY][:1]
    every = [*real_points.requests(), *tiny]
    unknown = set(options.models) - {request.model for request in every}
    if unknown:
        raise BenchError(f"there is no model {', '.join(sorted(unknown))}")
    wanted = options.models or [request.model for request in every]
    return [(models[request.model], request) for request in every if request.model in wanted]


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--flag", action="append", default=[], help="a further flag of both servers")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine")
    options = parser.parse_args()
    options.servable = [sys.executable, "-m", "servable"]
    BUILD.mkdir(parents=True, exist_ok=True)
    models = prepare(BUILD / "models")
    programs = grpc_load.build_load()
    figures = []
    for model, request in chosen(options, models):
        figures.append(measure(options, model, request, programs))
        print(report(figures[-1:]), flush=True)
    RECORD.write_text(json.dumps([asdict(one) for one in figures], indent=1), encoding="utf-8")
    print(report(figures))


if __name__ == "__main__":
    main()
