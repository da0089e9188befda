"""A server behind a front: it can be killed, stopped and started again at its ports."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from conftest import START_SECONDS, Served
from servers import MODELS

FLAGS = ("--trusted_proxies=127.0.0.1", "--drain_delay_seconds=4")
LOGS = ("--access_log=all", "--log_format=json")


class Behind:
    """A server with the same model under each of ``names``; ``start`` starts it again at its ports.

    log: whether it logs every request, to ``access_log``.
    """

    def __init__(self, access_log: Path, *names: str, log: bool = True) -> None:
        self.access_log = access_log
        self._logs = (*LOGS, f"--access_log_file={access_log}") if log else ()
        self._names = names
        self._served: Served | None = None
        self.rest_port = 0
        self.grpc_port = 0
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it serves; does nothing if it does."""
        if self._served is not None and self._served.process.poll() is None:
            return
        command = [sys.executable, "-m", "servable", "serve", *FLAGS, *self._logs]
        ports = [f"--rest_api_port={self.rest_port}", f"--port={self.grpc_port}", "--host=127.0.0.1"]
        models = [f"{name}={MODELS / 'half_plus_two'}" for name in self._names]
        process = subprocess.Popen(
            [*command, *ports, *models], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self._served = Served(process)
        self._served.wait_for_line(rf"ready: {len(models)} of {len(models)} models")
        assert self._served.rest_port and self._served.grpc_port
        self.rest_port, self.grpc_port = self._served.rest_port, self._served.grpc_port

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._served is not None
        return self._served.process.pid

    def kill(self) -> None:
        """Kills it, as a machine would that fails."""
        assert self._served is not None
        self._served.process.kill()
        self._served.process.wait(START_SECONDS)
        self._served.wait_closed()

    def stop(self) -> None:
        """Stops it as an operator would, and waits for its end; it must exit 0."""
        assert self._served is not None
        self._served.process.terminate()
        assert self._served.process.wait(START_SECONDS) == 0, self._served.log
        self._served.wait_closed()

    def counts(self, protocol: str) -> dict[str, int]:
        """Returns model → requests over the protocol (``rest``, ``grpc``) that ended well since its start."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}/metrics", timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        counts: dict[str, int] = {}
        for line in lines:
            sample = re.match(r"servable_requests_total\{(.*)\} (\S+)", line)
            labels = dict(re.findall(r'(\w+)="([^"]*)"', sample[1])) if sample else {}
            if sample and labels["model"] and (labels["outcome"], labels["protocol"]) == ("OK", protocol):
                counts[labels["model"]] = counts.get(labels["model"], 0) + int(float(sample[2]))
        return {model: count for model, count in counts.items() if count}
