"""``servable optimize`` on bad input: one line for each model, its exit status, and no endless wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from servable.cli import main, optimize
from servable.errors import StatusError


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return f"--model_cache_dir={tmp_path / 'cache'}"


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Returns the lines of standard error that are errors."""
    return [one for one in capsys.readouterr().err.splitlines() if one.startswith("servable: ")]


def made(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / kind
    path.mkdir()
    if kind == "text":
        (path / "notes.txt").write_text("nothing")
    elif kind == "keras":
        (path / "model.keras").write_bytes(b"PK")
    elif kind == "damaged":
        (path / "saved_model.pb").write_bytes(b"hello")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "NOT_FOUND: "),
        ("text", "NOT_FOUND: "),
        ("keras", "is a Keras file, which `servable serve` makes a SavedModel of"),
    ],
)
def test_what_is_no_saved_model(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str], kind: str, words: str
) -> None:
    assert main(["optimize", str(made(tmp_path, kind)), cache]) == 1
    (line,) = said(capsys)
    assert line.startswith(f"servable: {kind}: ") and words in line


def test_a_folder_that_may_not_be_read(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, listed = made(tmp_path, "closed"), os.listdir

    def refuse(one: str) -> list[str]:
        if one == str(path):
            raise PermissionError(13, "Permission denied", one)
        return listed(one)

    monkeypatch.setattr(os, "listdir", refuse)
    assert main(["optimize", str(path), cache]) == 1
    assert said(capsys) == [f"servable: closed: PERMISSION_DENIED: {path} may not be read"]


def test_a_path_that_is_not_there(tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", str(tmp_path / "gone"), cache]) == 2
    (line,) = said(capsys)
    assert "no such folder" in line


def test_a_cache_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cache").touch()
    model = made(tmp_path, "empty")
    assert main(["optimize", str(model), f"--model_cache_dir={tmp_path / 'cache'}"]) == 1
    (line,) = said(capsys)
    assert f"the cache {tmp_path / 'cache' / 'engines'} cannot be written: Not a directory" in line


def test_a_library_that_is_not_there(tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = made(tmp_path, "damaged")
    assert main(["optimize", str(path), cache, "--tensorflow_library=/none"]) == 1
    (line,) = said(capsys)
    assert "TensorFlow not found: no such file: /none" in line


def test_every_path_has_its_line(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def optimized(config: Any, name: str, base_path: str) -> dict[str, Any]:
        if name != "text":
            raise StatusError("NOT_FOUND", f"two\nlines of {name}", "advice")
        return {"serving_default": {"engine": "tensorflow", "progress": "stays", "candidates": []}}

    monkeypatch.setattr(optimize, "_optimized", optimized)
    paths = [str(made(tmp_path, kind)) for kind in ("empty", "text", "keras")]
    assert main(["optimize", *paths, cache]) == 1
    out = capsys.readouterr()
    assert "servable: empty: NOT_FOUND: two lines of empty\nhint: advice\n" in out.err
    assert "servable: keras: NOT_FOUND: two lines of keras\n" in out.err
    assert "serving_default runs in tensorflow" in out.out


def test_what_waits_for_a_request_says_how_to_make_one(
    tmp_path: Path, cache: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = {"engine": "tensorflow", "progress": "waiting", "candidates": [], "reason": "no request"}
    monkeypatch.setattr(optimize, "_optimized", lambda *_: {"serving_default": waits})
    assert main(["optimize", str(made(tmp_path, "text")), cache]) == 1
    (line,) = said(capsys)
    assert "text: serving_default waits for a request" in line and "servable warmup record" in line


def acceleration(progress: str, reason: str = "") -> Any:
    return ("serving_default", progress, "tensorflow", reason, 0, [])


def test_a_decision_is_waited_for_as_long_as_something_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimize, "POLL_SECONDS", 0.0)
    steps = iter([acceleration(one) for one in ("waiting", "waiting", "preparing", "moved")])
    times = iter([0.0, 1.0, 2.0, 2.0 + optimize.PATIENCE])
    assert optimize._decided(lambda: [next(steps)], lambda: next(times)) == [acceleration("moved")]


@pytest.mark.parametrize("progress", ["waiting", "preparing"])
def test_nothing_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch, progress: str) -> None:
    monkeypatch.setattr(optimize, "POLL_SECONDS", 0.0)
    times = iter([0.0, 1.0, optimize.PATIENCE])
    with pytest.raises(StatusError, match=f"serving_default has been {progress} for 900 s without a result"):
        optimize._decided(lambda: [acceleration(progress)], lambda: next(times))


def test_what_waits_with_a_reason_is_not_waited_for() -> None:
    known = [acceleration("waiting", "no request has come")]
    assert optimize._decided(lambda: known) == known


def test_ctrl_c_ends_it_at_once_and_says_nothing(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from servable.cli import main, optimize\n"
        "optimize._optimized = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(main(['optimize', *sys.argv[1:]]))\n"
    )
    model = made(tmp_path, "text")
    command = [sys.executable, "-c", program, str(model), f"--model_cache_dir={tmp_path / 'cache'}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")
