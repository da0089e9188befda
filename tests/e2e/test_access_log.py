"""The access log: a line for each request, its identifiers, and that nothing waits for it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from clients import Stub
from conftest import Served
from servers import DROP_IN, FRIENDLY, MODELS, WITH_GRPC, run_to_its_end, serving, until
from stubs import METHODS, failure, floats_request
from wire import Wire, ask, message, predict

pytestmark = pytest.mark.needs_tensorflow

HALF = MODELS / "half_plus_two"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE_PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
JSON = "--log_format=json"
ALL = "--access_log=all"
GOOD = {"instances": [2.0]}


def to(file: Path) -> str:
    return f"--access_log_file={file}"


def lines_of(file: Path, count: int) -> list[dict[str, Any]]:
    """Returns the lines of a log in JSON once there are ``count``."""
    assert until(lambda: file.read_text().count("\n") >= count), file.read_text()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == count, lines
    return lines


def grpc_call(channel: grpc.Channel, request: Any, *metadata: tuple[str, str]) -> dict[str, str]:
    """Makes a Predict; returns the metadata of the reply."""
    service, _, _ = METHODS["Predict"]
    method = channel.unary_unary(
        f"/tensorflow.serving.{service}/Predict", type(request).SerializeToString, bytes
    )
    _, call = method.with_call(request, metadata=metadata, timeout=60)
    return {key: str(value) for key, value in call.initial_metadata()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    """A server that logs everything to a file, as JSON."""
    with serving(HALF, WITH_GRPC, ALL, JSON, to(folder / "access.log")) as served:
        yield served


@pytest.fixture
def file(folder: Path, server: Served) -> Path:
    """The log, empty."""
    path = folder / "access.log"
    path.unlink()
    ask(server, "GET", "/last", X_Request_Id="last-of-before")
    assert until(lambda: path.exists() and "last-of-before" in path.read_text())
    path.write_text("")
    return path


def test_a_rest_request_has_a_line(server: Served, file: Path) -> None:
    body = json.dumps(GOOD)
    headers = {"X_Request_Id": "id-1", "traceparent": TRACE_PARENT}
    reply = predict(server, "half_plus_two", body, **headers)
    assert reply.headers["x-request-id"] == "id-1"
    (line,) = lines_of(file, 1)
    times = {key: line.pop(key) for key in ("ms", "decode_ms", "run_ms", "encode_ms")}
    assert all(0 < time < 60_000 for time in times.values())
    assert times["ms"] >= times["run_ms"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", line.pop("time"))
    assert re.fullmatch(r"127\.0\.0\.1:\d+", line.pop("peer"))
    line.pop("queue_ms", None)
    assert line == {
        "level": "info",
        "logger": "access",
        "protocol": "rest",
        "method": "predict",
        "model": "half_plus_two",
        "version": 1,
        "signature": "serving_default",
        "status": 200,
        "code": "OK",
        "bytes_in": len(body),
        "bytes_out": len(reply.body),
        "request_id": "id-1",
        "trace_id": TRACE,
    }


def test_a_grpc_call_has_one(server: Served, file: Path) -> None:
    request = floats_request("half_plus_two", 2.0)
    with Stub(server) as stub:
        metadata = grpc_call(stub.channel, request, ("x-request-id", "id-2"), ("traceparent", TRACE_PARENT))
    assert metadata["x-request-id"] == "id-2"
    (line,) = lines_of(file, 1)
    known = {"protocol": "grpc", "method": "Predict", "model": "half_plus_two", "version": 1, "code": "OK"}
    assert line | known | {"status": 0, "request_id": "id-2", "trace_id": TRACE} == line
    assert line["bytes_in"] == request.ByteSize() and line["bytes_out"] > 0
    assert line["signature"] == "serving_default" and "path" not in line
    assert all(line[f"{phase}_ms"] > 0 for phase in ("decode", "run", "encode"))


def test_requests_that_fail_have_lines(server: Served, file: Path) -> None:
    assert predict(server, "nobody", GOOD).status == 404
    assert predict(server, "half_plus_two", '{"instances": ["secret"]}').status == 400
    assert ask(server, "GET", "/v1/models/half_plus_two?token=secret").status == 404
    assert ask(server, "POST", "/elsewhere?token=secret", "secret").status == 404
    with Stub(server) as stub:
        request = floats_request("nobody", 1.0)
        assert failure(lambda: stub.call("Predict", request))[0] == "NOT_FOUND"
    lines = lines_of(file, 5)
    assert [(line["status"], line.get("code")) for line in lines] == [
        (404, "NOT_FOUND"), (400, "INVALID_ARGUMENT"), (404, None), (404, None), (5, "NOT_FOUND"),
    ]  # fmt: skip
    assert [line.get("model") for line in lines] == ["nobody", "half_plus_two", None, None, "nobody"]
    assert [line.get("path") for line in lines[2:4]] == ["/v1/models/half_plus_two", "/elsewhere"]
    assert "secret" not in file.read_text(), "nothing of a payload, and no query"


def test_what_clients_call_things_ends_no_line(server: Served, file: Path) -> None:
    names = ["a\nb", '"},{"', "\x1b[31mred", "\u2028\u202e", "x" * 100_000]
    with Stub(server) as stub:
        for name in names:
            assert (
                failure(lambda name=name: stub.call("Predict", floats_request(name, 1.0)))[0] == "NOT_FOUND"
            )
    lines = lines_of(file, len(names))
    assert [line["model"] for line in lines] == [*names[:-1], "x" * 200]
    assert all(character.isprintable() for character in file.read_text().replace("\n", ""))


@pytest.mark.parametrize("sent", ["", "two words", "a,b", "a;b", '"a"', "<a>", "x" * 129, "${jndi:x}"])
def test_an_identifier_that_is_not_sane_is_replaced(server: Served, file: Path, sent: str) -> None:
    reply = predict(server, "half_plus_two", GOOD, X_Request_Id=sent)
    made = reply.headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert lines_of(file, 1)[0]["request_id"] == made


def test_each_request_is_given_its_own(server: Served) -> None:
    replies = [predict(server, "half_plus_two", GOOD) for _ in range(5)]
    with Stub(server) as stub:
        ids = [
            grpc_call(stub.channel, floats_request("half_plus_two", 1.0))["x-request-id"] for _ in range(5)
        ]
    assert len({*ids, *(reply.headers["x-request-id"] for reply in replies)}) == 10


def test_a_client_that_leaves_has_a_line(server: Served, file: Path) -> None:
    with Wire(server) as wire:
        wire.send(message("POST", "/v1/models/half_plus_two:predict", "{", Content_Length="100"))
    (line,) = lines_of(file, 1)
    assert line["model"] == "half_plus_two"
    assert line.get("code") == "CANCELLED" or line["status"] == 400


def test_a_file_that_was_renamed_is_followed(server: Served, file: Path) -> None:
    old = file.with_suffix(".1")
    predict(server, "half_plus_two", GOOD, X_Request_Id="before")
    lines_of(file, 1)
    file.rename(old)
    predict(server, "half_plus_two", GOOD, X_Request_Id="after")
    assert until(file.exists)
    assert (lines_of(old, 1)[0]["request_id"], lines_of(file, 1)[0]["request_id"]) == ("before", "after")
    server.process.send_signal(signal.SIGHUP)
    predict(server, "half_plus_two", GOOD, X_Request_Id="again")
    assert lines_of(file, 2)[1]["request_id"] == "again", "a hang-up does not end the server"


def test_batched_requests_tell_how_long_they_waited(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with serving(HALF, ALL, JSON, to(file), "--enable_batching") as served:
        assert predict(served, "half_plus_two", GOOD).status == 200
        (line,) = lines_of(file, 1)
        assert line["queue_ms"] > 0 and line["run_ms"] > 0
        assert line["ms"] >= line["queue_ms"] + line["run_ms"]


def test_text_is_for_people_and_errors_alone_are_few(tmp_path: Path) -> None:
    with serving(HALF, "--access_log=errors", "--access_log_file=stderr") as served:
        predict(served, "half_plus_two", GOOD)
        predict(served, "two words", GOOD)
        predict(served, "nobody", GOOD, X_Request_Id="x")
        served.wait_for_line("request_id=x")
        lines = [line for line in served.lines if " I access: " in line]
    assert len([line for line in lines if "model=" in line]) == 1, lines
    assert "method=predict model=nobody status=404 code=NOT_FOUND" in lines[-1]


def test_none_of_the_requests_is_a_share_too(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with serving(HALF, ALL, "--access_log_sample=0", to(file)) as served:
        assert predict(served, "half_plus_two", GOOD).status == 200
    assert file.read_text() == ""


def test_what_is_logged_last_is_written(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with serving(HALF, ALL, JSON, to(file)) as served:
        for _ in range(50):
            predict(served, "half_plus_two", GOOD)
    assert len(file.read_text().splitlines()) == 50


def test_a_reader_that_stands_still_holds_no_request_up(tmp_path: Path) -> None:
    """What it misses is told once it reads again."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    one = message("POST", "/v1/models/half_plus_two:predict", json.dumps(GOOD))
    asked, text = 500, ""
    try:
        with serving(HALF, ALL, JSON, to(pipe)) as served:
            with Wire(served) as wire:
                for _ in range(asked):
                    assert wire.send(one).reply().status == 200
            served.wait_for_line("lines of the access log are lost")

            def all_told() -> bool:
                nonlocal text
                predict(served, "half_plus_two", GOOD, X_Request_Id="later")
                text += _drained(reader)
                lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
                earlier = sum(line.get("request_id", "later") != "later" for line in lines)
                dropped = sum(line.get("dropped", 0) for line in lines)
                return dropped > 0 and earlier + dropped >= asked

            assert until(all_told), text
    finally:
        os.close(reader)
    assert all(line.startswith('{"time":') for line in text.splitlines()), "a torn line ends where it is torn"


