"""A small HTTP server that answers as told by a test, on a free port or a Unix socket."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HANG_UP = (0, b"")
"""Accept the request and close the connection."""
SILENCE = (-1, b"")
"""Accept the request and send nothing until the server is stopped."""

METADATA = {
    "model_spec": {"name": "m", "version": "1", "signature_name": ""},
    "metadata": {
        "signature_def": {
            "signature_def": {
                "serving_default": {
                    side: {
                        alias: {
                            "dtype": "DT_FLOAT",
                            "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
                            "name": f"{alias}:0",
                        }
                    }
                    for side, alias in (("inputs", "x"), ("outputs", "y"))
                }
                | {"method_name": "", "defaults": {}}
            }
        }
    },
}

OK = (200, b'{"model_version_status": []}')


class HttpStub:
    """replies: (status, body) for each request in turn, the last one for all later ones."""

    def __init__(self, replies: list[tuple[int, bytes]]) -> None:
        self.replies = replies
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0
        self.stopping = threading.Event()
        self.address = ""

    def next_reply(self) -> tuple[int, bytes]:
        """Returns the reply to the request just received."""
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: HttpStub
    disable_nagle_algorithm = False

    def setup(self) -> None:
        self.stub.connections += 1
        super().setup()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.stub.requests.append((self.command, self.path, dict(self.headers), body))
        status, content = self.stub.next_reply()
        if status <= 0:
            if status < 0:
                self.stub.stopping.wait(60)
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("unix", 0)


def _server(socket: Path | None, handler: type[_Handler]) -> Any:
    if socket is None:
        return ThreadingHTTPServer(("127.0.0.1", 0), handler)
    return _UnixServer(str(socket), handler)


@contextmanager
def answering(
    *replies: tuple[int, bytes | dict[str, Any]], socket: Path | None = None, pem: Path | None = None
) -> Iterator[HttpStub]:
    """Runs a stub; dicts become JSON. pem: a certificate and its key, for TLS."""
    ready = [
        (status, body if isinstance(body, bytes) else json.dumps(body).encode()) for status, body in replies
    ]
    stub = HttpStub(ready)
    handler = type("Handler", (_Handler,), {"stub": stub})
    server = _server(socket, handler)
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if pem is None else "https"
    port = server.server_address[1]
    stub.address = f"{scheme}://127.0.0.1:{port}" if socket is None else f"http+unix://{socket}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        stub.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
