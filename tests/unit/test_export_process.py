"""The process that converts, with a program in Keras' place: messages, crashes, the end of either side."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from servable import installing
from servable.engines import export_process
from servable.engines.export_process import ExportProcess, Job
from servable.errors import StatusError

TARGET = os.path.join(tempfile.gettempdir(), "target")
HEAD = """
import json, os, sys, signal
job = json.loads(sys.argv[-1])
say = lambda **message: print(json.dumps(message), flush=True)
"""


def run(program: str, stopped: threading.Event | None = None) -> tuple[dict[str, object], list[str]]:
    phases: list[str] = []
    process = ExportProcess((sys.executable, "-c", HEAD + program))
    result = process.run(
        Job("convert", "/source", TARGET),
        stopped or threading.Event(),
        lambda phase, _: phases.append(phase),
    )
    return result, phases


def error_of(program: str) -> StatusError:
    with pytest.raises(StatusError) as caught:
        run(program)
    return caught.value


def test_a_result_and_the_phases_before_it() -> None:
    program = "say(phase='one'); print('noise', flush=True); say(phase='two'); say(result={'job': job})"
    result, phases = run(program)
    assert result == {"job": {"kind": "convert", "source": "/source", "target": TARGET}}
    assert phases[0] == "Python is being started"
    assert [one for one in dict.fromkeys(phases) if one in ("one", "two")] in (
        ["one", "two"],
        ["two"],
        ["one"],
    )


def test_it_runs_keras_on_tensorflow_without_the_gpu() -> None:
    result, _ = run("say(result=dict(os.environ))")
    assert (result["KERAS_BACKEND"], result["CUDA_VISIBLE_DEVICES"]) == ("tensorflow", "-1")


def test_only_the_folder_of_the_result_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with a read-only root there may be no folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))
    program = "import tempfile; say(result={'folder': tempfile.gettempdir()})"
    job = Job("convert", "", str(tmp_path / "model"))
    process = ExportProcess((sys.executable, "-c", HEAD + program))
    assert process.run(job, threading.Event(), lambda *_: None) == {"folder": str(tmp_path)}


def test_what_is_explained_needs_no_output() -> None:
    error = error_of(
        "print('a trace', file=sys.stderr); say(code='DATA_LOSS', message='it is damaged', hint='copy it')"
    )
    assert (error.code, error.message, error.hint) == ("DATA_LOSS", "it is damaged", "copy it")


def test_of_much_output_the_end_is_shown() -> None:
    error = error_of(
        "print('x' * 1_000_000, file=sys.stderr); print('the end', file=sys.stderr)\n"
        "say(code='UNKNOWN', message='no', hint='')"
    )
    assert error.message.endswith("\nthe end") and len(error.message) < 100_000


def test_what_is_not_explained_shows_the_last_output() -> None:
    error = error_of(
        "for line in range(100): print(f'line {line}.', file=sys.stderr)\n"
        "say(code='UNKNOWN', message='ValueError: no', hint='')"
    )
    assert error.message.startswith("ValueError: no\nline 85.\n") and error.message.endswith("line 99.")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("print('last words', file=sys.stderr); sys.exit(3)", "ended with status 3\nlast words"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed, perhaps for want of memory"),
    ],
)
def test_a_crash(program: str, words: str) -> None:
    error = error_of(program)
    assert error.code == "ABORTED" and words in error.message


def test_no_module_is_read_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("json", "errno", "h5py"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'it ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    (tmp_path / "m.keras").write_bytes(b"no model")
    with pytest.raises(StatusError, match="cannot be read as a Keras file"):
        ExportProcess().run(
            Job("convert", str(tmp_path / "m.keras"), str(tmp_path / "saved")),
            threading.Event(),
            lambda *_: None,
        )
    assert not (tmp_path / "it ran").exists()


def test_a_python_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="cannot be started"):
        ExportProcess((str(tmp_path / "python"),)).run(
            Job("convert", "", ""), threading.Event(), lambda *_: None
        )


def test_a_stop_ends_the_process_and_what_it_started(tmp_path: Path) -> None:
    """A pipe that all of them hold is closed once none is left."""
    ear, hand = os.pipe()
    os.set_inheritable(hand, True)
    program = (
        f"import subprocess; subprocess.Popen(['sleep', '600'], pass_fds=[{hand}])\n"
        "say(phase='on'); sys.stdin.read()"
    )
    stopped = threading.Event()

    def say(phase: str, seconds: float) -> None:
        if phase == "on":
            stopped.set()

    original = export_process.subprocess.Popen
    try:
        export_process.subprocess.Popen = lambda *a, **k: original(*a, **k, pass_fds=[hand])  # type: ignore[misc, assignment]
        with pytest.raises(StatusError, match="the server is stopping"):
            ExportProcess((sys.executable, "-c", HEAD + program)).run(Job("convert", "", ""), stopped, say)
    finally:
        export_process.subprocess.Popen = original  # type: ignore[misc]
        os.close(hand)
    assert os.read(ear, 1) == b""
    os.close(ear)


def test_a_job_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_process, "LONGEST_SECONDS", 0.01)
    error = error_of("say(phase='the model is being read'); sys.stdin.read()")
    assert error.code == "DEADLINE_EXCEEDED" and "it took more than 0.01 s" in error.message


def test_what_is_installed_is_known_without_an_import() -> None:
    before = set(sys.modules)
    found = export_process.versions()
    assert set(found) <= {"keras", "tf_keras", "tensorflow"}
    assert not {"keras", "tensorflow"} & (set(sys.modules) - before)


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_process, "find_spec", lambda _: None)
    error = export_process.missing(("tensorflow",))
    assert error is not None and "TensorFlow's Python package is not installed" in error.message
    assert error.hint == 'pip install "servable[cpu]" (Keras comes with TensorFlow)'
    assert export_process.missing(()) is None


def test_what_to_do_in_an_image_without_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_process, "find_spec", lambda _: None)
    monkeypatch.setattr(installing, "IMAGE_MARK", str(tmp_path / "entrypoint"))
    outside = export_process.missing(("keras", "tensorflow"))
    assert outside is not None and "image" not in outside.hint
    (tmp_path / "entrypoint").touch()
    inside = export_process.missing(("keras", "tensorflow"))
    assert inside is not None and inside.message == outside.message
    assert "model.export(FOLDER)" in inside.hint and "--build-arg ENGINES=keras" in inside.hint
