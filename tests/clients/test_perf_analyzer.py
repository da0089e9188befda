"""Triton's perf_analyzer, as its users run it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Served

pytestmark = pytest.mark.needs_tensorflow


@pytest.mark.parametrize("more", [[], ["--shared-memory=system"], ["--input-data=random"]])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_it_measures(served: Served, installed: Path, protocol: str, more: list[str]) -> None:
    program = shutil.which("perf_analyzer", path=str(installed / "python" / "bin"))
    if not program:
        pytest.skip("perf_analyzer is not installed")
    if more == ["--shared-memory=system"]:
        pytest.skip("the names of its files have no prefix of ours: tests/clients/conftest.py")
    address = f"127.0.0.1:{served.rest_port}" if protocol == "http" else served.grpc
    command = [program, "-m", "half_plus_two", "-i", protocol, "-u", address, "--shape", "x:100"]
    command += ["--concurrency-range", "2", "--request-count", "200", *more]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if "cannot open shared object file" in ended.stderr or "GLIBC" in ended.stderr:
        pytest.skip(f"perf_analyzer does not run here: {ended.stderr.strip().splitlines()[-1]}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    throughput = re.search(r"throughput: ([0-9.]+) infer/sec", ended.stdout)
    assert throughput and float(throughput[1]) > 0, ended.stdout
