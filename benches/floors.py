"""Lower bounds: the cost of bare TensorFlow and of bare hyper."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models import Model
from points import Request
from process import BenchError, Process

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CARGO = ("cargo", "build", "--release", "--locked", "--example", "floor_http")
RUN_SECONDS_LIMIT = 120


@dataclass(frozen=True)
class Run:
    """Bare TF_SessionRun calls, one after another; microseconds per run, CPU time of all threads.

    way: "caller" (operations run in the caller's thread), "pool" (on TensorFlow's), "rested" (as the first,
    with a pause before each run), "together" (as the first, in a thread per core at once). threads: that many
    at once, which did per_second runs together. faults: minor page faults per run.
    """

    way: str
    threads: int
    runs: int
    wall_us: float
    cpu_us: float
    p50_us: float
    per_second: float
    faults: float


def build_http() -> Path:
    """Builds the bare hyper server; returns the program."""
    print("building the bare hyper server", flush=True)
    subprocess.run(CARGO, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "examples" / "floor_http"


def build_run(library: Path, build: Path) -> Path:
    """Compiles the loop of bare runs against the wheel that holds ``library``; returns the program."""
    package = library.parent
    framework = package / "libtensorflow_framework.so.2"
    program = build / "floor_run"
    command: list[str | Path] = ["cc", "-std=c11", "-O2", "-Wall", f"-I{package / 'include'}", "-o", program]
    command += [HERE / "floor_run.c", library, *([framework] if framework.is_file() else [])]
    subprocess.run([*command, f"-Wl,-rpath,{package}"], check=True)
    return program


def serve_http(program: Path, reply: bytes, build: Path, name: str) -> tuple[Process, str]:
    """Starts the bare server that answers ``reply``; returns the process and its URL."""
    answer = build / f"{name}.reply"
    answer.write_bytes(reply)
    process = Process([program, answer], build / f"{name}.floor.log")
    port = process.wait_for(r"^(\d+)$")[1]
    return process, f"http://127.0.0.1:{port}/"


def bare_runs(program: Path, model: Model, request: Request, build: Path, seconds: float) -> dict[str, Run]:
    """Runs the model bare for ``seconds`` in each way; returns the runs by way."""
    runs = _run(program, model, request, build, (f"{seconds:g}",))
    return {run.way: run for run in runs}


def bare_threads(
    program: Path, model: Model, request: Request, build: Path, seconds: float, threads: Sequence[int]
) -> list[Run]:
    """Runs the model bare in each number of threads, in the callers' threads and on the pool; then rested."""
    return _run(program, model, request, build, (f"{seconds:g}", "--threads=" + ",".join(map(str, threads))))


def _run(program: Path, model: Model, request: Request, build: Path, how: Sequence[str]) -> list[Run]:
    feeds = []
    for alias, feed in request.feeds.items():
        data = build / f"{request.name}.{alias}.tensor"
        data.write_bytes(feed.data)
        feeds += [model.inputs[alias], feed.dtype, ",".join(map(str, feed.shape)), str(data)]
    ran = subprocess.run(
        [str(program), str(model.version_folder), *how, *feeds, "--", *model.outputs],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_LIMIT,
    )
    if ran.returncode != 0:
        raise BenchError(f"the bare run of {model.name} failed: {ran.stderr.splitlines()[-1:]}")
    return [Run(**json.loads(line)) for line in ran.stdout.splitlines() if line.startswith("{")]
