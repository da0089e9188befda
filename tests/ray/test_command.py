"""``servable ray run``, on the cluster of the tests."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from proxies import rest
from servers import MODELS, until

COMMAND = (sys.executable, "-m", "servable", "ray", "run")
PATH = "/command/v1/models/half:predict"
BODY = b'{"instances": [1.0]}'


def test_a_file_is_run_changed_and_ended(cluster: Any, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"

    def write(name: str) -> None:
        file.write_text(
            f"address: {cluster.address}\n"
            f"grpc: {{port: 29555}}\n"
            f"applications:\n"
            f"  - name: command\n"
            f"    route: /command\n"
            f"    models: {{{name}: {MODELS / 'half_plus_two'}}}\n"
            f"    replicas: {{min: 1, max: 2, target: 8}}\n"
        )

    write("half")
    process = subprocess.Popen(
        [*COMMAND, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        # Between them Ray may tell of nodes, which tests before this one end.
        said = []
        for line in process.stdout:
            said.append(line)
            if "gRPC on port" in line:
                break
        ours = [
            line for line in said if line.startswith(("command: ready", "command: gRPC", "Ray Serve runs"))
        ]
        assert len(ours) == 3, said
        assert "keeps its ports" in ours[0], said
        assert f"command: ready at http://127.0.0.1:{cluster.http_port}/command/v1/models/" in ours[1], said
        assert f"command: gRPC on port {cluster.grpc_port}, metadata" in ours[2], said
        assert rest(cluster, "POST", PATH, BODY)[0] == 200
        write("other")
        changed = subprocess.run(
            [*COMMAND, str(file), "--detach"], capture_output=True, text=True, timeout=120
        )
        assert changed.returncode == 0, changed.stderr
        assert until(lambda: rest(cluster, "POST", PATH.replace("half", "other"), BODY)[0] == 200, 30)
        assert rest(cluster, "POST", PATH, BODY)[0] == 404
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert until(lambda: rest(cluster, "POST", PATH, BODY)[2].startswith(b"Path '/command"), 30)
    finally:
        process.kill()


def test_what_cannot_be_started_says_why(cluster: Any, tmp_path: Path) -> None:
    from ray import serve

    file = tmp_path / "config.yaml"
    good = f"{{name: first, route: /first, models: {{half: {MODELS / 'half_plus_two'}}}}}"
    what = f"models: {{unknown_op: {MODELS / 'unknown_op'}}}, flags: {{max_num_load_retries: 0}}"
    bad = f"{{name: cannot, route: /cannot, {what}}}"
    file.write_text(f"address: {cluster.address}\napplications: [{good}, {bad}]")
    try:
        done = subprocess.run([*COMMAND, str(file)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stdout.startswith("first: starting half\ncannot: starting unknown_op\n"), done.stdout
        for name in ("first", "cannot"):
            assert f"{name}: ended, as not all of the file runs\n" in done.stdout, done.stdout
        assert not serve.status().applications.keys() & {"first", "cannot"}
        last = done.stderr.splitlines()[-1]
        assert last.startswith("servable ray: cannot cannot be started: NOT_FOUND: model unknown_op"), last
        assert "not registered" in last
    finally:
        for name in serve.status().applications.keys() & {"first", "cannot"}:
            serve.delete(name)


@pytest.mark.parametrize(
    ("number", "status", "last"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_run_that_is_interrupted_ends_what_it_has_begun(
    cluster: Any, tmp_path: Path, number: signal.Signals, status: int, last: str
) -> None:
    from ray import serve

    file = tmp_path / "config.yaml"
    # No node has as many.
    what = f"{{name: waits, route: /waits, models: {{half: {MODELS / 'half_plus_two'}}}, cpus: 1000}}"
    file.write_text(f"address: {cluster.address}\napplications: [{what}]")
    process = subprocess.Popen(
        [*COMMAND, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert until(lambda: "waits" in serve.status().applications, 60)
        process.send_signal(number)
        said, errors = process.communicate(timeout=120)
        assert process.returncode == status, errors
        assert said.endswith("waits: ended, as not all of the file runs\n"), said
        assert errors.endswith(f"servable ray: {last}\n"), errors
        assert "waits" not in serve.status().applications
    finally:
        process.kill()
        if "waits" in serve.status().applications:
            serve.delete("waits")


def test_every_replica_is_asked_whether_it_has_taken_the_models(cluster: Any, tmp_path: Path) -> None:
    from ray import serve

    file = tmp_path / "config.yaml"

    def run(model: Path) -> subprocess.CompletedProcess[str]:
        what = f"{{name: asked, route: /asked, models: {{half: {model}}}, replicas: 2}}"
        file.write_text(f"address: {cluster.address}\napplications: [{what}]")
        return subprocess.run([*COMMAND, str(file), "--detach"], capture_output=True, text=True, timeout=300)

    try:
        done = run(MODELS / "half_plus_two")
        assert done.returncode == 0, done.stderr
        done = run(tmp_path / "none")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "asked: the models are as they were: no such folder" in done.stdout, done.stdout
        assert "asked: stays, RUNNING\n" in done.stdout, done.stdout
    finally:
        serve.delete("asked")
