"""A soak: constant load over both protocols while versions come and go, labels move, configurations reload.

    python benches/soak.py --seconds 60

Needs the installed package, grpcio and a SavedModel (``--model``, by default the tests' small one).
Prints a summary and ends with status 0 when no request failed and every old version was unloaded, else 1.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from servable.messages import message_class

MODEL = Path(__file__).resolve().parent.parent / "tests" / "models" / "half_plus_two"
NAME = "m"
X, Y = 2.0, 3.0
START_SECONDS = 120.0
STEP_SECONDS = 60.0


@dataclass
class Tally:
    """The clients' results: answers by protocol, and the texts of failures (the first thousand)."""

    answers: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, protocol: str, got: object) -> None:
        """Records one answer; anything but ``Y`` is a failure."""
        with self.lock:
            self.answers[protocol] = self.answers.get(protocol, 0) + 1
            if got != Y:
                self.failed += 1
                if len(self.failures) < 1000:
                    self.failures.append(f"{protocol}: {got}")


class Server:
    """The server under test, its ports and its log."""

    def __init__(self, config: Path, batching: bool) -> None:
        command = [sys.executable, "-m", "servable", "serve", "--port=0", "--rest_api_port=0"]
        command.append("--allow_reload_rpc")
        flags = [f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1"]
        if batching:
            flags.append("--enable_batching")
        self.process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._ready.wait(START_SECONDS):
            raise SystemExit("the server did not become ready:\n" + "\n".join(self.lines))
        log = "\n".join(self.lines)
        self.rest_port = int(re.findall(r"HTTP/REST API at:localhost:(\d+)", log)[0])
        self.grpc_port = int(re.findall(r"gRPC ModelServer at 0\.0\.0\.0:(\d+)", log)[0])

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if ": ready: " in line:
                self._ready.set()

    def resident_megabytes(self) -> float:
        """Returns the memory in RAM (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


class RestClient:
    """A persistent connection that asks for the newest version and for the label in turn."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
        self._paths = itertools.cycle(
            [f"/v1/models/{NAME}:predict", f"/v1/models/{NAME}/labels/stable:predict"]
        )
        self._body = json.dumps({"instances": [X]})

    def __call__(self) -> object:
        """Returns the prediction, or the error."""
        self._connection.request("POST", next(self._paths), self._body)
        reply = self._connection.getresponse()
        text = reply.read().decode()
        return json.loads(text)["predictions"][0] if reply.status == 200 else f"{reply.status} {text}"

    def again(self) -> None:
        """Called after a failure: the next request opens a new connection."""
        self._connection.close()


class GrpcClient:
    """The same as ``RestClient``, through PredictionService."""

    def __init__(self, server: Server) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        self._call = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            message_class("tensorflow.serving.PredictRequest").SerializeToString,
            message_class("tensorflow.serving.PredictResponse").FromString,
        )
        self._requests = itertools.cycle([_request(""), _request("stable")])

    def __call__(self) -> object:
        """Returns the prediction."""
        reply = self._call(next(self._requests), timeout=30)
        return reply.outputs["y"].float_val[0]

    def again(self) -> None:
        """Called after a failure: the channel reconnects on its own."""


def _request(label: str) -> Any:
    request = message_class("tensorflow.serving.PredictRequest")()
    request.model_spec.name = NAME
    if label:
        request.model_spec.version_label = label
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=1)
    tensor.float_val.append(X)
    return request


def ask_until(done: threading.Event, client: RestClient | GrpcClient, protocol: str, tally: Tally) -> None:
    """Runs one client, which asks without a pause until ``done``."""
    while not done.is_set():
        try:
            got = client()
        except (OSError, http.client.HTTPException, grpc.RpcError, ValueError) as error:
            got = f"{type(error).__name__}: {error}"
            client.again()
        tally.note(protocol, got)


