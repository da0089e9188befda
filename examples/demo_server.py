"""A server process of the demo: started, watched until it is ready, and always stopped."""

import contextlib
import ctypes
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, TimeoutError as FutureTimeoutError
from types import TracebackType

from demo_models import DemoError

READY = re.compile(r"Exporting HTTP/REST API at:localhost:(\d+)")
ADMINISTRATION = re.compile(r"administration at (http://\S+)")
READY_TIMEOUT_SECONDS = 120
STOP_TIMEOUT_SECONDS = 60
KEPT_LINES = 20  # of a quiet server's stderr
PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent() -> None:
    """Makes the server get SIGTERM when the demo dies, even by SIGKILL.

    Called in the child before it starts.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """A `servable serve` process, for use in a `with` statement.

    It has a session of its own, so that Ctrl-C reaches only the demo, which then stops it properly. Its
    stderr is passed on unless `quiet`. Leaving the `with` block sends SIGTERM and waits; DemoError is raised
    if the server then ends with a status other than 0.
    """

    def __init__(self, command: Sequence[str], quiet: bool = False) -> None:
        self.quiet = quiet
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.administration = ""  # its URL, known when the server is ready; "" if it is off
        self.process = subprocess.Popen(
            [sys.executable, "-m", "servable", *command],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        self.ready: Future[int | None] = Future()  # the REST port; None if stderr ended without it
        self.reader = threading.Thread(target=self.pass_on_stderr, daemon=True)
        self.reader.start()

    def pass_on_stderr(self) -> None:
        """Copies the server's stderr and notes the lines with addresses."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if self.quiet:
                self.lines.append(line)
            else:
                with contextlib.suppress(OSError):  # a closed terminal must not stop the reading
                    sys.stderr.write(line)
                    sys.stderr.flush()
            administration = ADMINISTRATION.search(line)
            if administration:
                self.administration = administration[1]
            found = READY.search(line)
            if found and not self.ready.done():
                self.ready.set_result(int(found[1]))
        if not self.ready.done():
            self.ready.set_result(None)

    def rest_port(self) -> int:
        """Waits until the server is ready; raises DemoError if it ends before, or takes over two minutes."""
        try:
            port = self.ready.result(READY_TIMEOUT_SECONDS)
        except FutureTimeoutError:
            raise DemoError(f"the server was not ready after {READY_TIMEOUT_SECONDS} s") from None
        if port is None:
            status = self.process.wait()
            raise DemoError(
                f"the server ended before it was ready, with status {status}\n{''.join(self.lines)}"
            )
        return port

    def wait_for_interrupt(self) -> None:
        """Returns on Ctrl-C; raises DemoError if the server ends before."""
        try:
            status = self.process.wait()
        except KeyboardInterrupt:
            print("\nStopping.", flush=True)
            return
        raise DemoError(f"the server ended by itself, with status {status}")

    def stop(self) -> int:
        """Stops the server if it runs, and returns its exit status.

        It is killed if it takes more than a minute.
        """
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(STOP_TIMEOUT_SECONDS)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.reader.join(STOP_TIMEOUT_SECONDS)
        return status

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            status = self.stop()
        except subprocess.TimeoutExpired:
            raise DemoError(
                f"the server was killed: it did not stop within {STOP_TIMEOUT_SECONDS} s"
            ) from error
        if status != 0 and kind is None:
            raise DemoError(f"the server ended with status {status}")
