"""Starts the servers shared by a module's tests, and observes them from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from conftest import ROOT, START_SECONDS, STOP_SECONDS, Served

from servable.engines import tensorflow_library

MODELS = ROOT / "tests" / "models"
FRIENDLY = (sys.executable, "-m", "servable", "serve", "--port=off", "--rest_api_port=0")
WITH_GRPC = "--port=0"
RELOADS = "--allow_reload_rpc"
ADMIN = "--admin_address=127.0.0.1:0"
ONE_TRY = "--max_num_load_retries=0"
POLLED = "--model_config_file_poll_wait_seconds=1"
DROP_IN = (
    sys.executable,
    "-c",
    "import sys; from servable.cli import tensorflow_model_server; sys.exit(tensorflow_model_server())",
)


@contextmanager
def serving(
    *arguments: str | Path,
    command: tuple[str, ...] = FRIENDLY,
    environment: Mapping[str, str] | None = None,
    before_exec: Callable[[], None] | None = None,
    ready: str = r"ready: \d+ of \d+ models",
    may_end: bool = False,
) -> Iterator[Served]:
    """Runs a server that has logged ``ready``: by default ``servable serve``, REST on a free port, no gRPC.

    At the end it is stopped, and must exit 0 without a panic. may_end: it may have ended before. before_exec:
    called in the new process.
    """
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **(environment or {})},
        preexec_fn=before_exec,
    )
    served = Served(process)
    try:
        served.wait_for_line(ready)
        yield served
        status = process.poll()
        assert status is None or may_end, f"the server ended by itself ({status}):\n{served.log}"
        assert (served.stop() if status is None else status) == 0, served.log
        assert "panicked" not in served.log, served.log
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(STOP_SECONDS)
        served.wait_closed()


def run_to_its_end(
    *arguments: str | Path, command: tuple[str, ...] = FRIENDLY, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a start that is expected to fail, and returns its output."""
    return subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def until(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    """Returns whether ``condition`` came true in time; checks every 20 ms."""
    give_up = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > give_up:
            return False
        pause.wait(0.02)
    return True


def resident_megabytes(served: Served) -> float:
    """Returns the server's resident memory in MiB (Linux)."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def admin_url(served: Served) -> str:
    """Returns the address of the administration (``ADMIN``): ``http://127.0.0.1:PORT``."""
    (line,) = [line for line in served.lines if "administration at http://" in line]
    return line.rpartition("administration at ")[2].removesuffix("/admin/models")


def without_keras(folder: Path) -> dict[str, str]:
    """Returns the environment of a server that finds TensorFlow's library, but no Python package of it."""
    (folder / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind, absent = util.find_spec, ('keras', 'tensorflow')\n"
        "util.find_spec = lambda name, *more: None if name in absent else find(name, *more)\n"
    )
    return {
        "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]),
        "SERVABLE_TENSORFLOW_LIBRARY": tensorflow_library.find(),
    }


def put_version(model: str, base: Path, version: int) -> Path:
    """Copies ``tests/models/MODEL/1`` to ``base/VERSION``, which appears atomically.

    ``base`` is created if missing.
    """
    half_done = base / "copying"
    shutil.copytree(MODELS / model / "1", half_done, ignore=shutil.ignore_patterns("assets"))
    return half_done.rename(base / str(version))
