"""The p99 of one model under a steady load: in quiet, and while a large model comes and goes.

    python benches/ripple.py [--seconds 20] [--rounds 3] [--megabytes 500] [--keep FOLDER]

The large model is loaded and unloaded without pause, by a config file that is replaced and SIGHUP. Quiet and
busy rounds take turns, so that what else the machine does falls on both. Linux, with wrk and TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from load import Sample, Target, load
from process import BenchError, Process, wait_until

ROOT = Path(__file__).resolve().parent.parent
SMALL = ROOT / "tests" / "models" / "half_plus_two"
BODY = '{"instances": [1.0, 2.0, 5.0]}'
CONNECTIONS = 4
PAUSE_MS = 1
MAKE = """
import sys, tensorflow as tf
class Large(tf.Module):
    def __init__(self, count):
        super().__init__()
        self.parts = [tf.Variable(tf.random.stateless_normal([2621440], [1, n])) for n in range(count)]
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x):
        return {"y": x + self.parts[0][0]}
module = Large(int(sys.argv[2]) // 10)
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": module.serve})
"""
"""Writes a SavedModel to argv[1] with argv[2] megabytes of variables, ten each."""


@dataclass
class Server:
    """A server of the small model and, as told, of the large one."""

    process: Process
    config: Path
    large: Path
    url: str
    cycles: int = 0
    failure: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def list_models(self, large: bool) -> None:
        """Replaces the config file and has it read."""
        write_config(self.config, self.large if large else None)
        os.kill(self.process.pid, signal.SIGHUP)

    def large_is(self, state: str) -> bool:
        """Whether the large model's version is in ``state``."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models/large", timeout=30) as reply:
                statuses = json.loads(reply.read())["model_version_status"]
        except urllib.error.HTTPError:
            return False
        if any(one["status"]["error_code"] != "OK" for one in statuses):
            raise BenchError(f"the large model failed: {statuses}")
        return all(one["state"] == state for one in statuses)

    def cycle(self) -> None:
        """Loads and unloads the large model until ``done``."""
        try:
            while not self.done.is_set():
                for large, state in ((True, "AVAILABLE"), (False, "END")):
                    self.list_models(large)
                    wait_until(lambda state=state: self.large_is(state), 300, f"{state}", every=0.02)
                self.cycles += 1
        except (BenchError, OSError) as error:
            self.failure = str(error)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While the large model comes and goes; on leaving it is gone."""
        self.done.clear()
        loader = threading.Thread(target=self.cycle)
        loader.start()
        try:
            yield
        finally:
            self.done.set()
            loader.join()
        if self.failure:
            raise BenchError(self.failure)


def write_config(file: Path, large: Path | None) -> None:
    """A text ModelServerConfig with the small model and maybe the large one, written at once."""
    bases = {"small": SMALL} | ({"large": large} if large else {})
    entries = [
        f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}'
        for name, base in bases.items()
    ]
    fresh = file.with_suffix(".new")
    fresh.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    fresh.replace(file)


@contextmanager
def serving(folder: Path, large: Path) -> Iterator[Server]:
    """A server with the small model, its port known."""
    config = folder / "models.config"
    write_config(config, None)
    command = [sys.executable, "-m", "servable", "serve", "--port=off", "--rest_api_port=0"]
    with Process([*command, f"--model_config_file={config}"], folder / "server.log") as process:
        port = process.wait_for(r"Exporting HTTP/REST API at:localhost:(\d+)")[1]
        process.wait_for(r"ready: \d+ of \d+ models")
        yield Server(process, config, large, f"http://127.0.0.1:{port}")


def measure(server: Server, folder: Path, seconds: float) -> Sample:
    """One run of wrk at a steady rate."""
    body = folder / "body.json"
    body.write_text(BODY)
    os.environ["PAUSE_MS"] = str(PAUSE_MS)
    sample = load(Target(f"{server.url}/v1/models/small:predict", None), body, CONNECTIONS, seconds)
    if sample.errors:
        raise BenchError(f"{sample.errors} of {sample.requests} requests failed")
    return sample


def large_model(folder: Path, megabytes: int) -> Path:
    """The large model's base path, made where it is missing."""
    version = folder / f"large_{megabytes}" / "1"
    if not version.is_dir():
        print(f"making a model of {megabytes} MB", flush=True)
        command = [sys.executable, "-c", MAKE, str(version), str(megabytes)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode != 0:
            raise BenchError(f"the large model could not be made: {made.stderr[-2000:]}")
    return version.parent


def run(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every round: quiet and busy figures in microseconds."""
    rounds = []
    with serving(folder, large_model(folder, options.megabytes)) as server:
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
    """Prints each round and the median ratio."""
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
    ratio = statistics.median(figures["ratio"] for figures in rounds)
    print(f"ratio of the p99, median of {len(rounds)} rounds: {ratio:.2f}")


if __name__ == "__main__":
    main()