def _drained(reader: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(reader, 1 << 16)
        except BlockingIOError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def test_only_identifiers_that_clients_sent_are_returned_without_a_log() -> None:
    with serving(HALF, WITH_GRPC) as served, Stub(served) as stub:
        assert "x-request-id" not in predict(served, "half_plus_two", GOOD).headers
        assert predict(served, "half_plus_two", GOOD, X_Request_Id="a/b").headers["x-request-id"] == "a/b"
        assert "x-request-id" not in predict(served, "half_plus_two", GOOD, X_Request_Id="a b").headers
        request = floats_request("half_plus_two", 1.0)
        assert "x-request-id" not in grpc_call(stub.channel, request)
        assert grpc_call(stub.channel, request, ("x-request-id", "c"))["x-request-id"] == "c"
        assert predict(served, "nobody", GOOD, X_Request_Id="d").headers["x-request-id"] == "d"


def test_of_requests_that_are_not_logged_no_identifiers_are_made(tmp_path: Path) -> None:
    """Those that clients sent are returned all the same."""
    file = tmp_path / "access.log"
    for ids, made in (("auto", False), ("all", True)):
        flags = ALL, JSON, to(file), "--access_log_sample=0", f"--request_ids={ids}"
        with serving(HALF, WITH_GRPC, *flags) as served, Stub(served) as stub:
            request = floats_request("half_plus_two", 1.0)
            assert ("x-request-id" in predict(served, "half_plus_two", GOOD).headers) == made
            assert ("x-request-id" in grpc_call(stub.channel, request)) == made
            assert predict(served, "half_plus_two", GOOD, X_Request_Id="a").headers["x-request-id"] == "a"
            assert grpc_call(stub.channel, request, ("x-request-id", "b"))["x-request-id"] == "b"
    assert not file.read_text()


def test_the_drop_in_replies_as_tensorflow_serving_unless_asked(tmp_path: Path) -> None:
    """Also over a Unix socket, whose clients have no address."""
    path, file = tmp_path / "socket", tmp_path / "access.log"
    flags = [f"--model_base_path={HALF}", "--model_name=m", f"--grpc_socket_path={path}", ALL, JSON, to(file)]
    request, sent = floats_request("m", 1.0), ("x-request-id", "x")
    for more, expected in (((), None), (("--request_ids=all",), "x")):
        with serving(*flags, *more, command=DROP_IN), grpc.insecure_channel(f"unix:{path}") as channel:
            assert grpc_call(channel, request, sent).get("x-request-id") == expected
    lines = lines_of(file, 2)
    assert [(line["request_id"], line["peer"]) for line in lines] == [("x", "unix")] * 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--access_log=all", "--access_log_file=/no/such/folder/log"], "access log cannot be written"),
        (["--access_log_sample=2"], "--access_log_sample expects a number from 0 to 1"),
        (["--access_log=some"], "--access_log expects one of off, errors, all"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(arguments: list[str], said: str) -> None:
    ended = run_to_its_end(HALF, *arguments, command=FRIENDLY)
    assert ended.returncode != 0
    assert said in ended.stdout + ended.stderr
