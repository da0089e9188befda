"""Triton's perf_analyzer, as its users run it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Served

pytestmark = pytest.mark.needs_tensorflow


@pytest.mark.parametrize(
    "asked",
    [
        ["-m", "half_plus_two", "--shape", "x:100"],
        ["-m", "add_two", "--shape", "x:100", "-b", "8"],
        ["-m", "half_plus_two", "--shape", "x:100", "--input-data", "zero"],
    ],
    ids=["list", "batch", "zeros"],
)
@pytest.mark.parametrize("protocol", ["http", "grpc", "stream"])
def test_it_measures(served: Served, installed: Path, protocol: str, asked: list[str]) -> None:
    program = shutil.which("perf_analyzer", path=str(installed / "python" / "bin"))
    if not program:
        pytest.skip("perf_analyzer is not installed: see what scripts/test-clients.sh said of it")
    address = f"127.0.0.1:{served.rest_port}" if protocol == "http" else served.grpc
    command = [program, "-i", "http" if protocol == "http" else "grpc", "-u", address, *asked]
    command += ["--concurrency-range", "2", "--request-count", "200"]
    command += ["--streaming"] if protocol == "stream" else []
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if "cannot open shared object file" in ended.stderr or "GLIBC" in ended.stderr:
        pytest.skip(f"perf_analyzer does not run here: {ended.stderr.strip().splitlines()[-1]}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    throughput = re.search(r"throughput: ([0-9.]+) infer/sec", ended.stdout, re.IGNORECASE)
    assert throughput and float(throughput[1]) > 0, ended.stdout
