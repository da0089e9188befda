"""What that costs which operators ask for: metrics, the access log, TLS, by turns with a server without them.

    python benches/operators.py [--seconds 1] [--rounds 30] [--only NAME …]

A server for each variant serves the same tiny model at once; each load goes to one after the other, and the
one that begins changes with each round, so that a machine that gets slower does so for all. A row a variant
and load: the median of requests a second and of CPU time per request, and both over the server with all of it
off: the median of the rounds' ratios, and where it lies with 95 % certainty. The aims: metrics cost at most
1 % of throughput, everything 5 %. An aim within that interval is neither met nor missed; more rounds narrow
it. Ends with status 1 if an aim is missed. Needs wrk and cargo.

The access log samples a hundredth of the requests, and writes to a file. A whole run writes
docs/performance.md (between its two markers) and benches/results/operators.json, any other one
build/bench/operators.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc_load
import load
from grpc_points import predict_request
from load import Sample, Target
from models import prepare
from points import Feed
from process import BenchError, Process
from report import machine, replace_between_markers, table

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
DOCUMENT = ROOT / "docs" / "performance.md"
RECORD = ROOT / "benches" / "results" / "operators.json"
PARTIAL = BUILD / "operators.json"
BASE = "all off"
TOKENS = BUILD / "operators.tokens"
WHOLE = (1.0, 30)

OFF = ("--metrics_path=", "--access_log=off", "--request_ids=off")
METRICS = ("--access_log=off", "--request_ids=off")
SAMPLED = ("--access_log=all", "--access_log_sample=0.01", f"--access_log_file={BUILD}/operators.access.log")
EVERY = ("--access_log=all", f"--access_log_file={BUILD}/operators.all.log")


@dataclass(frozen=True)
class Variant:
    """A server with these flags. most: the share of throughput it may cost. tokens: clients need one."""

    flags: tuple[str, ...]
    most: float | None = None
    tokens: bool = False
    tls: bool = False


VARIANTS = {
    BASE: Variant(OFF),
    "metrics": Variant(METRICS, most=0.01),
    "metrics, sampled access log": Variant(SAMPLED, most=0.05),
    "metrics, sampled access log, tokens": Variant(SAMPLED, most=0.05, tokens=True),
    "metrics, access log of all": Variant(EVERY),
    "all off, TLS": Variant(OFF, tls=True),
    "metrics, sampled access log, TLS": Variant(SAMPLED, tls=True),
}


@dataclass(frozen=True)
class Running:
    """A server of one variant."""

    variant: Variant
    rest: str
    grpc: str
    pid: int
    token: str = ""

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells the load generators of the token."""
        return {"AUTHORIZATION": f"Bearer {self.token}"} if self.token else {}


@dataclass
class Row:
    """A variant under a load: a sample for each round, and those of the base in the same rounds."""

    variant: str
    load: str
    samples: list[Sample] = field(default_factory=list)
    base: list[Sample] = field(default_factory=list)

    def throughput(self) -> list[float]:
        """Returns the sorted ratios of requests a second."""
        pairs = zip(self.samples, self.base, strict=True)
        return sorted(one.per_second / other.per_second for one, other in pairs)

    def cpu(self) -> list[float]:
        """Returns the sorted ratios of CPU time per request."""
        pairs = zip(self.samples, self.base, strict=True)
        return sorted((one.cpu_us or 0.0) / (other.cpu_us or 1.0) for one, other in pairs)

    def is_missed(self) -> bool:
        """True if it costs more than it may, with certainty."""
        most = VARIANTS[self.variant].most
        return most is not None and interval(self.throughput())[1] < 1 - most

    def aim(self) -> str:
        """Returns the aim, and whether it was met."""
        most = VARIANTS[self.variant].most
        if most is None:
            return ""
        is_met = interval(self.throughput())[0] >= 1 - most
        return (
            f"≥ {1 - most:.2f}: {'missed' if self.is_missed() else 'met' if is_met else 'within the scatter'}"
        )

    def cells(self) -> list[str]:
        """Returns the row of the table."""
        return [
            self.variant,
            self.load,
            f"{statistics.median(one.per_second for one in self.samples):,.0f}",
            _ratios(self.throughput()),
            f"{statistics.median(one.cpu_us or 0.0 for one in self.samples):.1f}",
            _ratios(self.cpu()),
            self.aim(),
        ]


