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
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from large import Server, large_model, serving
from load import APART, Sample, Target, load
from process import BenchError

BODY = '{"instances": [1.0, 2.0, 5.0]}'
CONNECTIONS = 4
PAUSE_MS = 1


def measure(server: Server, folder: Path, seconds: float) -> Sample:
    """One run of wrk at a steady rate."""
    body = folder / "body.json"
    body.write_text(BODY)
    target = Target(f"{server.url}/v1/models/small:predict", server.process.pid)
    os.environ["PAUSE_MS"] = str(PAUSE_MS)
    sample = load(target, body, CONNECTIONS, seconds, APART)
    if sample.errors:
        raise BenchError(f"{sample.errors} of {sample.requests} requests failed")
    return sample


def run(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every round: quiet and busy figures in microseconds."""
    rounds = []
    large = large_model(folder, options.megabytes)
    with serving(folder, large) as server:
        with server.busy():
            measure(server, folder, 2)
        for _ in range(options.rounds):
            quiet = measure(server, folder, options.seconds)
            before = server.cycles
            with server.busy():
                busy = measure(server, folder, options.seconds)
            rounds.append(
                {
                    "quiet": [quiet.p50_us, quiet.p99_us, quiet.per_second],
                    "busy": [busy.p50_us, busy.p99_us, busy.per_second],
                    "cycles": server.cycles - before,
                    "ratio": busy.p99_us / quiet.p99_us,
                }
            )
            print(line_of(rounds[-1]), flush=True)
    return rounds


def line_of(figures: dict[str, Any]) -> str:
    """One round for people."""
    quiet, busy = figures["quiet"], figures["busy"]
    return (
        f"quiet p50 {quiet[0]:.0f} p99 {quiet[1]:.0f} us ({quiet[2]:.0f}/s)   busy p50 {busy[0]:.0f} "
        f"p99 {busy[1]:.0f} us ({busy[2]:.0f}/s), {figures['cycles']} loads   ratio {figures['ratio']:.2f}"
    )


def main() -> None:
    """Prints each round and the medians: one round may be the machine's fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="where the large model is kept for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rounds = run(folder, options)
    quiet, busy = (statistics.median(figures[kind][1] for figures in rounds) for kind in ("quiet", "busy"))
    print(f"p99, median of {len(rounds)}: quiet {quiet:.0f} us, busy {busy:.0f} us, {busy / quiet:.2f} times")


if __name__ == "__main__":
    main()
