"""Isolation: how long a tiny model's requests take beside photos, and what it costs the photos.

    python benches/isolation.py [--seconds 10] [--rounds 3] [--photos 8] [--grpc] [--pause 0]

One server has both models. The tiny one (``half_plus_two``) has one client, which asks again as soon as it is
answered, or after ``--pause`` milliseconds (over REST): without a pause it takes a good part of a small
machine by itself, its load generator included, and the photos lose that much. In every round it asks alone,
the photos' clients ask alone, and both ask at once. With ``--against`` (and ``--against-pid``), another
server that serves both models takes turns. Writes ``build/bench/isolation.json``. Needs wrk.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc_load
import real_points
from grpc_points import predict_request
from load import Sample, Target, ask_once, load, wrk_version
from models import Model, prepare
from points import Request, requests
from process import BenchError, Process, wait_idle
from report import shown, table
from results import spread

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
RECORD = BUILD / "isolation.json"
TINY, PHOTO = "half_plus_two", "mobilenet_v2"

Ask = Callable[["Server", int, float], Sample]
"""Asks a server, with a number of clients, for some seconds."""


@dataclass(frozen=True)
class Server:
    """A server of both models: its URL or, over gRPC, HOST:PORT."""

    address: str
    pid: int | None


@dataclass
class Isolation:
    """One server; each list has a sample for each round. beside: both at once."""

    server: str
    tiny: list[Sample] = field(default_factory=list)
    photos: list[Sample] = field(default_factory=list)
    tiny_beside: list[Sample] = field(default_factory=list)
    photos_beside: list[Sample] = field(default_factory=list)

    def photos_kept(self) -> list[float]:
        """Returns, for each round, the share of the photos' throughput that the tiny client leaves them."""
        pairs = zip(self.photos_beside, self.photos, strict=True)
        return [beside.per_second / alone.per_second for beside, alone in pairs]


def over_rest(request: Request, pause_ms: int = 0) -> Ask:
    """Returns how ``request`` is asked over REST."""
    body = BUILD / f"isolation.{request.model}.json"
    body.write_bytes(request.body)
    path = f"/v1/models/{request.model}:predict"

    def ask(server: Server, clients: int, seconds: float) -> Sample:
        target = Target(server.address + path, server.pid)
        ask_once(target.url, request.body)  # as over gRPC: the first may take a second, and is not measured
        return load(target, body, clients, seconds, pause_ms=pause_ms)

    return ask


def over_grpc(request: Request, programs: grpc_load.Programs) -> Ask:
    """Returns how ``request`` is asked over gRPC."""
    body = BUILD / f"isolation.{request.model}.request"
    body.write_bytes(predict_request(request.model, request.feeds))
    return lambda server, clients, seconds: programs.load_on(
        Target(server.address, server.pid), body, clients, seconds
    )


def loads(options: argparse.Namespace) -> tuple[Ask, Ask]:
    """Returns how the tiny model and the photo model are asked."""
    (tiny,) = (request for request in requests() if request.model == TINY)
    (photo,) = (request for request in real_points.requests() if request.model == PHOTO)
    if options.grpc:
        programs = grpc_load.build_load()
        return over_grpc(tiny, programs), over_grpc(photo, programs)
    return over_rest(tiny, options.pause), over_rest(photo)


@contextmanager
def serving(options: argparse.Namespace, models: Mapping[str, Model]) -> Iterator[Server]:
    """Runs a server of both models."""
    served = [f"{name}={models[name].base}" for name in (TINY, PHOTO)]
    flags = ["--port=0", "--rest_api_port=0", *options.flag]
    with Process([options.servable, "serve", *served, *flags], BUILD / "isolation.server.log") as process:
        rest = process.wait_for(r"REST API at:\S+?:(\d+)")[1]
        grpc = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
        process.wait_for(r"ready: 2 of 2 models")
        yield Server(f"127.0.0.1:{grpc}" if options.grpc else f"http://127.0.0.1:{rest}", process.pid)


def measure(options: argparse.Namespace) -> list[Isolation]:
    """Measures all rounds; the servers take turns."""
    models = prepare(BUILD / "models")
    tiny, photo = loads(options)
    with serving(options, models) as servable, ThreadPoolExecutor(2) as threads:
        servers = {"Servable": servable}
        if options.against:
            servers["other server"] = Server(options.against.rstrip("/"), options.against_pid)
        found = {name: Isolation(name) for name in servers}
        for server in servers.values():
            photo(server, options.photos, options.warm_up)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", flush=True)
            for name, server in servers.items():
                wait_idle(server.pid)
                found[name].tiny.append(tiny(server, 1, options.seconds))
                found[name].photos.append(photo(server, options.photos, options.seconds))
                wait_idle(server.pid)
                both = [
                    threads.submit(ask, server, clients, options.seconds)
                    for ask, clients in ((photo, options.photos), (tiny, 1))
                ]
                found[name].photos_beside.append(both[0].result())
                found[name].tiny_beside.append(both[1].result())
    return list(found.values())


def rows(found: Isolation, photos: int) -> Iterator[tuple[str, ...]]:
    """Returns the rows of the table: each alone, and both at once."""
    kept = shown(spread(found.photos_kept()))
    yield (found.server, "0", *_tiny(found.tiny), _rate(found.photos), "-")
    yield (found.server, str(photos), *_tiny(found.tiny_beside), _rate(found.photos_beside), kept)


def _tiny(samples: Sequence[Sample]) -> tuple[str, ...]:
    times = (
        [sample.p50_us for sample in samples],
        [sample.p99_us for sample in samples],
        [sample.max_us for sample in samples],
    )
    return (*(shown(spread(values), 1e-3) for values in times), _rate(samples))


def _rate(samples: Sequence[Sample]) -> str:
    return shown(spread(sample.per_second for sample in samples))


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--photos", type=int, default=8, help="clients of the photo model (8)")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds of photos before (3)")
    parser.add_argument("--grpc", action="store_true", help="over gRPC instead of REST")
    parser.add_argument("--pause", type=int, default=0, metavar="MS", help="of the tiny client (0)")
    parser.add_argument("--flag", action="append", default=[], help="of the server; may be repeated")
    parser.add_argument("--against", metavar="ADDRESS", help="another server: URL, or HOST:PORT with --grpc")
    parser.add_argument("--against-pid", type=int, metavar="PID", help="its process, to wait until it rests")
    parser.add_argument(
        "--servable",
        type=Path,
        default=Path(sys.executable).with_name("servable"),
        help="the program to measure",
    )
    return parser.parse_args()


TITLES = (
    *("server", "photo clients", "tiny p50 ms", "p99 ms", "max ms", "tiny requests/s"),
    *("photos/s", "beside ÷ alone"),
)


def main() -> int:
    """Measures, prints and writes; returns the exit status."""
    options = arguments()
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        wrk_version()
        found = measure(options)
    except BenchError as error:
        print(f"benches/isolation.py: {error}", file=sys.stderr)
        return 1
    print("\n" + table(TITLES, (row for one in found for row in rows(one, options.photos))))
    record = [dataclasses.asdict(one) | {"photos_kept": one.photos_kept()} for one in found]
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
