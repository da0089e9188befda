"""The real process: messages at the start, an orderly shutdown, and reports of a failed start."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import Serve

pytestmark = [pytest.mark.needs_tensorflow, pytest.mark.needs_shared]

TWO_VERSIONS = "testdata/tensorflow_serving/saved_model_half_plus_two_2_versions"


def get(url: str) -> object:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.load(reply)


def test_a_start_talks_and_a_signal_ends_it(serve: Serve, shared: Path) -> None:
    served = serve(f"half_plus_two={shared / TWO_VERSIONS}")
    path = shared / TWO_VERSIONS / "00000124"
    assert f"loaded half_plus_two version 124 from {path} in " in served.log
    assert "serving_default(x: float[-1,1]) -> (y: float[-1,1])" in served.log
    assert f"http://localhost:{served.rest_port}/v1/models/half_plus_two:predict" in served.log
    status = get(f"{served.rest}/v1/models/half_plus_two")
    assert isinstance(status, dict)
    assert [(one["version"], one["state"]) for one in status["model_version_status"]] == [
        ("124", "AVAILABLE")
    ]
    assert served.stop() == 0
    assert "unloaded half_plus_two version 124" in served.log


def test_the_curl_line_works(serve: Serve, shared: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    served = serve(f"half_plus_two={shared / TWO_VERSIONS}")
    (line,) = [line.strip() for line in served.lines if line.strip().startswith("curl ")]
    run = subprocess.run([*shlex.split(line), "-s"], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(run.stdout) == {"predictions": [[2.5]]}


def test_versions_come_and_go_while_serving(serve: Serve, shared: Path, tmp_path: Path) -> None:
    source = shared / TWO_VERSIONS / "00000123"
    served = serve(f"m={tmp_path}", "--file_system_poll_wait_seconds=1")
    assert "the folder is empty" in served.log
    shutil.copytree(source, tmp_path / "copying")
    (tmp_path / "copying").rename(tmp_path / "1")
    served.wait_for_line("loaded m version 1")
    shutil.copytree(source, tmp_path / "copying")
    (tmp_path / "copying").rename(tmp_path / "2")
    served.wait_for_line("unloaded m version 1")
    assert "loaded m version 2" in served.log
    shutil.rmtree(tmp_path / "2")
    served.wait_for_line("unloaded m version 2|loaded m version 1")


def test_a_broken_model_is_reported_and_the_others_serve(serve: Serve, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "bad" / "1").mkdir(parents=True)
    served = serve(f"good={shared / TWO_VERSIONS}", str(tmp_path / "bad"))
    assert "could not load bad version 1" in served.log
    assert "does not appear to contain a SavedModel bundle" in served.log
    assert "ready: 1 of 2 models available" in served.log


def test_a_taken_port_ends_the_start_and_names_the_owner(shared: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "servable", "serve", str(shared / TWO_VERSIONS)]
        flags = [f"--rest_api_port={port}", "--port=0", "--host=127.0.0.1"]
        run = subprocess.run(command + flags, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stdout == "Failed to start server. Error: INVALID_ARGUMENT: Failed to start HTTP Server\n"
    assert f"hint: port {port} is taken by " in run.stderr


def test_the_drop_in_with_its_own_syntax(shared: Path) -> None:
    entry = (
        "import sys; from servable.cli import tensorflow_model_server; sys.exit(tensorflow_model_server())"
    )
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [one.getsockname()[1], other.getsockname()[1]]
    flags = [f"--port={ports[0]}", f"--rest_api_port={ports[1]}", "--model_name=m"]
    process = subprocess.Popen(
        [sys.executable, "-c", entry, *flags, f"--model_base_path={shared / TWO_VERSIONS}", "--no_such_flag"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "ready:" in line:
            break
    process.terminate()
    process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 0, lines
    assert any("unknown argument: --no_such_flag" in line for line in lines)
    assert any(f"Exporting HTTP/REST API at:localhost:{ports[1]} ..." in line for line in lines)


def test_a_second_signal_exits_at_once(serve: Serve, shared: Path) -> None:
    """The first one waits for a request whose body never comes; the second one does not."""
    served = serve(f"m={shared / TWO_VERSIONS}", "--shutdown_grace_seconds=1000")
    assert served.rest_port is not None
    with socket.create_connection(("127.0.0.1", served.rest_port)) as stuck:
        stuck.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{")
        get(f"{served.rest}/v1/models/m")
        os.kill(served.process.pid, signal.SIGTERM)
        served.wait_for_line("SIGTERM: finishing requests in flight")
        os.kill(served.process.pid, signal.SIGTERM)
        assert served.process.wait(30) == 128 + signal.SIGTERM


def test_a_hang_up_reads_the_config_file_again(serve: Serve, shared: Path, tmp_path: Path) -> None:
    """Policy and labels come from a file; a broken file changes nothing; a valid one is followed."""
    entry = (
        f'config {{ name: "m" base_path: "{shared / TWO_VERSIONS}" model_platform: "tensorflow" '
        'model_version_policy { POLICY } version_labels { key: "stable" value: 123 } }'
    )
    file = tmp_path / "models.config"
    both = f"model_config_list {{ {entry.replace('POLICY', 'all {}')} }}"
    file.write_text(both)
    served = serve(f"--model_config_file={file}")
    if "loaded m version 123" not in served.log:
        # The ports open as soon as one version serves.
        served.wait_for_line("loaded m version 123")
    metadata = get(f"{served.rest}/v1/models/m/labels/stable/metadata")
    assert isinstance(metadata, dict)
    assert metadata["model_spec"]["version"] == "123"
    file.write_text("nonsense")
    served.process.send_signal(signal.SIGHUP)
    served.wait_for_line("models.config is not applied: INVALID_ARGUMENT: Invalid protobuf file")
    file.write_text(both.replace("all {}", "specific { versions: 123 }"))
    served.process.send_signal(signal.SIGHUP)
    served.wait_for_line("unloaded m version 124")
    assert isinstance(get(f"{served.rest}/v1/models/m/versions/123"), dict)
