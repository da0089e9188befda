"""The file of tokens while a server runs: changes, broken files, limits; and the command that writes it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from conftest import Served
from servers import ADMIN, MODELS, WITH_GRPC, run_to_its_end, serving, until
from stubs import PATIENCE, floats_request
from tokens import TokenFile, get, grpc_call
from wire import Wire, ask, message, predict

pytestmark = pytest.mark.needs_tensorflow

HALF = "/v1/models/half_plus_two"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
GOOD = {"instances": [2.0]}


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    file = TokenFile(tmp_path / "tokens")
    file.add("good")
    return file


@pytest.fixture
def served(file: TokenFile) -> Iterator[Served]:
    with serving(MODELS / "half_plus_two", file.flag, WITH_GRPC) as served:
        yield served


def status(served: Served, token: str) -> int:
    return get(served, HALF, token).status


def logged(served: Served, text: str) -> bool:
    served.wait_for_line(text)
    return True


# ---- changes


def test_tokens_come_and_go_while_the_server_runs(served: Served, file: TokenFile) -> None:
    new = file.add("new")
    assert until(lambda: status(served, new) == 200)
    assert grpc_call(served, PREDICT, b"", new)[0] == "INVALID_ARGUMENT"
    file.lines.pop()
    file.write()
    assert until(lambda: status(served, new) == 401)
    assert status(served, file.tokens["good"]) == 200
    file.lines[-1] = file.lines[-1].replace("models=*", "models=other")
    file.write()
    assert until(lambda: status(served, file.tokens["good"]) == 403)


def test_a_watch_ends_with_its_token(served: Served, file: TokenFile) -> None:
    other = file.add("other")
    assert until(lambda: status(served, other) == 200)
    with grpc.insecure_channel(served.grpc) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")

        def watched(name: str, service: bytes) -> grpc.Call:
            metadata = [("authorization", file.bearer(name))]
            wire = b"\x0a" + bytes([len(service)]) + service if service else b""
            stream = watch(wire, metadata=metadata, timeout=PATIENCE)
            assert next(stream) == b"\x08\x01"
            return stream

        gone = [watched("other", service) for service in (b"", b"half_plus_two", b"PredictionService")]
        stays, narrowed = watched("good", b""), watched("good", b"half_plus_two")
        file.lines.pop()
        file.lines[-1] = file.lines[-1].replace("models=*", "models=x")
        file.write()
        for stream in gone:
            with pytest.raises(grpc.RpcError) as refused:
                next(stream)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as refused:
            next(narrowed)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert stays.is_active()
        stays.cancel()


def test_a_broken_file_leaves_the_tokens_in_force(served: Served, file: TokenFile) -> None:
    whole = file.path.read_text()
    for broken, said in [("", "the file is empty"), (whole + "x\n", "line 3: expected sha256:")]:
        file.path.write_text(broken)
        assert logged(served, f"stay in force: --auth_file: .*{said}")
        assert status(served, file.tokens["good"]) == 200
    file.path.unlink()
    assert logged(served, "there is no file")
    assert status(served, file.tokens["good"]) == 200
    file.path.write_text("# nobody any more\n")
    assert logged(served, "has no token")
    assert until(lambda: status(served, file.tokens["good"]) == 401)
    assert ask(served, "GET", "/readyz").status == 200


@dataclass
class Asking:
    """Clients over both protocols that show a good token and never pause; what they were told but answers."""

    served: Served
    token: str
    done: threading.Event = field(default_factory=threading.Event)
    answered: dict[str, int] = field(default_factory=lambda: {"rest": 0, "grpc": 0})
    failed: list[str] = field(default_factory=list)

    def by_rest(self) -> None:
        sent = message("POST", f"{HALF}:predict", json.dumps(GOOD), Authorization=f"Bearer {self.token}")
        with Wire(self.served) as wire:
            while not self.done.is_set():
                reply = wire.send(sent).reply()
                self.answered["rest"] += 1
                if reply.status != 200:
                    self.failed.append(reply.text)

    def by_grpc(self) -> None:
        request = floats_request("half_plus_two", 2.0).SerializeToString()
        with grpc.insecure_channel(self.served.grpc) as channel:
            method = channel.unary_unary(PREDICT)
            while not self.done.is_set():
                self.answered["grpc"] += 1
                try:
                    method(request, metadata=[("x-api-key", self.token)], timeout=PATIENCE)
                except grpc.RpcError as error:
                    self.failed.append(str(error))

    def __enter__(self) -> Asking:
        self.clients = [threading.Thread(target=one) for one in (self.by_rest, self.by_grpc)]
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        for client in self.clients:
            client.join(PATIENCE)

    def go_on(self) -> bool:
        """Waits until both have had a hundred more answers."""
        before = dict(self.answered)
        return until(lambda: all(self.answered[one] > before[one] + 100 for one in before))


def test_no_request_with_a_good_token_fails_while_the_file_is_rewritten(
    served: Served, file: TokenFile
) -> None:
    """Rewritten at once, and in two halves, many times."""
    with Asking(served, file.tokens["good"]) as asking:
        assert asking.go_on()
        pause = threading.Event()
        for turn in range(40):
            file.add(f"other-{turn}", rate="5/s")
            text = file.path.read_text()
            with file.path.open("w") as half:
                half.write(text[: len(text) // 2])
                half.flush()
                half.write(text[len(text) // 2 :])
            pause.wait(0.05)
        newest = file.tokens["other-39"]
        assert until(lambda: status(served, newest) == 200), "the last change is in force"
        assert asking.go_on()
    assert asking.failed == []


def test_a_bad_file_ends_the_start_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    for text, said in [
        (None, "there is no file"),
        ("", "the file is empty"),
        ("# a\nme sha256:x scopes=read models=*\n", "line 2: expected sha256:SALT:HASH"),
    ]:
        if text is not None:
            path.write_text(text)
        ended = run_to_its_end(MODELS / "half_plus_two", f"--auth_file={path}")
        assert ended.returncode == 1 and said in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True), (0o666, True)])
def test_a_file_that_others_may_read_is_warned_of(file: TokenFile, mode: int, warned: bool) -> None:
    file.path.chmod(mode)
    with serving(MODELS / "half_plus_two", file.flag) as served:
        assert ("chmod 600" in served.log) == warned


# ---- limits


def test_rates(served: Served, file: TokenFile) -> None:
    slow = file.add("slow", rate="3/h")
    assert until(lambda: status(served, slow) == 200)
    assert [status(served, slow) for _ in range(2)] == [200, 200]
    refused = get(served, HALF, slow)
    assert (refused.status, refused.headers["retry-after"]) == (429, "60")
    assert "rate=" in refused.error
    with grpc.insecure_channel(served.grpc) as channel, pytest.raises(grpc.RpcError) as call:
        metadata = [("authorization", f"Bearer {slow}")]
        channel.unary_unary(PREDICT)(
            floats_request("half_plus_two", 2.0).SerializeToString(), metadata=metadata
        )
    assert call.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(call.value.trailing_metadata()) == {"grpc-retry-pushback-ms": "60000"}
    assert status(served, file.tokens["good"]) == 200
    other = file.add("other")
    assert until(lambda: status(served, other) == 200)
    assert status(served, slow) == 429, "a reload gives nothing back"


def test_requests_in_flight(served: Served, file: TokenFile) -> None:
    narrow = file.add("narrow", in_flight="1")
    assert until(lambda: status(served, narrow) == 200)
    body = json.dumps(GOOD)
    with Wire(served) as wire:
        sent = message("POST", f"{HALF}:predict", body, Authorization=f"Bearer {narrow}")
        wire.send(sent[:-1])
        assert until(lambda: status(served, narrow) == 429)
        refused = predict(served, "half_plus_two", GOOD, X_API_Key=narrow)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert grpc_call(served, PREDICT, b"", narrow)[0] == "RESOURCE_EXHAUSTED"
        other = file.add("other")
        assert until(lambda: status(served, other) == 200)
        assert status(served, narrow) == 429, "counted across a reload"
        assert wire.send(sent[-1:]).reply().status == 200
    assert until(lambda: status(served, narrow) == 200)
    # A stream is in flight until it ends; so is a request whose client has left, no longer.
    with grpc.insecure_channel(served.grpc) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        stream = watch(b"", metadata=[("authorization", f"Bearer {narrow}")])
        next(stream)
        assert status(served, narrow) == 429
        stream.cancel()
    assert until(lambda: status(served, narrow) == 200)
    with Wire(served) as wire:
        wire.send(sent[:-1])
        assert until(lambda: status(served, narrow) == 429)
    assert until(lambda: status(served, narrow) == 200)


def test_limits_hold_on_the_administration(file: TokenFile) -> None:
    boss = file.add("boss", "manage", rate="1/h")
    with serving(MODELS / "half_plus_two", file.flag, ADMIN) as served:
        command = [sys.executable, "-m", "servable", "models", f"--admin_address={admin_address(served)}"]
        environment = {"SERVABLE_TOKEN": boss}
        ended = [run(command, environment) for _ in range(2)]
        assert [one.returncode for one in ended] == [0, 1]
        assert "RESOURCE_EXHAUSTED" in ended[1].stderr and "rate=" in ended[1].stderr


def admin_address(served: Served) -> str:
    (line,) = [line for line in served.lines if "administration at http://" in line]
    return line.rpartition("administration at http://")[2].removesuffix("/admin/models")


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)


# ---- the command


def test_the_command_makes_and_removes_tokens_of_a_running_server(tmp_path: Path) -> None:
    path = tmp_path / "tokens"

    def command(*arguments: str) -> str:
        ended = run([sys.executable, "-m", "servable", "token", *arguments, f"--auth_file={path}"], {})
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    first = command("new", "first").strip()
    assert path.stat().st_mode & 0o777 == 0o600
    with serving(MODELS / "half_plus_two", f"--auth_file={path}") as served:
        assert status(served, first) == 200
        second = command("new", "second", "--scopes=read", "--models=other*").strip()
        assert until(lambda: status(served, second) == 403)
        assert command("list").split()[:3] == ["NAME", "SCOPES", "MODELS"]
        command("remove", "first")
        assert until(lambda: status(served, first) == 401)
        command("remove", "second")
        assert until(lambda: status(served, second) == 401)
