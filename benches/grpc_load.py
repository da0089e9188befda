"""gRPC load generator (``grpc_load.rs``), and the bare C++ server for comparison (``floor_grpc/``)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from load import FREE, Sample, Target, cores
from process import BenchError, Process, pin, usage
from quiet import Others, children_seconds

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CARGO = ("cargo", "build", "--release", "--locked", "--example", "grpc_load")
SOURCE = HERE / "floor_grpc"
LIBRARIES = ("-lgrpc++", "-lgpr", "-lprotobuf", "-labsl_synchronization", "-pthread")
PACKAGES = "apt-get install g++ libgrpc++-dev protobuf-compiler-grpc"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
MAX_CONNECTIONS = 4
LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Programs:
    """The programs built: the load generator, and the bare server if requested.

    same_bytes: an answer that differs from the first is an error; otherwise, one of another length.
    method: the path of the method that is called.
    """

    load: Path
    echo: Path | None = None
    same_bytes: bool = True
    method: str = PREDICT

    def serve_echo(self, reply: Path) -> tuple[Process, str]:
        """Starts the bare server that answers the message in ``reply``; returns the process and its port."""
        assert self.echo is not None, "made by build_load: it has no bare server"
        process = Process([self.echo, reply], reply.with_suffix(".floor.log"))
        return process, process.wait_for(r"^(\d+)$")[1]

    def ask_once(self, port: str, body: Path) -> bytes:
        """Returns the reply to ``body``."""
        self._told(port, body, 1, 0, os.sched_getaffinity(0))
        return _reply(body).read_bytes()

    def load_on(self, target: Target, body: Path, calls: int, seconds: float, layout: str = FREE) -> Sample:
        """Keeps ``calls`` calls in flight for ``seconds``, over up to four connections to ``target``."""
        load_cores, server_cores = cores(layout)
        pid = target.pid
        if pid is not None:
            pin(pid, server_cores)
        before = usage(pid)
        load_before, others = children_seconds(), Others()
        told = self._told(target.url, body, calls, seconds, load_cores)
        after = usage(pid)
        spent = after.cpu - before.cpu
        share = others.share(spent + children_seconds() - load_before)
        count = int(told["requests"])
        if count == 0:
            raise BenchError(
                f"port {target.url} answered no call in {seconds:g} s: {told['errors']:g} errors"
            )
        return Sample(
            requests=count,
            per_second=count / told["seconds"],
            p50_us=told["p50_us"],
            p99_us=told["p99_us"],
            errors=int(told["errors"]),
            cpu_us=None if pid is None else spent / (count + 1) * 1e6,  # the first call is not counted
            others=share,
            max_us=told["max_us"],
            faults=None if pid is None else (after.faults - before.faults) / (count + 1),
        )

    def _told(
        self, port: str, body: Path, calls: int, seconds: float, load_cores: set[int]
    ) -> dict[str, float]:
        connections = min(MAX_CONNECTIONS, calls)
        ran = subprocess.run(
            [
                str(self.load),
                port,
                str(body),
                str(_reply(body)),
                str(connections),
                str(calls),
                f"{seconds:g}",
                "bytes" if self.same_bytes else "length",
            ],
            env=os.environ | {"GRPC_METHOD": self.method},
            preexec_fn=lambda: os.sched_setaffinity(0, load_cores),
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        if ran.returncode != 0:
            raise BenchError(f"the load on port {port} failed: {ran.stderr.strip()}")
        told: dict[str, float] = json.loads(ran.stdout)
        return told


def _reply(body: Path) -> Path:
    return body.with_suffix(".reply")


def build(folder: Path) -> Programs:
    """Builds both programs; the C++ one and its sources into ``folder``."""
    load = build_load().load
    print("building the bare C++ gRPC server", flush=True)
    return Programs(load, _build_echo(folder))


def build_load() -> Programs:
    """Builds only the load generator."""
    print("building the gRPC load", flush=True)
    subprocess.run(CARGO, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Programs(target / "release" / "examples" / "grpc_load")


def _build_echo(folder: Path) -> Path:
    plugin = shutil.which("grpc_cpp_plugin")
    if plugin is None:
        raise BenchError(f"gRPC's C++ library is not installed. Debian, Ubuntu: {PACKAGES}")
    made = folder / "floor_grpc"
    made.mkdir(parents=True, exist_ok=True)
    program = made / "floor_grpc"
    sources = [SOURCE / "server.cc", SOURCE / "payload.proto"]
    if program.is_file() and all(program.stat().st_mtime > source.stat().st_mtime for source in sources):
        return program
    outputs = (f"--cpp_out={made}", f"--grpc_out={made}", f"--plugin=protoc-gen-grpc={plugin}")
    subprocess.run(["protoc", f"-I{SOURCE}", *outputs, "payload.proto"], check=True)
    generated = [made / "payload.pb.cc", made / "payload.grpc.pb.cc"]
    command: list[str | Path] = ["c++", "-std=c++17", "-O2", "-Wall", f"-I{made}"]
    subprocess.run([*command, sources[0], *generated, "-o", program, *LIBRARIES], check=True)
    return program
