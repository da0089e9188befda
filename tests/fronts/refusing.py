"""A server that is ready and refuses every request, as busy ones do: 503 over REST, UNAVAILABLE over gRPC."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

SERVING = b"\x08\x01"
"""A ``HealthCheckResponse``."""


@dataclass
class Refusing:
    """Where it is, and how many requests it has refused."""

    rest_port: int = 0
    grpc_port: int = 0
    rest: int = 0
    grpc: int = 0


@contextmanager
def refusing() -> Iterator[Refusing]:
    """Runs one."""
    it = Refusing()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(200)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            it.rest += 1
            self._answer(503)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    class Calls(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            if call.method.endswith("Health/Check"):
                return grpc.unary_unary_rpc_method_handler(lambda request, context: SERVING)
            return grpc.unary_unary_rpc_method_handler(self._refuse)

        def _refuse(self, request: bytes, context: grpc.ServicerContext) -> bytes:
            it.grpc += 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
            raise AssertionError  # abort does not return

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    calls = grpc.server(futures.ThreadPoolExecutor(8), handlers=(Calls(),))
    it.rest_port, it.grpc_port = web.server_address[1], calls.add_insecure_port("127.0.0.1:0")
    threading.Thread(target=web.serve_forever, daemon=True).start()
    calls.start()
    try:
        yield it
    finally:
        calls.stop(None).wait()
        web.shutdown()
        web.server_close()
