"""Runs jobs of ``keras_export.py`` in a process of their own, with the installed Keras and TensorFlow.

Neither is imported here: whether they are installed, and in which version, their folders tell.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import IO, Any

from servable import installing
from servable.errors import NOT_WANTED, CancelledError, StatusError

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from servable.engines.keras_export import main; main()"
)
WAKE_SECONDS = 0.2
"""Interval at which a job is asked whether it goes on."""
LONGEST_SECONDS = 3600.0
"""Time that a job may take: the largest models take minutes."""
LAST_SECONDS = 5.0
"""Time for a process that has closed its output to end by itself, so that its status is known."""
SHOWN_LINES = 15
"""Last lines of a failed job's standard error that are kept."""
MOST_SHOWN = 1 << 16
"""Bytes of these, about."""
ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "1"}
"""Keras has to run on TensorFlow, and the GPU's memory is the server's."""
_DISTRIBUTIONS = {
    "keras": ("keras", "keras-nightly"),
    "tf_keras": ("tf_keras", "tf-keras-nightly"),
    "tensorflow": (
        "tensorflow",
        "tensorflow-cpu",
        "tensorflow-intel",
        "tensorflow-macos",
        "tensorflow-rocm",
        "tf-nightly",
        "tf-nightly-cpu",
    ),
}


def versions() -> dict[str, str]:
    """Returns the installed ones of ``keras``, ``tf_keras`` and ``tensorflow`` with their versions."""
    return {name: _version(name) for name in _DISTRIBUTIONS if _is_installed(name)}


def _is_installed(package: str) -> bool:
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        return False
    # A folder without ``__init__.py`` is what an uninstalled package leaves behind.
    return found is not None and found.origin is not None


def _version(package: str) -> str:
    for name in _DISTRIBUTIONS[package]:
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "of unknown version"


def missing(wanted: tuple[str, ...]) -> StatusError | None:
    """Returns the error of a job that needs packages which are not installed; None if all of them are."""
    titles = {"keras": "Keras", "tensorflow": "TensorFlow's Python package"}
    absent = [titles[name] for name in wanted if name not in versions()]
    if not absent:
        return None
    if installing.is_image():
        advice = (
            "call model.export(FOLDER) where the model was made and serve that folder, or "
            f"{installing.engine('keras')}"
        )
    else:
        advice = f"{installing.engine('tensorflow')} (Keras comes with TensorFlow)"
    return StatusError(
        "FAILED_PRECONDITION",
        f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed in {sys.prefix}",
        advice,
    )


@dataclass(frozen=True)
class Job:
    """What to do: ``convert`` or ``heal`` the model at ``source`` into the new folder ``target``."""

    kind: str
    source: str
    target: str


class ExportProcess:
    """Runs jobs, each in a process; see ``keras_export.py``.

    command: the beginning of its command line, which the job follows.
    """

    def __init__(self, command: tuple[str, ...] | None = None) -> None:
        self._command = command

    def run(self, job: Job, stopped: threading.Event, say: Callable[[str, float], None]) -> dict[str, Any]:
        """Returns the job's result. Raises ``StatusError``, with what was printed if nothing says it better.

        stopped: ends the job, with CANCELLED; so does its time limit, with DEADLINE_EXCEEDED. say: called
        again and again, with the phase and the seconds since the begin.
        """
        # Where the result goes can be written; in a container with a read-only root perhaps nothing else.
        with tempfile.TemporaryFile(dir=os.path.dirname(job.target) or None) as printed:
            process = self._started(job, printed)
            try:
                message = _followed(process, stopped, say)
            finally:
                _end(process)
            if "result" in message:
                return dict(message["result"])
            if "code" in message:
                hint = str(message["hint"])
                text = str(message["message"])
                if message["code"] == "UNKNOWN":
                    text += _last_lines(printed)
                raise StatusError(str(message["code"]), text, hint)
            raise _crashed(process.returncode, _last_lines(printed))

    def _started(self, job: Job, printed: IO[bytes]) -> subprocess.Popen[bytes]:
        # Isolated, and without "": no module is read from the current folder, which holds what it likes.
        path = json.dumps([one for one in sys.path if one])
        command = self._command or (sys.executable, "-I", "-c", PROGRAM, path)
        fields = {"kind": job.kind, "source": job.source, "target": job.target}
        try:
            return subprocess.Popen(
                [*command, json.dumps(fields)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                env=_without_secrets(os.environ) | ENVIRONMENT | _temporary_files(job.target),
                # A Ctrl-C is for the server, which ends this process.
                start_new_session=True,
            )
        except OSError as error:
            raise StatusError("INTERNAL", f"{command[0]} cannot be started: {error.strerror}") from None


_SECRETS = re.compile("TOKEN|SECRET|PASSWORD|CREDENTIAL|_KEY|^AWS_|^AZURE_|^GOOGLE_")


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns what the process that reads a foreign file may know of the server's environment."""
    return {name: value for name, value in environment.items() if not _SECRETS.search(name)}


def _temporary_files(target: str) -> dict[str, str]:
    """Returns the variable that has temporary files written beside the result."""
    folder = os.path.dirname(target)
    return {"TMPDIR": folder} if folder else {}


def _followed(
    process: subprocess.Popen[bytes], stopped: threading.Event, say: Callable[[str, float], None]
) -> Mapping[str, Any]:
    """Returns the last message of the process: its result, or why there is none; {} if it sent neither."""
    messages: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=_read, args=(process.stdout, messages), name="export", daemon=True).start()
    begun, phase = time.monotonic(), "Python is being started"
    while not stopped.is_set():
        seconds = time.monotonic() - begun
        say(phase, seconds)
        if seconds >= LONGEST_SECONDS:
            raise StatusError("DEADLINE_EXCEEDED", f"it took more than {LONGEST_SECONDS:g} s: {phase}")
        with suppress(queue.Empty):
            message = messages.get(timeout=WAKE_SECONDS)
            if message is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LAST_SECONDS)
                return {}
            if "phase" not in message:
                return message
            phase = str(message["phase"])
    raise CancelledError("CANCELLED", NOT_WANTED)


def _read(lines: IO[bytes], messages: queue.Queue[Mapping[str, Any] | None]) -> None:
    with lines:
        for line in lines:
            with suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    messages.put(message)
    messages.put(None)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and what it started. One that has sent its result has nothing left to do."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    process.wait()


def _last_lines(printed: IO[bytes]) -> str:
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - MOST_SHOWN))
    lines = printed.read().decode("utf-8", "replace").rstrip().splitlines()
    return "".join(f"\n{line}" for line in lines[-SHOWN_LINES:])


def _crashed(status: int, printed: str) -> StatusError:
    if status == -signal.SIGKILL:
        return StatusError("ABORTED", "the process was killed, perhaps for want of memory" + printed)
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    return StatusError("ABORTED", f"the process ended {how}{printed}")
