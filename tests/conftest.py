"""Shared by all tests: a real server on free ports, and the conditions for running some tests."""

from __future__ import annotations

import logging
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
SLOW = "SERVABLE_SLOW_TESTS"
BEGUN_FIRST = (
    # Engines are measured: beside what mostly waits.
    "e2e/test_acceleration.py",
    "e2e/test_remote.py",
    "e2e/test_faults.py",
    "e2e/test_demo.py",
    "e2e/test_keras.py",
    "e2e/test_overload.py",
    "e2e/test_embedded_processes.py",
    "e2e/test_openapi_fuzzed.py",
    "docs/test_commands.py",
    "docs/test_site.py",
    "e2e/test_notebook.py",
    "e2e/test_lifecycle.py",
    "e2e/test_lifecycle_models.py",
    "e2e/test_exporting.py",
    "e2e/test_handover.py",
    "browser/test_console.py",
    "e2e/test_prometheus.py",
    "e2e/test_formats.py",
    "e2e/test_openapi.py",
    "conformance/test_replies.py",
    "conformance/test_grpc_vectors.py",
)
"""The files that take longest, in this order: one of them that was begun last would be waited for alone."""


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers; ``needs_*`` tests are skipped with a reason if their needs are not met."""
    config.addinivalue_line("markers", "needs_shared: reads test models and recordings from ../shared")
    config.addinivalue_line("markers", "needs_tensorflow: runs models, with the built core and TensorFlow")
    config.addinivalue_line(
        "markers", f"slow: runs only with {SLOW}=1, as a target of its own in the Makefile"
    )
    # What servers cache is not the user's, and no other run of the tests finds it.
    folder = tempfile.TemporaryDirectory(prefix="servable-cache-")
    os.environ["XDG_CACHE_HOME"] = folder.name
    config.add_cleanup(folder.cleanup)


@contextmanager
def _logging_stays() -> Iterator[None]:
    loggers = [logging.getLogger(), logging.getLogger("servable")]
    before = [(one, one.handlers[:], one.level, one.propagate) for one in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture(autouse=True, scope="module")
def _logging_of_module() -> Iterator[None]:
    """Has servers in this process, and commands, leave the log to later modules as it was."""
    with _logging_stays():
        yield


@pytest.fixture(autouse=True)
def _logging_of_test() -> Iterator[None]:
    """The same for the next test."""
    with _logging_stays():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first; skips tests that cannot run here, with the reason."""
    first = {ROOT / "tests" / name: place for place, name in enumerate(BEGUN_FIRST)}
    assert all(path.is_file() for path in first), "BEGUN_FIRST names a file that is not there"
    items.sort(key=lambda item: first.get(item.path, len(first)))
    shared = None if SHARED.is_dir() else f"{SHARED} is not there"
    tensorflow = _why_no_tensorflow()
    slow = None if os.environ.get(SLOW) else f"it takes long: {SLOW}=1, or its own target in the Makefile"
    for item in items:
        if slow and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason=slow))
        if shared and item.get_closest_marker("needs_shared"):
            item.add_marker(pytest.mark.skip(reason=shared))
        if tensorflow and item.get_closest_marker("needs_tensorflow"):
            item.add_marker(pytest.mark.skip(reason=tensorflow))


def _why_no_tensorflow() -> str | None:
    from servable.engines import tensorflow_library
    from servable.errors import TensorFlowNotFoundError

    try:
        import servable._core  # noqa: F401
    except ImportError as error:
        return f"the core is not built: {error}"
    try:
        tensorflow_library.find()
    except TensorFlowNotFoundError as error:
        return str(error).splitlines()[0]
    return None


@pytest.fixture
def shared() -> Path:
    """The folder of test models and recordings; mark the test ``needs_shared``."""
    return SHARED


class Served:
    """A running server: its ports (None for a protocol that is off) and its log so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.rest_port: int | None = None
        self.grpc_port: int | None = None
        self._incoming: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def rest(self) -> str:
        """The address of REST, ``http://127.0.0.1:PORT``."""
        assert self.rest_port is not None, self.log
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc(self) -> str:
        """The address of gRPC, ``127.0.0.1:PORT``."""
        assert self.grpc_port is not None, self.log
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def log(self) -> str:
        """The log read so far."""
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """Reads the log until a line matches; fails if the server ends or falls silent first."""
        while True:
            try:
                line = self._incoming.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(f"no line with {pattern!r} in {seconds} s:\n{self.log}") from None
            if line is None:
                raise AssertionError(f"the server ended ({self.process.wait()}):\n{self.log}")
            self._note_port(line)
            found = re.search(pattern, line)
            if found:
                return found

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit status; fails if the server does not end in time."""
        self.process.terminate()
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the server did not stop in {STOP_SECONDS} s:\n{self.log}") from None
        self.wait_closed()
        return status

    def wait_closed(self) -> None:
        """Returns once the whole log of the ended server has been read."""
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                self.lines.append(line.rstrip("\n"))
                self._incoming.put(line)
        self._incoming.put(None)

    def _note_port(self, line: str) -> None:
        rest = re.search(r"Exporting HTTP/REST API at:\S+:(\d+) ", line)
        grpc = re.search(r"Running gRPC ModelServer at \S+:(\d+) ", line)
        if rest:
            self.rest_port = int(rest[1])
        if grpc:
            self.grpc_port = int(grpc[1])


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve("path/to/model", "--flag=value", …)``: a real ``servable serve`` on free ports, ready.

    Given flags override the defaults (both ports 0). After the test every server is stopped and must exit 0.
    ``ready=False`` returns at once, for servers not expected to become ready.
    """
    running: list[Served] = []

    def start(*arguments: str | Path, ready: bool = True) -> Served:
        command = [sys.executable, "-m", "servable", "serve", "--port=0", "--rest_api_port=0"]
        process = subprocess.Popen(
            [*command, *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        served = Served(process)
        running.append(served)
        if ready:
            served.wait_for_line(r"ready: \d+ of \d+ models")
        return served

    yield start
    statuses = []
    try:
        for served in running:
            if served.process.poll() is None:
                statuses.append((served, served.stop()))
    finally:
        for served in running:
            served.process.kill()
            served.process.wait()
            served.wait_closed()
    for served, status in statuses:
        assert status == 0, f"exit status {status}:\n{served.log}"
