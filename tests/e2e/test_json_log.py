"""The log as JSON: every line of the server, of its core and of TensorFlow is an object."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import DROP_IN, MODELS, run_to_its_end, serving
from wire import predict

pytestmark = pytest.mark.needs_tensorflow

JSON = "--log_format=json"
HALF = MODELS / "half_plus_two"


def objects(text: str) -> list[dict[str, Any]]:
    """Returns the lines; fails if one is no object with the four members that all have."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    return lines


def test_every_line_is_an_object(tmp_path: Path) -> None:
    # TensorFlow tells of its processor at level 0, and of a file that it cannot read.
    with serving(HALF, JSON, "--log_level=debug", environment={"TF_CPP_MIN_LOG_LEVEL": "0"}) as served:
        assert predict(served, "half_plus_two", {"instances": [2.0]}).status == 200
    lines = objects(served.log)
    loggers = {line["logger"] for line in lines}
    assert {"servable", "server", "tensorflow", "lifecycle"} <= loggers | {"lifecycle"}
    native = [line for line in lines if line["logger"] == "tensorflow" and "source" in line]
    assert native, served.log
    assert {line["level"] for line in lines} <= {"debug", "info", "warning", "error", "critical"}
    assert any("Exporting HTTP/REST API at:" in line["message"] for line in lines)


def test_a_text_of_several_lines_is_one_object() -> None:
    with serving(MODELS / "unknown_op", JSON, "--max_num_load_retries=0") as served:
        pass
    (line,) = [line for line in objects(served.log) if line["message"].startswith("could not load")]
    assert line["level"] == "error" and "\n" in line["message"]


def test_a_start_that_fails_says_why_on_both_streams() -> None:
    arguments = ["--port=0", "--model_name=m", "--model_base_path=/m", "--batching_parameters_file=x", JSON]
    ended = run_to_its_end(*arguments, command=DROP_IN)
    assert ended.returncode == 255
    assert ended.stdout.startswith("Failed to start server. Error: ")
    objects(ended.stderr)


def run(code: str) -> subprocess.CompletedProcess[str]:
    head = (
        "import os, signal, sys; from servable.serving.log_format import *; log_to_stderr('info', 'json')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_what_libraries_write_is_logged_to_the_end() -> None:
    ended = run(
        "os.write(2, b'2026-01-02 03:04:05.678901: W tensorflow/core/a.cc:7] careful\\nhalf a li')\n"
        "os.write(2, b'ne\\n\\nwithout an end')\n"
    )
    assert ended.returncode == 0
    first, second, third = objects(ended.stderr)
    assert (first["level"], first["logger"], first["message"]) == ("warning", "tensorflow", "careful")
    assert first["source"] == "tensorflow/core/a.cc:7"
    assert (second["logger"], second["message"]) == ("stderr", "half a line")
    assert third["message"] == "without an end"


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGBUS"])
def test_the_last_words_of_a_crash_are_written(name: str) -> None:
    code = f"os.write(2, b'F0000 00:00:1.5 7 check.cc:1] broken\\n'); os.kill(os.getpid(), signal.{name})"
    ended = run(code)
    assert ended.returncode == -getattr(signal, name)
    (line,) = objects(ended.stderr)
    assert (line["level"], line["message"]) == ("error", "broken")


def test_a_child_that_keeps_stderr_does_not_hold_the_end_up() -> None:
    code = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)\n"
        "os.write(2, b'last\\n'); end(); os.write(2, b'raw\\n'); print(child.pid, flush=True); os._exit(0)"
    )
    ended = run(code)
    os.kill(int(ended.stdout), signal.SIGKILL)
    logged, raw = ended.stderr.splitlines()
    assert json.loads(logged)["message"] == "last"
    assert raw == "raw"
