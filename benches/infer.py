"""What the Open Inference Protocol and lean bodies cost beside TensorFlow Serving's API, by turns.

    python benches/infer.py [--seconds 2] [--rounds 5] [--flag=--shared_memory_in_place]

One server, three models that hardly compute. Three numbers by gRPC: ``Predict``, ``ModelInfer``, and a bare
synchronous C++ service (``floor_grpc/``) that answers the bytes of ``ModelInfer``. One picture of 150,528
floats in and 1,000 out, then as many out as in: every form of a request. Each row has the median of the
rounds; added is the server's CPU time less that of TensorFlow's bare run of the same tensors. Writes
docs/performance.md between its markers, unless the run is shortened or the server has more flags. Needs
wrk, cargo and gRPC's C++ library.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import floors
import grpc_load
import numpy as np
from grpc_points import predict_request
from load import APART, FREE, Client, Sample, Target, load
from models import Model, prepare
from points import PICTURE_FLOATS, SIDE, Feed, Request, four_digits
from process import BenchError, Process
from protocols import INFER, infer_body, infer_message
from report import replace_between_markers, table

from servable.engines import tensorflow_library

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
DOCUMENT = ROOT / "docs" / "performance.md"
SHARED = Path(f"/dev/shm/servable_infer_{os.getpid()}")
NUMPY = "Content-Type: application/x-npy|Accept: application/x-npy"
TINY, STUB, ECHO = "half_plus_two", "floats_stub", "echo_floats"
WHOLE = (2.0, 5)


@dataclass
class Row:
    """A form of a request, under one load. ask: puts the load on for so many seconds."""

    title: str
    ask: Callable[[float], Sample]
    samples: list[Sample] = field(default_factory=list)

    def median(self, of: Callable[[Sample], float]) -> float:
        """Returns the median of the rounds."""
        return statistics.median(map(of, self.samples))


@dataclass(frozen=True)
class Served:
    """A running server: HOST:PORT of each protocol, and its process."""

    rest: str
    grpc: str
    pid: int

    def over_rest(self, title: str, path: str, body: bytes, headers: str) -> Row:
        """Makes the row of a request over REST, from one connection."""
        file = written(body)
        target = Target(f"http://{self.rest}{path}", self.pid, headers)
        return Row(title, lambda seconds: load(target, file, 1, seconds, FREE))

    def over_grpc(
        self, title: str, programs: grpc_load.Programs, message: bytes, how: tuple[int, str]
    ) -> Row:
        """Makes the row of a call, with so many calls in flight and that layout of cores."""
        return on_port(title, programs, Target(self.grpc, self.pid), message, how)


def on_port(
    title: str, programs: grpc_load.Programs, target: Target, message: bytes, how: tuple[int, str]
) -> Row:
    """Makes the row of a call to ``target``."""
    file = written(message)
    return Row(title, lambda seconds: programs.load_on(target, file, how[0], seconds, how[1]))


def written(body: bytes) -> Path:
    """Returns a file with ``body``."""
    file = BUILD / f"infer.{hashlib.sha256(body).hexdigest()[:16]}.body"
    file.write_bytes(body)
    return file


def measure(rows: Sequence[Row], seconds: float, rounds: int) -> None:
    """Measures the rows by turns; another one begins each round."""
    for turn in range(rounds):
        for row in [*rows[turn % len(rows) :], *rows[: turn % len(rows)]]:
            sample = row.ask(seconds)
            if sample.errors:
                raise BenchError(f"{row.title}: {sample.errors} requests failed")
            row.samples.append(sample)


def tiny(served: Served, programs: grpc_load.Programs, seconds: float, rounds: int) -> str:
    """Measures three numbers by gRPC; returns the table."""
    data = np.array([1, 2, 5], np.float32).tobytes()
    predict = predict_request(TINY, {"x": Feed("float", (3,), data)})
    infer = infer_message(TINY, "x", "FP32", (3,), data)
    inferring = replace(programs, method=INFER)
    file = BUILD / "infer.tiny.message"
    file.write_bytes(infer)
    inferring.ask_once(served.grpc, file)
    cells = []
    process, port = programs.serve_echo(file.with_suffix(".reply"))
    with process:
        for calls, layout in ((1, APART), (16, FREE)):
            rows = [
                served.over_grpc("`Predict`", programs, predict, (calls, layout)),
                served.over_grpc("`ModelInfer`", inferring, infer, (calls, layout)),
                on_port("bare C++", programs, Target(port, process.pid), infer, (calls, layout)),
            ]
            measure(rows, seconds, rounds)
            asked, inferred, bare = rows
            for row in rows:
                cells.append(
                    [
                        f"{row.title}, {calls} in flight",
                        f"{row.median(lambda one: one.per_second):,.0f}",
                        f"{row.median(lambda one: one.p50_us):.1f}",
                        f"{row.median(lambda one: one.cpu_us or 0.0):.1f}",
                        f"{against(row, asked):.3f}" if row is inferred else "",
                        f"{against(row, bare):.2f}" if row is inferred else "",
                    ]
                )
    heads = ["three numbers by gRPC", "calls/s", "p50, µs", "CPU, µs", "calls/s ÷ `Predict`", "÷ bare C++"]
    return table(heads, cells)


def against(row: Row, other: Row) -> float:
    """Returns the median of the rounds' ratios of calls per second."""
    pairs = zip(row.samples, other.samples, strict=True)
    return statistics.median(one.per_second / two.per_second for one, two in pairs)


