"""``servable bench`` on servers that answer as told: the Open Inference Protocol's, and those that fail."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc_stub
import pytest
from http_stub import HANG_UP, METADATA, SILENCE, HttpStub, answering

from servable.bench import running
from servable.bench.messages_v2 import v2_message
from servable.bench.plan import CorePlan, CoreTarget
from servable.bench.sample import Sample
from servable.cli import bench as command
from servable.cli.bench import bench
from servable.errors import ServableError

ONCE: Sequence[str] = ("--requests=20", "--warm-up=0", "--concurrency=2")
GOOD = (200, b'{"predictions": [3.0]}')
BUSY = (503, b'{"error": "too many requests"}')
V2_METADATA = {
    "name": "m",
    "versions": ["1"],
    "platform": "any",
    "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
    ],
    "outputs": [],
}


def model(stub: HttpStub, protocol: str = "v1") -> str:
    return f"{stub.address}/{protocol}/models/m"


def failures(path: Path) -> dict[str, int]:
    """Returns the failures that a JSON file tells: by kind, with its status or code."""
    found: dict[str, int] = {}
    for sample in json.loads(path.read_text())["samples"]:
        for one in sample["all"]["failures"]:
            kind = f"{one['kind']} {one['number']}".removesuffix(" 0")
            found[kind] = found.get(kind, 0) + one["count"]
    return found


def test_a_load_on_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with answering((200, METADATA), GOOD) as stub:
        files = [f"--json={tmp_path / 'a.json'}", f"--csv={tmp_path / 'a.csv'}"]
        assert bench([model(stub), "--requests=20", "--warm_up=0", "--concurrency=1,3", *files]) == 0
    out = capsys.readouterr()
    lines = out.out.splitlines()
    assert lines[0] == f"m at {stub.address}"
    assert [line.split("  ")[0] for line in lines[2:5]] == ["load", "1 caller", "3 callers"]
    assert "\x1b" not in out.err, "nobody looks"
    assert [(method, path) for method, path, _, _ in stub.requests[:2]] == [
        ("GET", "/v1/models/m/metadata"),
        ("POST", "/v1/models/m:predict"),
    ]
    assert len(stub.requests) == 2 + 40
    assert json.loads(stub.requests[-1][3]).keys() == {"instances"}
    assert len({body for _, _, _, body in stub.requests[2:]}) == 8, "requests vary"
    record = json.loads((tmp_path / "a.json").read_text())
    assert [one["requests"] for one in record["samples"]] == [20, 20]
    assert record["samples"][0]["server"]["resident"] > 0, "this very process listens there"
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [(row["concurrency"], row["failed"]) for row in rows] == [("1", "0"), ("3", "0")]


def test_an_open_loop_tells_how_late_it_was(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with answering((200, METADATA), GOOD) as stub:
        path = tmp_path / "a.json"
        rate = ["--rate=400,800", "--arrivals=poisson"]
        assert bench([model(stub), *rate, "--requests=40", "--warm-up=0", f"--json={path}"]) == 0
    assert "late p99 ms" in capsys.readouterr().out
    samples = json.loads(path.read_text())["samples"]
    assert [(one["rate"], one["lag"]["count"]) for one in samples] == [(400.0, 40), (800.0, 40)]


def test_several_models_are_asked_by_weight(tmp_path: Path) -> None:
    with answering((200, METADATA), GOOD, (200, METADATA), GOOD) as stub:
        path = tmp_path / "a.json"
        models = ["--model=a=3", "--model=b/versions/2"]
        command = [
            stub.address,
            *models,
            "--requests=200",
            "--warm-up=0",
            "--concurrency=2",
            f"--json={path}",
        ]
        assert bench(command) == 0
    (sample,) = json.loads(path.read_text())["samples"]
    a, b = sample["models"]
    assert (a["name"], b["name"]) == ("a", "b/2")
    assert a["times"]["count"] + b["times"]["count"] == sample["requests"] == 200
    assert a["times"]["count"] > 2 * b["times"]["count"]
    assert "/v1/models/b/versions/2:predict" in {path for _, path, _, _ in stub.requests}


def test_json_holds_no_pictures() -> None:
    with answering((200, V2_METADATA), (200, b"{}")) as stub:
        assert bench([model(stub, "v2"), *ONCE, "--json-tensors"]) == 1


def test_the_open_inference_protocol_over_rest() -> None:
    with answering((200, V2_METADATA), (200, b"{}")) as stub:
        assert bench([model(stub, "v2"), *ONCE, "--batch=3"]) == 0
    (method, path, _, _), (_, infer, headers, body) = stub.requests[0], stub.requests[-1]
    assert (method, path, infer) == ("GET", "/v2/models/m", "/v2/models/m/infer")
    head = json.loads(
        body[: int({k.lower(): v for k, v in headers.items()}["inference-header-content-length"])]
    )
    assert [one["shape"] for one in head["inputs"]] == [[3, 2], [3]]
    assert body.count(b"JFIF") == 3, "a picture for each string"


def test_the_open_inference_protocol_over_grpc(tmp_path: Path) -> None:
    asked: list[bytes] = []

    def reply(method: str, request: bytes, context: Any) -> bytes:
        if method == "ModelMetadata":
            answer = v2_message("ModelMetadataResponse")(name="m")
            answer.inputs.add(name="x", datatype="INT64", shape=[-1, 2])
            return bytes(answer.SerializeToString())
        asked.append(request)
        if len(asked) > 11:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough of it")
        return b"\x0a\x01m"

    with grpc_stub.answering(reply) as stub:
        path = tmp_path / "a.json"
        status = bench([f"{stub.address}/m", "--protocol=v2", *ONCE, f"--json={path}"])
    assert status == 3
    assert failures(path) == {"code 8": 10}
    request = v2_message("ModelInferRequest").FromString(asked[0])
    assert (request.model_name, list(request.inputs[0].shape), len(request.raw_input_contents[0])) == (
        "m",
        [1, 2],
        16,
    )


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(BUSY, "status 503"), (HANG_UP, "lost"), (SILENCE, "timeout")],
    ids=["refuses", "hangs up", "is silent"],
)
@pytest.mark.parametrize("load", [["--concurrency=2"], ["--rate=500"]], ids=["closed", "open"])
def test_failures_are_counted_by_kind(
    reply: tuple[int, bytes], kind: str, load: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering((200, METADATA), GOOD, GOOD, GOOD, reply) as stub:
        path = tmp_path / "a.json"
        options = ["--requests=12", "--warm-up=0", "--timeout=250ms", f"--json={path}", *load]
        assert bench([model(stub), *options]) == 3
    found = failures(path)
    assert found[kind] >= 8 and sum(found.values()) <= 12, found
    assert " times " in capsys.readouterr().out


def test_what_cannot_be_sent_is_counted(tmp_path: Path) -> None:
    with answering((200, METADATA), GOOD, SILENCE) as stub:
        path = tmp_path / "a.json"
        options = ["--rate=2000", "--max-outstanding=4", "--requests=40", "--warm-up=0", "--timeout=2s"]
        assert bench([model(stub), *options, f"--json={path}"]) == 3
    assert failures(path)["unsent"] >= 30
    assert sum(failures(path).values()) == 40


def test_a_server_that_goes_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running.run, "__defaults__", (0.3,))
    with answering((200, METADATA), GOOD, HANG_UP) as stub:
        assert bench([model(stub), "--warm-up=0", "--duration=10m", "--concurrency=2"]) == 1
    out = capsys.readouterr()
    assert "no request was answered for 0.3 s: connection lost" in out.err
    assert "2 callers" in out.out, "what was measured is shown"


def test_no_server_no_model_no_metadata(capsys: pytest.CaptureFixture[str]) -> None:
    def said(url: str, *more: str) -> str:
        assert bench([url, *ONCE, *more]) == 1
        return capsys.readouterr().err

    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert "no connection" in said(f"http://127.0.0.1:{port}/v1/models/m")
    assert "no connection" in said(f"grpc://127.0.0.1:{port}/m")
    assert "no connection" in said(f"https://127.0.0.1:{port}/v1/models/m")
    with answering((404, {"error": "Servable not found"})) as stub:
        assert "HTTP 404: " in said(model(stub)) and "Servable not found" in said(model(stub))
    for content in (
        b"<html>",
        b"[]",
        b'{"metadata": 1}',
        b'{"metadata": {"signature_def": {"signature_def": []}}}',
    ):
        with answering((200, content)) as stub:
            assert "metadata of m cannot be used" in said(model(stub)), content
    with answering((200, b'{"inputs": [{"name": "x", "datatype": "FP7", "shape": [1]}]}')) as stub:
        assert "metadata of m cannot be used" in said(model(stub, "v2"))
    with answering((200, METADATA), GOOD) as stub:
        assert "no signature other; there are: serving_default" in said(model(stub), "--signature=other")
    with answering((200, METADATA), (400, b"wrong shape")) as stub:
        assert "refuses a request made up for m" in said(model(stub))
    with answering((200, METADATA), SILENCE) as stub:
        assert "timeout" in said(model(stub), "--timeout=200ms")
    with answering((200, METADATA), GOOD) as stub:
        assert bench([model(stub), "--shape=y=1"]) == 2
        assert "it has: x" in capsys.readouterr().err
    with answering((200, METADATA), GOOD) as stub:
        for path, why in (("/no/such/folder/a.json", "its folder is not there"), ("/dev", "it is a folder")):
            assert f"{path} cannot be written: {why}" in said(model(stub), f"--json={path}")


def test_two_servers_are_compared_by_turns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with answering((200, METADATA), GOOD) as one, answering((200, METADATA), GOOD) as other:
        path = tmp_path / "a.json"
        options = ["--rounds=3", "--requests=10", "--warm-up=0", "--concurrency=1", f"--json={path}"]
        assert bench(["compare", model(one), model(other), *options, f"--csv={tmp_path / 'a.csv'}"]) == 0
        assert (len(one.requests), len(other.requests)) == (32, 32)
    out = capsys.readouterr().out
    assert f"A: m at {one.address}" in out and "3 rounds by turns" in out and "B over A" in out
    record = json.loads(path.read_text())
    assert record["ratios"]["p50 ms"]["mean"] > 0
    assert record["ratios"]["p50 ms"]["low"] is None, "too few rounds"
    assert [len(samples) for samples in record["samples"]] == [3, 3]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 7


@pytest.mark.parametrize("after", [0, 5])
def test_a_server_that_goes_away_ends_a_comparison_which_is_told(
    after: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load, loads = command._Bench.load, []

    def going(*arguments: Any) -> Sample:
        loads.append(load(*arguments))
        if len(loads) > after:
            raise running.GoneError("no request was answered for 5 s", loads[-1])
        return loads[-1]

    monkeypatch.setattr(command._Bench, "load", going)
    with answering((200, METADATA), GOOD) as one, answering((200, METADATA), GOOD) as other:
        options = ["--rounds=9", "--requests=10", "--warm-up=0", "--concurrency=1"]
        assert bench(["compare", model(one), model(other), *options]) == 1
    out = capsys.readouterr()
    who = other if after else one
    assert f"servable bench: m at {who.address}: no request was answered for 5 s" in out.err
    assert out.out.count(f"A: m at {one.address}") == out.out.count(f"B: m at {other.address}") == 1
    assert ("2 rounds by turns" in out.out) == bool(after)
    head, _, unfinished = out.out.partition(f"round {after // 2 + 1}, unfinished:\n")
    rows = [line[0] for line in unfinished.splitlines() if line.startswith(("A  ", "B  "))]
    assert head and rows == ["A", "B"][: after + 1]


def test_the_highest_rate_within_an_aim_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with answering((200, METADATA), GOOD) as stub:
        # Nothing takes a minute: rates rise until some requests cannot be sent.
        options = ["--find-rate", "--p50=1m", "--rate=50", "--requests=5", "--warm-up=0", "--precision=1"]
        assert bench([model(stub), *options, "--max-outstanding=2", "--timeout=5"]) == 0
    assert "highest rate within p50 of 60,000 ms: " in capsys.readouterr().out
    with answering((200, METADATA), GOOD) as stub:
        options = ["--find-rate", "--p99=1ms", "--rate=0.4", "--requests=1", "--warm-up=0", "--timeout=50ms"]
        stub.replies[-1:] = [GOOD, SILENCE]
        assert bench([model(stub), *options]) == 1
    assert "no rate down to" in capsys.readouterr().err


def test_ctrl_c_shows_what_was_measured() -> None:
    with answering((200, METADATA), GOOD) as stub:
        command = [sys.executable, "-m", "servable", "bench", model(stub), "--warm-up=0", "--duration=10m"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            while len(stub.requests) < 20:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.02)
            os.kill(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert "1 caller: interrupted after" in out


def test_ctrl_c_shows_the_rounds_that_were_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load, loads = command._Bench.load, []

    def interrupted(self: command._Bench, *arguments: Any) -> Sample:
        loads.append(arguments)
        return replace(load(self, *arguments), interrupted=len(loads) == 6)

    monkeypatch.setattr(command._Bench, "load", interrupted)
    options = ["--rounds=9", "--requests=10", "--warm-up=0", "--concurrency=1"]
    with answering((200, METADATA), GOOD) as one, answering((200, METADATA), GOOD) as other:
        assert bench(["compare", model(one), model(other), *options]) == 130
    out = capsys.readouterr()
    assert "2 rounds by turns" in out.out
    assert "interrupted after 2 of 9 rounds" in out.err


def test_ctrl_c_shows_the_first_load_of_a_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = command._Bench.load
    monkeypatch.setattr(
        command._Bench, "load", lambda *arguments: replace(load(*arguments), interrupted=True)
    )
    with answering((200, METADATA), GOOD) as stub:
        assert bench([model(stub), "--find-rate", "--p99=1s", "--requests=50", "--warm-up=0"]) == 130
    assert "16 callers: interrupted after" in capsys.readouterr().out


def test_headers_of_the_command_replace_those_of_requests(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b'{"instances": [1.0]}')
    with answering(GOOD) as stub:
        given = ["--header=content-TYPE: text/x", f"--body={body}"]
        assert bench([model(stub), *ONCE, *given]) == 0
    for _, _, headers, _ in stub.requests:
        named = [(name.lower(), value) for name, value in headers.items()]
        assert [value for name, value in named if name == "content-type"] == ["text/x"], named


def test_a_load_that_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks:
        def __init__(self, plan: object) -> None: ...

        def wait_measuring(self, limit: float) -> bool:
            return True

        wait = wait_measuring

        def outcome(self) -> None:
            raise running._core.CoreError(13, "a thread of the load has panicked")

    monkeypatch.setattr(running._core, "BenchRun", Breaks)
    with pytest.raises(ServableError, match="has panicked"):
        running.run(CorePlan(CoreTarget(False, "h", 1), ()), (), lambda *_: None)
