"""Probes of a container, as a kubelet asks them."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from dataclasses import dataclass

import grpc
from kube_api import Object


@dataclass
class Probe:
    """A probe of a container at ``host``, and what its last answers mean together."""

    host: str
    container: Object
    kind: str
    passed: bool = False
    failed: bool = False
    _in_a_row: int = 0
    _next: float = 0.0

    @property
    def asked(self) -> Object | None:
        """Returns the probe as it is written; None if there is none."""
        found = self.container.get(self.kind)
        return found if isinstance(found, dict) else None

    def turn(self) -> None:
        """Asks if it is time to."""
        probe = self.asked
        if probe is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + probe.get("periodSeconds", 10)
        answered = self._answers(probe)
        same = answered == (self._in_a_row > 0)
        self._in_a_row = (1 if answered else -1) * (abs(self._in_a_row) + 1 if same else 1)
        if self._in_a_row >= probe.get("successThreshold", 1):
            self.passed, self.failed = True, False
        if -self._in_a_row >= probe.get("failureThreshold", 3):
            self.passed, self.failed = False, True

    def _answers(self, probe: Object) -> bool:
        seconds = probe.get("timeoutSeconds", 1)
        try:
            if "httpGet" in probe:
                return self._http(probe["httpGet"], seconds)
            if "tcpSocket" in probe:
                socket.create_connection((self.host, self._port(probe["tcpSocket"]["port"])), seconds).close()
                return True
            return self._grpc(probe["grpc"], seconds)
        except (OSError, http.client.HTTPException, grpc.RpcError):
            return False

    def _http(self, asked: Object, seconds: float) -> bool:
        port = self._port(asked["port"])
        connection: http.client.HTTPConnection
        if asked.get("scheme") == "HTTPS":
            # A kubelet does not verify, either.
            unverified = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection(self.host, port, timeout=seconds, context=unverified)
        else:
            connection = http.client.HTTPConnection(self.host, port, timeout=seconds)
        try:
            connection.request("GET", asked["path"], headers={"Connection": "close"})
            return 200 <= connection.getresponse().status < 400
        finally:
            connection.close()

    def _grpc(self, asked: Object, seconds: float) -> bool:
        with grpc.insecure_channel(f"{self.host}:{asked['port']}") as channel:
            # HealthCheckRequest of the whole server, and HealthCheckResponse with SERVING, as bytes.
            answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=seconds)
            return bytes(answer) == b"\x08\x01"

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        return next(int(one["containerPort"]) for one in self.container["ports"] if one.get("name") == port)