def forms(served: Served, programs: grpc_load.Programs, model: str, feed: tuple[str, Feed]) -> list[Row]:
    """Returns a row for each form of a request of floats."""
    alias, tensor = feed
    file = io.BytesIO()
    np.save(file, np.frombuffer(tensor.data, np.float32).reshape(tensor.shape))
    shape = ",".join(map(str, tensor.shape))
    raw = f"Content-Type: application/octet-stream|X-Tensor-Shape: {shape}|X-Tensor-Dtype: float32"
    predict, infer = f"/v1/models/{model}:predict", f"/v2/models/{model}/infer"
    alone = (1, FREE)
    rows = [
        served.over_rest("JSON", predict, as_json(tensor), "Content-Type: application/json"),
        served.over_rest("`.npy`", predict, file.getvalue(), NUMPY),
        served.over_rest("octet-stream", predict, tensor.data, f"{raw}|Accept: application/octet-stream"),
        served.over_rest("`/v2`, binary", infer, *infer_body(alias, "FP32", tensor.shape, tensor.data)),
        served.over_rest("`/v2`, shared memory", infer, *in_shared_memory(served, alias, tensor)),
        served.over_grpc("gRPC `Predict`", programs, predict_request(model, {alias: tensor}), alone),
        served.over_grpc(
            "gRPC `ModelInfer`",
            replace(programs, method=INFER),
            infer_message(model, alias, "FP32", tensor.shape, tensor.data),
            alone,
        ),
    ]
    return rows


def as_json(tensor: Feed) -> bytes:
    """Returns the predict request in JSON, with four digits for a number."""
    digits = np.frombuffer(tensor.data, np.float32).astype(np.float64).round(4)
    return json.dumps({"instances": digits.reshape(tensor.shape).tolist()}).encode()


