"""Measures what scaling to zero costs: from the start of a predictor's process to its first right answer.

    python benches/kserve_start.py [--starts 7]

The processes are those of deploy/kserve/runtimes, with their arguments; the models' files are in the page
cache. Prints a table for docs/kserve.md.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from quiet import Others, children_seconds
from start import free_port

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "tests" / "models"
RUNTIMES = ROOT / "deploy" / "kserve" / "runtimes"
HALF = {"instances": [1.0, 2.0, 5.0]}
PAIR = {"instances": [{"a": 1.0, "b": 2}]}


@dataclass(frozen=True)
class Case:
    """A runtime with a model, and a request."""

    title: str
    runtime: str
    model: Path
    body: object


def cases(folder: Path) -> list[Case]:
    """Returns what is measured; ``folder`` is for models that are made."""
    files = {}
    for model, file in (("onnx_pair", "model.onnx"), ("tflite_pair", "model.tflite")):
        files[model] = folder / model
        files[model].mkdir()
        (files[model] / file).symlink_to(MODELS / model / "1" / file)
    return [
        Case("SavedModel, `half_plus_two`", "tensorflow", MODELS / "half_plus_two", HALF),
        Case("ONNX, 0.3 KB", "onnx", files["onnx_pair"], PAIR),
        Case("TensorFlow Lite, 1 KB", "tflite", files["tflite_pair"], PAIR),
    ]


def command(case: Case, port: int) -> list[str]:
    """Returns the command of the runtime's container."""
    (container,) = yaml.safe_load((RUNTIMES / f"{case.runtime}.yaml").read_text())["spec"]["containers"]
    words = [
        word.replace("{{.Name}}", "m").replace("/mnt/models", str(case.model)) for word in container["args"]
    ]
    ports = [f"--rest_api_port={port}", f"--port={free_port()}", "--drain_delay_seconds=0"]
    return [sys.executable, "-m", "servable", *words, *ports]


def seconds(case: Case) -> float:
    """Starts a process; returns the seconds to its first answer."""
    port = free_port()
    begun = time.monotonic()
    process = subprocess.Popen(command(case, port), stderr=subprocess.DEVNULL)
    try:
        while not answers(port, case):
            if process.poll() is not None:
                raise SystemExit(f"{case.title}: the server ended ({process.returncode})")
            time.sleep(0.002)
        return time.monotonic() - begun
    finally:
        process.terminate()
        process.wait()


def answers(port: int, case: Case) -> bool:
    """Asks once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/v1/models/m:predict", json.dumps(case.body))
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=7)
    starts = parser.parse_args(argv).starts
    others, before = Others(), children_seconds()
    print("| model | seconds, median | lowest to highest |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            found = [seconds(case) for _ in range(starts)]
            print(f"| {case.title} | {statistics.median(found):.2f} | {min(found):.2f} to {max(found):.2f} |")
    share = others.share(children_seconds() - before)
    print(f"\n{starts} starts each; other processes took {share:.0%} of the machine meanwhile.")


if __name__ == "__main__":
    main()
