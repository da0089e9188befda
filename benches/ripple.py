"""The p99 of one model under a steady load: in quiet, and while a large model comes and goes.

    python benches/ripple.py [--seconds 20] [--rounds 3] [--megabytes 500] [--keep FOLDER]

The large model is loaded and unloaded without pause, by a config file that is replaced and SIGHUP. Quiet and
busy rounds take turns, so that what else the machine does falls on both. wrk has the last core and the server
the others, as if its clients were elsewhere: on shared cores wrk's own threads wait for their turn, and are
measured (with two cores, a thread that only spins at the lowest priority then makes the p99 1.7 times as
long; apart, 0.8 times). Linux, with wrk and TensorFlow.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from large import Server, large_model, serving
from load import APART, Sample, Target, load
from process import BenchError

BODY = '{"instances": [1.0, 2.0, 5.0]}'
CONNECTIONS = 4
PAUSE_MS = 1


def measure(server: Server, folder: Path, seconds: float) -> Sample:
    """Runs wrk once at a steady rate."""
    body = folder / "body.json"
    body.write_text(BODY)
    target = Target(f"{server.url}/v1/models/small:predict", server.process.pid)
    sample = load(target, body, CONNECTIONS, seconds, APART, PAUSE_MS)
    if sample.errors:
        raise BenchError(f"{sample.errors} of {sample.requests} requests failed")
    return sample


@dataclass(frozen=True)
class Round:
    """The small model under load: alone, and while the large one was loaded ``loads`` times."""

    quiet: Sample
    busy: Sample
    loads: int

    @property
    def ratio(self) -> float:
        """The ratio of the p99s."""
        return self.busy.p99_us / self.quiet.p99_us

    def __str__(self) -> str:
        quiet, busy = self.quiet, self.busy
        return (
            f"quiet p50 {quiet.p50_us:.0f} p99 {quiet.p99_us:.0f} us ({quiet.per_second:.0f}/s)   "
            f"busy p50 {busy.p50_us:.0f} p99 {busy.p99_us:.0f} us ({busy.per_second:.0f}/s), "
            f"{self.loads} loads   ratio {self.ratio:.2f}"
        )


def run(folder: Path, megabytes: int, rounds: int, seconds: float) -> list[Round]:
    """Measures ``rounds`` rounds, of ``seconds`` each way, and prints each."""
    found = []
    large = large_model(folder, megabytes)
    with serving(folder, large) as server:
        with server.busy():
            measure(server, folder, 2)
        for _ in range(rounds):
            quiet = measure(server, folder, seconds)
            before = server.cycles
            with server.busy():
                busy = measure(server, folder, seconds)
            found.append(Round(quiet, busy, server.cycles - before))
            print(found[-1], flush=True)
    return found


def main() -> None:
    """Prints each round and the medians: a single round may be disturbed by the machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="where the large model is kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rounds = run(folder, options.megabytes, options.rounds, options.seconds)
    ratio = statistics.median(one.ratio for one in rounds)
    print(
        f"p99 while the large model comes and goes: {ratio:.2f} times the quiet one, median of {len(rounds)}"
    )


if __name__ == "__main__":
    main()