def in_shared_memory(served: Served, alias: str, tensor: Feed) -> tuple[bytes, str]:
    """Registers the tensor, and a place for the answer; returns a request, and its headers."""
    SHARED.write_bytes(tensor.data * 2)
    client = Client(f"http://{served.rest}/")
    client.ask_at("/v2/systemsharedmemory/region/infer/unregister", b"")
    region = {"key": f"/{SHARED.name}", "offset": 0, "byte_size": 2 * len(tensor.data)}
    status, text = client.ask_at("/v2/systemsharedmemory/region/infer/register", json.dumps(region).encode())
    if status != 200:
        raise BenchError(f"shared memory: {status} {text[:200]!r}")
    place = {"shared_memory_region": "infer", "shared_memory_byte_size": len(tensor.data)}
    given = {"name": alias, "datatype": "FP32", "shape": list(tensor.shape), "parameters": place}
    wanted = {"binary_data_output": True}
    return json.dumps({"inputs": [given], "parameters": wanted}).encode(), "Content-Type: application/json"


def pictures(
    served: Served, programs: grpc_load.Programs, models: Mapping[str, Model], settings: tuple[float, int]
) -> str:
    """Measures a picture in every form, for both models; returns the table."""
    values = np.array(four_digits(random.Random(3), PICTURE_FLOATS), np.float32)
    program = floors.build_run(Path(tensorflow_library.find()), BUILD)
    cells: list[list[str]] = []
    for model, alias, shape, title in (
        (STUB, "images", (1, SIDE, SIDE, 3), "1,000 floats out"),
        (ECHO, "x", (PICTURE_FLOATS,), "150,528 floats out"),
    ):
        feed = Feed("float", shape, values.tobytes())
        request = Request(f"infer.{model}", title, model, b"", {alias: feed}, ())
        bare = floors.bare_runs(program, models[model], request, BUILD, 1.0)["caller"].cpu_us
        rows = forms(served, programs, model, (alias, feed))
        measure(rows, *settings)
        for row in rows:
            cpu = row.median(lambda one: one.cpu_us or 0.0)
            faults = row.median(lambda one: one.faults or 0.0)
            cells.append(
                [
                    f"{row.title}, {title}",
                    f"{row.median(lambda one: one.p50_us) / 1e3:.2f}",
                    f"{cpu / 1e3:.2f}",
                    f"{(cpu - bare) / 1e3:.2f}",
                    f"{faults:.1f}",
                ]
            )
    return table(["150,528 floats in", "p50, ms", "CPU, ms", "added to the bare run, ms", "faults"], cells)


def main(argv: Sequence[str]) -> int:
    """Measures, prints and writes; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=WHOLE[0], help="of each load, in each round")
    parser.add_argument("--rounds", type=int, default=WHOLE[1], help="of each load")
    parser.add_argument("--flag", action="append", default=[], help="of the server; may be repeated")
    given = parser.parse_args(argv)
    BUILD.mkdir(parents=True, exist_ok=True)
    models = prepare(BUILD / "models")
    programs = grpc_load.build(BUILD)
    named = [f"{name}={models[name].base}" for name in (TINY, STUB, ECHO)]
    flags = ("--engine=tensorflow", "--shared_memory=/servable_infer", "--port=0", "--rest_api_port=0")
    command = [sys.executable, "-m", "servable", "serve", *named, *flags, *given.flag]
    try:
        with Process(command, BUILD / "infer.log") as process:
            rest = process.wait_for(r"REST API at:\S+?:(\d+)")[1]
            port = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
            process.wait_for(r"ready: 3 of 3 models")
            served = Served(f"127.0.0.1:{rest}", port, process.pid)
            tables = [tiny(served, programs, given.seconds, given.rounds)]
            print(tables[0], flush=True)
            tables.append(pictures(served, programs, models, (given.seconds, given.rounds)))
            print(tables[1])
    finally:
        SHARED.unlink(missing_ok=True)
    text = "\n\n".join(tables)
    if (given.seconds, given.rounds) >= WHOLE and not given.flag:
        head = f"`python benches/infer.py`, {datetime.date.today()}, {os.cpu_count()} cores:\n\n"
        replace_between_markers(DOCUMENT, head + text + "\n", "benches/infer.py")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BenchError, subprocess.SubprocessError) as error:
        sys.exit(f"infer: {error}")