@contextmanager
def clients(server: Server, count: int, tally: Tally) -> Iterator[None]:
    """Runs ``count`` clients on each protocol until the block ends."""
    done = threading.Event()
    threads = [
        threading.Thread(target=ask_until, args=(done, client(server), protocol, tally), daemon=True)
        for client, protocol in ((RestClient, "REST"), (GrpcClient, "gRPC"))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(STEP_SECONDS)


class Operator:
    """Adds and removes versions, moves the label, and reloads configurations by file and by request."""

    def __init__(self, model: Path, folder: Path) -> None:
        self._source = max(
            (one for one in model.iterdir() if one.name.isdigit()), key=lambda one: int(one.name)
        )
        self.base = folder / NAME
        self.base.mkdir()
        self._file = folder / "models.config"
        self.version = 1
        self.reloads = 0
        self.add(1)
        self.write_config(1)

    @property
    def config(self) -> Path:
        """The model config file."""
        return self._file

    def add(self, version: int) -> None:
        """Adds a version that appears at once and complete."""
        half_done = self.base / "copying"
        shutil.copytree(self._source, half_done)
        half_done.rename(self.base / str(version))

    def write_config(self, stable: int) -> None:
        """Replaces the config file by one with the label on ``stable``."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(self._config_text(stable))
        fresh.replace(self._file)

    def _config_text(self, stable: int) -> str:
        return (
            f'model_config_list {{ config {{ name: "{NAME}" base_path: "{self.base}" '
            'model_platform: "tensorflow" model_version_policy { all {} } '
            f'version_labels {{ key: "stable" value: {stable} }} }} }}\n'
        )

    def turn(self, server: Server) -> None:
        """Adds a version, moves the label to it, removes the old version."""
        old, self.version = self.version, self.version + 1
        self.add(self.version)
        wait(lambda: states(server).get(self.version) == "AVAILABLE", f"version {self.version} to serve")
        if self.version % 2:
            self.reload_by_request(server)
        self.write_config(self.version)
        wait(lambda: label_is_on(server, self.version), f"the label to be on {self.version}")
        self.reloads += 1
        shutil.rmtree(self.base / str(old))
        wait(lambda: states(server).get(old) == "END", f"version {old} to be unloaded")

    def reload_by_request(self, server: Server) -> None:
        """Sends HandleReloadConfigRequest with the next content of the file."""
        from google.protobuf import text_format

        from servable.messages import pool

        request = message_class("tensorflow.serving.ReloadConfigRequest")()
        text_format.Parse(self._config_text(self.version), request.config, descriptor_pool=pool())
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            call = channel.unary_unary(
                "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
                type(request).SerializeToString,
                message_class("tensorflow.serving.ReloadConfigResponse").FromString,
            )
            status = call(request, timeout=STEP_SECONDS).status
        if status.error_code:
            raise SystemExit(f"a reload was refused: {status.error_message}")
        self.reloads += 1


def get(server: Server, path: str) -> Any:
    """Sends one GET to the REST API."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    connection.request("GET", path)
    fields = json.loads(connection.getresponse().read())
    connection.close()
    return fields


def states(server: Server) -> dict[int, str]:
    """Returns version → state."""
    listed = get(server, f"/v1/models/{NAME}").get("model_version_status", [])
    return {int(one["version"]): one["state"] for one in listed}


def label_is_on(server: Server, version: int) -> bool:
    """Returns whether ``stable`` leads to ``version``."""
    spec = get(server, f"/v1/models/{NAME}/labels/stable/metadata").get("model_spec", {})
    return bool(spec.get("version") == str(version))


def wait(condition: Callable[[], bool], what: str) -> None:
    """Polls every 20 ms; ends the soak if ``condition`` does not come true in time."""
    deadline = time.monotonic() + STEP_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {STEP_SECONDS:g} s in vain for {what}")
        time.sleep(0.02)


def main() -> int:
    """Runs the soak; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=2, help="over each protocol")
    parser.add_argument(
        "--model", type=Path, default=MODEL, help="folder of versions; x float[-1] → y = x/2 + 2"
    )
    parser.add_argument("--batching", action="store_true", help="run requests of several clients as one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        operator = Operator(given.model, Path(folder))
        server = Server(operator.config, given.batching)
        try:
            return soak(server, operator, given.seconds, given.clients)
        finally:
            server.process.kill()
            server.process.wait()


def soak(server: Server, operator: Operator, seconds: float, count: int) -> int:
    """Repeats turns until the time is up, then stops the server; returns the exit status."""
    tally = Tally()
    deadline = time.monotonic() + seconds
    resident: list[float] = []
    with clients(server, count, tally):
        while time.monotonic() < deadline:
            operator.turn(server)
            resident.append(server.resident_megabytes())
    left = {version: state for version, state in states(server).items() if state != "END"}
    server.process.send_signal(signal.SIGTERM)
    status = server.process.wait(STEP_SECONDS)
    report(tally, operator, resident)
    fine = not tally.failed and left == {operator.version: "AVAILABLE"} and status == 0
    if not fine:
        print(f"left: {left}, exit status {status}")
        print("\n".join(tally.failures[:10]))
    return 0 if fine else 1


def report(tally: Tally, operator: Operator, resident: list[float]) -> None:
    """Prints the summary."""
    answers = ", ".join(f"{count} by {protocol}" for protocol, count in sorted(tally.answers.items()))
    print(f"answered: {answers}; failed: {tally.failed}")
    print(f"versions that came and went: {operator.version - 1}; reloads: {operator.reloads}")
    print(f"resident: {resident[0]:.0f} MB after the first turn, {resident[-1]:.0f} MB after the last")


if __name__ == "__main__":
    sys.exit(main())
