"""The command ``servable predict``: statuses, texts, and its requests to a server."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from http_stub import METADATA, answering

from servable.cli import dispatch as cli

Capture = pytest.CaptureFixture[str]
ANSWER = (200, b'{"outputs": [2.5, 3.0]}')


def test_a_prediction(capsys: Capture) -> None:
    with answering((200, METADATA), ANSWER) as stub:
        assert cli.main(["predict", "m", "-1e3", "2", "--server", stub.address]) == 0
    assert json.loads(capsys.readouterr().out) == {"y": [2.5, 3.0]}
    assert [path for _, path, _, _ in stub.requests] == ["/v1/models/m/metadata", "/v1/models/m:predict"]
    assert json.loads(stub.requests[1][3])["inputs"] == [-1000.0, 2.0]


@pytest.mark.parametrize(
    ("choice", "path"), [(["--version", "3"], "versions/3"), (["--label=stable"], "labels/stable")]
)
def test_a_version_or_a_label(choice: list[str], path: str, capsys: Capture) -> None:
    with answering((200, METADATA), ANSWER) as stub:
        assert cli.main(["predict", "m", "1", "--server", stub.address, *choice]) == 0
    assert stub.requests[1][1] == f"/v1/models/m/{path}:predict"


def test_a_request_file_with_a_signature(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "r.json").write_text('{"signature_name": "other", "instances": [{"x": 1}]}')
    with answering((200, METADATA), (200, METADATA), ANSWER) as stub:
        argv = ["predict", "m", f"@{tmp_path}/r.json", "--server", stub.address]
        assert cli.main(argv) == 1
        assert 'Serving signature name: "other" not found' in capsys.readouterr().err
        assert cli.main([*argv, "--signature", "serving_default"]) == 0
    assert json.loads(capsys.readouterr().out) == {"y": [2.5, 3.0]}


def test_a_table(capsys: Capture) -> None:
    with answering((200, METADATA), ANSWER) as stub:
        argv = ["predict", "m", "--inputs", "x=[1, 2]", "--format=table", "--server", stub.address]
        assert cli.main(argv) == 0
    assert capsys.readouterr().out.splitlines() == ["y", "---", "2.5", "3.0"]


def test_an_error_of_the_server(capsys: Capture) -> None:
    with answering((404, {"error": "no such model"})) as stub:
        assert cli.main(["predict", "m", "1", "--server", stub.address]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "servable predict: NOT_FOUND: no such model\n"


def test_what_a_server_says_tells_the_terminal_nothing(capsys: Capture) -> None:
    with answering((404, {"error": "no \x1b[2Jsuch\x9b2J model"})) as stub:
        assert cli.main(["predict", "m", "1", "--server", stub.address]) == 1
    assert capsys.readouterr().err == "servable predict: NOT_FOUND: no \\x1b[2Jsuch\\x9b2J model\n"


def test_a_number_for_an_input_of_text(capsys: Capture) -> None:
    metadata = json.loads(json.dumps(METADATA).replace("DT_FLOAT", "DT_STRING"))
    with answering((200, metadata)) as stub:
        assert cli.main(["predict", "m", "5", "--server", stub.address]) == 1
    assert (
        """hint: to send a number as text, quote it as JSON, and that for the shell: '"5"'"""
        in capsys.readouterr().err
    )


def test_no_server(capsys: Capture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert cli.main(["predict", "m", "1", "--server", address]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith(f"servable predict: UNAVAILABLE: no answer from {address}")
    assert errors[1].startswith(f"hint: is a server at {address}? servable serve PATH starts one")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "MODEL"),
        (["m"], "expected values or --inputs"),
        (["m", "1", "--nonsense"], "--nonsense"),
        (["m", "1", "--version", "one"], "invalid int value"),
        (["m", "1", "--version", "1", "--label", "a"], "not allowed with"),
        (["m", "1", "--format", "xml"], "invalid choice"),
    ],
)
def test_wrong_command_lines(argv: list[str], words: str, capsys: Capture) -> None:
    assert cli.main(["predict", *argv]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err


def test_a_wrong_address(capsys: Capture) -> None:
    assert cli.main(["predict", "m", "1", "--server", "localhost:8501"]) == 2
    assert "expected http://host:port" in capsys.readouterr().err


def test_a_version_that_no_server_has(capsys: Capture) -> None:
    argv = ["predict", "m", "1", "--server", "grpc://localhost", "--version", str(2**63)]
    assert cli.main(argv) == 1
    assert "INVALID_ARGUMENT: version is 9223372036854775808" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["nan", "1e18"])
def test_a_time_limit_that_is_none(seconds: str, capsys: Capture) -> None:
    assert cli.main(["predict", "m", "1", "--timeout", seconds]) == 1
    assert "INVALID_ARGUMENT: timeout is" in capsys.readouterr().err


def test_no_time_limit(capsys: Capture) -> None:
    with answering((200, METADATA), ANSWER) as stub:
        assert cli.main(["predict", "m", "1", "--server", stub.address, "--timeout", "inf"]) == 0


def test_ctrl_c_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    class Interrupted(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Interrupted())))
    assert cli.main(["predict", "m", "@-"]) == 130
    assert capsys.readouterr() == ("", "")


OF_STRINGS = json.loads(json.dumps(METADATA).replace("DT_FLOAT", "DT_STRING"))
GREEK = (200, '{"outputs": ["Ωμέγα"]}'.encode())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("form", ["json", "table"])
def test_what_the_terminal_cannot_show(encoding: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stdout)
    with answering((200, OF_STRINGS), GREEK) as stub:
        assert cli.main(["predict", "m", "a", "--server", stub.address, "--format", form]) == 0
    printed = stdout.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert ("\\u03a9" in printed) == (encoding != "utf-8")
    if form == "json":
        assert json.loads(printed) == {"y": ["Ωμέγα"]}


def run(address: str, stdout: int) -> tuple[int, bytes]:
    """Runs the command as a process with this standard output; returns status and error text."""
    command = [sys.executable, "-m", "servable", "predict", "m", "1", "--server", address]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("count", [1, 100_000], ids=["within the buffer", "beyond the buffer"])
def test_a_reader_that_has_gone(count: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    answer = {"outputs": [1.5] * count}
    with answering((200, METADATA), (200, answer)) as stub:
        assert run(stub.address, writer) == (141, b"")
    os.close(writer)


def test_an_answer_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with answering((200, METADATA), ANSWER) as stub, Path("/dev/full").open("wb") as full:
        status, errors = run(stub.address, full.fileno())
    assert (status, errors) == (
        1,
        b"servable predict: the answer cannot be written: No space left on device\n",
    )
    with answering((200, METADATA), ANSWER) as stub:
        monkeypatch.setattr("sys.stdout", None)
        assert cli.main(["predict", "m", "1", "--server", stub.address]) == 1
    assert "standard output is closed" in capsys.readouterr().err


def test_help(capsys: Capture) -> None:
    assert cli.main(["predict", "--help"]) == 0
    assert "servable predict half_plus_two 1 2 5" in capsys.readouterr().out
    assert cli.main(["help"]) == 0
    assert "predict MODEL" in capsys.readouterr().out
