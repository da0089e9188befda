"""What batching brings: calls per second and CPU per call with it and without, over gRPC.

    python benches/batching.py [--model chain] [--seconds 5] [--rounds 3] [--calls 1 16 64] [--rows 64]

The models: ``chain``, small matrix products one after the other, whose run costs much the same for one row
as for many; ``fixed``, one large product that is the same for all rows; ``tiny``, an addition. Their numbers
are whole, so that an answer is the same to the byte in a batch of any size, which the load checks. Servers
without batching, with parameters (``on``) and without (``auto``) take turns. Needs TensorFlow and cargo.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc_load
from grpc_points import predict_request
from load import FREE, Sample, Target
from points import Feed
from process import BenchError, Process

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
WIDTH, STEPS = 64, 200
MAKE = """
import sys, numpy as np, tensorflow as tf
width, steps = int(sys.argv[2]), int(sys.argv[3])
class Model(tf.Module):
    def __init__(self):
        super().__init__()
        # Moves every number to another place: sums of one term are exact.
        self.moves = tf.Variable(np.roll(np.eye(width, dtype=np.float32), 1, axis=0))
        self.large = tf.Variable(np.zeros([800, 800], np.float32))
    def chain(self, x):
        for _ in range(steps):
            x = tf.nn.relu(x @ self.moves)
        return x
    def fixed(self, x):
        return x + tf.reduce_max(self.large @ self.large)
    def tiny(self, x):
        return x + 1
    @tf.function(input_signature=[tf.TensorSpec([None, width], tf.float32, name="x")])
    def serve(self, x):
        return {"y": getattr(self, sys.argv[4])(x)}
module = Model()
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": module.serve})
"""
"""Script that writes model argv[4] to argv[1]: rows of argv[2] numbers; a chain has argv[3] products."""
MODELS = ("chain", "fixed", "tiny")


def made_model(name: str, folder: Path) -> Path:
    """Returns the model's base path, creating the model if it is missing."""
    version = folder / "batching" / name / "1"
    if not version.is_dir():
        command = [sys.executable, "-c", MAKE, str(version), str(WIDTH), str(STEPS), name]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode != 0:
            raise BenchError(f"the model could not be made: {made.stderr[-2000:]}")
    return version.parent


@contextmanager
def serving(base: Path, log: Path, *flags: str) -> Iterator[Target]:
    """Runs a server of ``base`` on a free gRPC port."""
    command = [sys.executable, "-m", "servable", "serve", f"m={base}", "--port=0", "--rest_api_port=off"]
    with Process([*command, *flags], log) as process:
        port = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
        process.wait_for(r"ready: 1 of 1 models")
        yield Target(port, process.pid)


def run(
    model: str, rows: int, calls: list[int], rounds: int, seconds: float
) -> dict[tuple[str, int], list[Sample]]:
    """Returns samples by (off, on or auto, calls in flight)."""
    programs = grpc_load.build_load()
    BUILD.mkdir(parents=True, exist_ok=True)
    base, body, parameters = made_model(model, BUILD), BUILD / "batching.body", BUILD / "batching.config"
    row = array("f", range(WIDTH)).tobytes()
    body.write_bytes(predict_request("m", {"x": Feed("float", (1, WIDTH), row)}))
    parameters.write_text(f"max_batch_size {{ value: {rows} }}")
    found: dict[tuple[str, int], list[Sample]] = {}
    with ExitStack() as stack:
        batching = ("--enable_batching", f"--batching_parameters_file={parameters}")
        servers = {
            name: stack.enter_context(serving(base, BUILD / f"batching.{name}.log", *flags))
            for name, flags in (("off", ()), ("on", batching), ("auto", ("--batching=auto",)))
        }
        for _ in range(rounds):
            for count in calls:
                for name, target in servers.items():
                    sample = programs.load_on(target, body, count, seconds, FREE)
                    if sample.errors:
                        raise BenchError(f"{sample.errors} answers were not like the first")
                    found.setdefault((name, count), []).append(sample)
    return found


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", choices=MODELS, default="chain")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rows", type=int, default=64, help="of the largest batch")
    options = parser.parse_args()
    found = run(options.model, options.rows, options.calls, options.rounds, options.seconds)
    print(f"{'batching':10}{'calls':>6}{'calls/s':>10}{'p50 us':>9}{'p99 us':>9}{'CPU us/call':>13}")
    for (name, count), samples in found.items():
        figures = [
            statistics.median(getattr(one, field) for one in samples)
            for field in ("per_second", "p50_us", "p99_us", "cpu_us")
        ]
        rate, p50, p99, cpu = figures
        print(f"{name:10}{count:>6}{rate:>10.0f}{p50:>9.0f}{p99:>9.0f}{cpu:>13.0f}")


if __name__ == "__main__":
    main()
