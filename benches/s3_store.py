"""An S3 store on this machine, moto's, that can be away for a while: a process that is stopped goes on later.

One that is away takes connections and answers nothing, which is worse than one that refuses them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""
BUCKET = "bucket"


class Store:
    """The store, with one bucket. environment: by which clients find it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        host, port = self._process.stdout.readline().split()
        self._url = f"http://{host}:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self._url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._put("", b"")

    def put_version(self, folder: Path, base: str, version: int) -> None:
        """Puts a version's files below ``s3://BUCKET/base``."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                self._put(f"/{base}/{version}/{name}", file.read_bytes())

    def leave(self) -> None:
        """Answers nothing from now on."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def come_back(self) -> None:
        """Answers again, also what has waited."""
        os.kill(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends it."""
        self.come_back()
        self._process.kill()
        self._process.wait(30)

    def _put(self, path: str, content: bytes) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"{self._url}/{BUCKET}{path}", content, headers, method="PUT")
        # The first one takes a while, as moto imports what it needs for it.
        with urllib.request.urlopen(request, timeout=120):
            pass