HEADS = ["variant", "load", "requests/s", "over all off", "CPU µs", "over all off", "aim"]


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Returns where the median of what these sorted ratios are a sample of lies with 95 % certainty."""
    count = len(ratios)
    # Of how many the median is above is binomial: its normal approximation, rounded outwards.
    below = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)))
    return ratios[below], ratios[count - 1 - below]


def _ratios(ratios: Sequence[float]) -> str:
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def certificate() -> tuple[Path, Path]:
    """Makes a certificate and its key, once."""
    made = BUILD / "operators.crt", BUILD / "operators.key"
    if not all(path.is_file() for path in made):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(made[1]))
        command = ["openssl", "req", "-x509", *key, "-subj", "/CN=localhost", "-days", "3650"]
        subprocess.run([*command, "-out", str(made[0])], check=True, capture_output=True)
    return made


def new_token() -> str:
    """Returns the token of a new file of tokens."""
    TOKENS.unlink(missing_ok=True)
    command = [sys.executable, "-m", "servable", "token", "new", "bench", "--scopes=predict"]
    made = subprocess.run([*command, f"--auth_file={TOKENS}"], check=True, capture_output=True, text=True)
    return made.stdout.split()[-1]


@contextmanager
def serving(number: int, variant: Variant, base: Path) -> Iterator[Running]:
    """Runs a server of one variant on free ports."""
    tls: tuple[str, ...] = ()
    if variant.tls:
        crt, key = certificate()
        tls = (f"--tls_cert_file={crt}", f"--tls_key_file={key}")
    token = new_token() if variant.tokens else ""
    tokens = [f"--auth_file={TOKENS}"] if token else []
    command = [
        sys.executable,
        "-m",
        "servable",
        "serve",
        f"half_plus_two={base}",
        *variant.flags,
        *tls,
        *tokens,
    ]
    with Process([*command, "--port=0", "--rest_api_port=0"], BUILD / f"operators.{number}.log") as process:
        rest = process.wait_for(r"REST API at:\S+?:(\d+)")[1]
        grpc = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
        process.wait_for(r"ready: 1 of 1 models")
        yield Running(variant, rest, grpc, process.pid, token)


Ask = Callable[[Running, float], Sample]


def loads() -> dict[str, Ask]:
    """Returns the loads by name. gRPC's generator speaks no TLS."""
    programs = grpc_load.build_load()
    body = BUILD / "operators.json.body"
    body.write_bytes(b'{"instances": [1.0, 2.0, 5.0]}')
    numbers = array("f", [1.0, 2.0, 5.0]).tobytes()
    message = BUILD / "operators.body"
    message.write_bytes(predict_request("half_plus_two", {"x": Feed("float", (3,), numbers)}))

    def rest(server: Running, seconds: float) -> Sample:
        scheme = "https" if server.variant.tls else "http"
        url = f"{scheme}://127.0.0.1:{server.rest}/v1/models/half_plus_two:predict"
        return load.load(Target(url, server.pid), body, 16, seconds)

    def grpc(server: Running, seconds: float) -> Sample:
        return programs.load_on(Target(server.grpc, server.pid), message, 16, seconds)

    return {"REST, 16": rest, "gRPC, 16": grpc}


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of the environment for the block."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def measure(names: Sequence[str], rounds: int, seconds: float) -> list[Row]:
    """Measures the variants in ``names`` by turns."""
    base = prepare(BUILD / "models")["half_plus_two"].base
    rows: list[Row] = []
    with ExitStack() as stack:
        asks = loads()
        servers = {
            name: stack.enter_context(serving(number, VARIANTS[name], base))
            for number, name in enumerate(names)
        }
        for title, ask in asks.items():
            served = [name for name in names if title.startswith("REST") or not VARIANTS[name].tls]
            found: dict[str, list[Sample]] = {name: [] for name in served}
            for turn in range(-1, rounds):
                print(f"{title}: round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
                begin = turn % len(served)
                for name in [*served[begin:], *served[:begin]]:
                    with environment(servers[name].environment):
                        sample = ask(servers[name], seconds if turn >= 0 else 1.0)
                    if sample.errors:
                        raise BenchError(f"{name}, {title}: {sample.errors} requests failed")
                    # The first round warms up.
                    found[name] += [sample] if turn >= 0 else []
            rows += [Row(name, title, found[name], found[BASE]) for name in served]
    return rows


def main(argv: Sequence[str]) -> int:
    """Measures, prints and writes; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=WHOLE[0], help="of each load, in each round")
    parser.add_argument("--rounds", type=int, default=WHOLE[1], help="of each load")
    parser.add_argument("--only", action="append", choices=list(VARIANTS), help="this variant beside all off")
    given = parser.parse_args(argv)
    BUILD.mkdir(parents=True, exist_ok=True)
    names = [name for name in VARIANTS if not given.only or name in (BASE, *given.only)]
    rows = measure(names, given.rounds, given.seconds)
    text = table(HEADS, [row.cells() for row in rows])
    print(text)
    is_whole = not given.only and given.seconds >= WHOLE[0] and given.rounds >= WHOLE[1]
    content = {
        "command": " ".join(["python benches/operators.py", *argv]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "rows": [
            {
                "variant": row.variant,
                "load": row.load,
                "per_second": [one.per_second for one in row.samples],
                "throughput_ratios": row.throughput(),
                "cpu_ratios": row.cpu(),
                "missed": row.is_missed(),
            }
            for row in rows
        ],
    }
    if is_whole:
        head = f"`{content['command']}`, {content['date']}, {os.cpu_count()} cores:\n\n"
        replace_between_markers(DOCUMENT, head + text + "\n", "benches/operators.py")
    record = RECORD if is_whole else PARTIAL
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if any(row.is_missed() for row in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BenchError, subprocess.SubprocessError) as error:
        sys.exit(f"operators: {error}")
