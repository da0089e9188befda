"""What the server adds to an engine: one client's p50 against the engine's own loop beside it, by turns.

    python benches/loops.py MODEL.onnx MODEL.tflite... [--seconds 3] [--rounds 5] [--limit 0.5]

Each model has one float input; a dynamic first dimension is 1. A round times runs by the engine's Python
package (``onnxruntime``, ``ai_edge_litert``) with as many threads as cores, then calls over gRPC with these
values. Prints the median p50 of the rounds, and the CPU time of a run, of both. Ends with status 1 where the
server's p50 is longer by more than ``--limit`` milliseconds. Needs cargo. MobileNetV2 as a ``.tflite`` file::

    tf.lite.TFLiteConverter.from_saved_model(FOLDER).convert()
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc_load
from grpc_points import predict_request
from load import Target
from points import Feed
from process import Process
from quiet import Patience
from report import table

LOOP = """
import json, os, statistics, sys, time
import numpy
path, threads = sys.argv[1], os.cpu_count()
if path.endswith(".onnx"):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    fed = session.get_inputs()[0]
    name, shape = fed.name, fed.shape
    run = lambda values: session.run(None, {name: values})
else:
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(path, num_threads=threads)
    signature = interpreter.get_signature_runner()
    name, fed = next(iter(signature.get_input_details().items()))
    shape = [int(size) for size in fed["shape_signature"]]
    run = lambda values: signature(**{name: values})
shape = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
print(json.dumps({"name": name, "shape": shape}), flush=True)
values = numpy.frombuffer(open(sys.stdin.readline().strip(), "rb").read(), numpy.float32).reshape(shape)
for line in sys.stdin:
    times, end, cpu = [], time.perf_counter() + float(line), time.process_time()
    while time.perf_counter() < end:
        begun = time.perf_counter()
        run(values)
        times.append(time.perf_counter() - begun)
    cpu = (time.process_time() - cpu) / len(times)
    print(json.dumps({"p50_ms": statistics.median(times) * 1e3, "cpu_ms": cpu * 1e3}), flush=True)
"""
"""Says the input of the model argv[1], reads a file of its values, then times runs for some seconds each."""


class Loop:
    """The engine's own loop, in a process beside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        fed = self._told()
        self.name: str = fed["name"]
        self.shape: tuple[int, ...] = tuple(fed["shape"])

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline())
        assert isinstance(told, dict)
        return told

    def say(self, line: object) -> None:
        """Sends a line."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def run(self, seconds: float) -> tuple[float, float]:
        """Returns the p50 and the CPU time of a run, in milliseconds."""
        self.say(seconds)
        told = self._told()
        return told["p50_ms"], told["cpu_ms"]


@contextmanager
def looping(model: Path) -> Iterator[Loop]:
    """Runs the loop of a model."""
    command = [sys.executable, "-c", LOOP, str(model)]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
    }
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield Loop(process)
        finally:
            process.kill()


def measure(
    options: argparse.Namespace, model: Path, folder: Path, programs: grpc_load.Programs
) -> tuple[list[str], float]:
    """Returns the table's row of a model, and by how much the server's p50 is longer, in milliseconds."""
    patience = Patience(options.patience)
    command = [sys.executable, "-m", "servable", "serve", f"m={model}", "--port=0", "--rest_api_port=off"]
    with looping(model) as loop, Process(command, folder / "server.log") as process:
        source, count = random.Random(1), 1
        for size in loop.shape:
            count *= size
        values = array("f", [source.uniform(-1, 1) for _ in range(count)]).tobytes()
        (folder / "values").write_bytes(values)
        loop.say(folder / "values")
        body = folder / "m.request"
        body.write_bytes(predict_request("m", {loop.name: Feed("float", loop.shape, values)}))
        port = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
        process.wait_for(r"ready: 1 of 1 models")
        target = Target(f"127.0.0.1:{port}", process.pid)
        bare, served = [], []
        for _ in range(options.rounds):
            patience.wait()
            bare.append(loop.run(options.seconds))
            sample = programs.load_on(target, body, 1, options.seconds)
            served.append((sample.p50_us / 1e3, (sample.cpu_us or 0.0) / 1e3))
    (bare_p50, bare_cpu), (p50, cpu) = (
        map(statistics.median, zip(*one, strict=True)) for one in (bare, served)
    )
    longer = p50 - bare_p50
    figures = [f"{figure:.2f}" for figure in (bare_p50, p50, longer, bare_cpu, cpu)]
    return [model.name, *figures], longer


def report(rows: Sequence[Sequence[str]]) -> str:
    """Returns the table."""
    heads = ["model", "loop p50 ms", "server p50 ms", "longer by", "loop CPU ms", "server CPU ms"]
    return table(heads, [list(row) for row in rows])


def main() -> int:
    """Measures each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=0.5, help="milliseconds")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine")
    options = parser.parse_args()
    programs = grpc_load.build_load()
    rows, longest = [], 0.0
    with tempfile.TemporaryDirectory(prefix="servable-loops-") as folder:
        for model in options.models:
            row, longer = measure(options, model.resolve(), Path(folder), programs)
            rows.append(row)
            longest = max(longest, longer)
    print(report(rows))
    return 0 if longest <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
