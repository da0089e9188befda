"""Lower bounds: the cost of bare TensorFlow and of bare hyper."""

from __future__ import annotations

import json
import os
import subprocess
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
    with a pause before each run), "together" (as the first, in a thread per core at once).
    """

    way: str
    runs: int
    wall_us: float
    cpu_us: float
    p50_us: float


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
    data = build / f"{request.name}.tensor"
    data.write_bytes(request.data)
    shape = ",".join(map(str, request.shape))
    ran = subprocess.run(
        [
            *(str(program), str(model.version_folder), f"{seconds:g}"),
            *(model.input, request.dtype, shape, str(data)),
            *model.outputs,
        ],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_LIMIT,
    )
    if ran.returncode != 0:
        raise BenchError(f"the bare run of {model.name} failed: {ran.stderr.splitlines()[-1:]}")
    runs = [Run(**json.loads(line)) for line in ran.stdout.splitlines() if line.startswith("{")]
    return {run.way: run for run in runs}
