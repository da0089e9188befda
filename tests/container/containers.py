"""Runs the image's root file system as ``docker run`` would: its ENTRYPOINT, ENV, USER and HEALTHCHECK.

Each container has its own network, so the contract's fixed ports cause no conflicts; requests are made from
inside that network.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rootfs import ENTER, Image

START_SECONDS = 60.0
STOP_SECONDS = 10.0
"""Seconds that ``docker stop`` waits before it kills."""

ASK = """\
import sys, urllib.error, urllib.request
url, body = sys.argv[1], sys.argv[2].encode() or None
try:
    print(urllib.request.urlopen(url, body, timeout=20).read().decode(), end="")
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode(), end="")
"""


CALL = """\
import sys, grpc
address, method, request = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
with grpc.insecure_channel(address) as channel:
    print(channel.unary_unary(method)(request, timeout=20, wait_for_ready=True).hex(), end="")
"""


class Container:
    """One running container; call ``kill`` at the end.

    arguments: those after the image's name. environment: ``-e``. volumes: host path → guest path, mounted
    read-only. user: ``--user``, else the image's. Always ``--read-only``, with nothing writable.
    """

    def __init__(
        self,
        image: Image,
        scratch: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[Path, str] | None = None,
        user: str = "",
    ) -> None:
        self._image = image
        self._environment = image.environment | dict(environment or {})
        self._user = user or image.stage.last("USER")
        scratch.mkdir()
        shown = [ENTER, image.root, "--read-only", "--scratch", scratch, "--user", self._user]
        for host, guest in (volumes or {}).items():
            shown += ["--volume", f"{host}:{guest}"]
        entrypoint = json.loads(image.stage.last("ENTRYPOINT"))
        command = [*shown, "--", "env", "-i", *self._assignments(), *entrypoint, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """Kills the rest of the container: process 1 takes every process of its namespace with it."""
        if self.running():
            for first in self._children():
                os.kill(first, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def log(self) -> str:
        """The output so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, text: str) -> None:
        """Waits for a line with ``text`` in the output; fails when the container ends, or after a minute."""
        with self._changed:
            seen = self._changed.wait_for(
                lambda: self._ended or any(text in line for line in self._lines), START_SECONDS
            )
            assert seen and any(text in line for line in self._lines), (
                f"no {text!r} in:\n{''.join(self._lines)}"
            )

    def ask(self, url: str, body: str = "") -> str:
        """Returns the answer's body, preceded by the status of an error. POST if there is a body."""
        return self._beside(ASK, url, body)

    def call(self, address: str, method: str, request: bytes) -> bytes:
        """Returns the raw reply to a gRPC call. Needs grpcio, which TensorFlow brings."""
        return bytes.fromhex(self._beside(CALL, address, method, request.hex()))

    def health(self) -> tuple[int, str]:
        """Returns exit status and output of the HEALTHCHECK, run next to the server as its user."""
        words = image_healthcheck(self._image)
        uid, gid = self._user.split(":")
        inside = ["nsenter", "--target", str(self._first()), "--all", "--root", "--wd=/"]
        drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
        done = subprocess.run(
            [*inside, *drop, "env", "-i", *self._assignments(), *words],
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout + done.stderr

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Like ``docker stop``: signals process 1 and returns the exit status, due within ten seconds."""
        os.kill(self._first(), number)
        return self.wait(STOP_SECONDS)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Returns the exit status once the container has ended on its own."""
        status = self._process.wait(seconds)
        self._reader.join()
        return status

    def running(self) -> bool:
        """Returns whether the container has not ended."""
        return self._process.poll() is None

    def _beside(self, program: str, *arguments: str) -> str:
        """Returns the output of a Python program in the container's network, with this machine's files."""
        command = ["nsenter", "--target", str(self._first()), "--net", sys.executable, "-c", program]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _first(self) -> int:
        """Returns process 1 of the container, by its number outside."""
        (first,) = self._children()
        return first

    def _children(self) -> list[int]:
        own = self._process.pid
        return [int(child) for child in Path(f"/proc/{own}/task/{own}/children").read_text().split()]

    def _assignments(self) -> list[str]:
        return [f"{name}={value}" for name, value in self._environment.items()]

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):
            for line in self._process.stdout:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def image_healthcheck(image: Image) -> list[str]:
    """Returns the command of the HEALTHCHECK."""
    words: list[str] = json.loads(image.stage.last("HEALTHCHECK").partition("CMD ")[2])
    return words
