"""A small gRPC server that answers as told by a test, on a free port or a Unix socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

Reply = Callable[[str, bytes, Any], bytes]


class GrpcStub(grpc.GenericRpcHandler):
    """Answers each method with the result of ``reply`` for the request and the context."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.address = ""
        self.methods: list[str] = []
        self.stopping = threading.Event()

    def service(self, details: Any) -> Any:
        """Handles every method."""

        method = details.method.rpartition("/")[2]

        def answer(request: bytes, context: Any) -> bytes:
            self.methods.append(method)
            return self.reply(method, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)


def no_versions(method: str, request: bytes, context: Any) -> bytes:
    """Replies to ``GetModelStatus`` with no versions."""
    return b""


@contextmanager
def answering(reply: Reply, socket: Path | None = None, pem: Path | None = None) -> Iterator[GrpcStub]:
    """Runs a stub. pem: a certificate and its key, for TLS."""
    stub = GrpcStub(reply)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(4), handlers=[stub], options=options)
    where = "127.0.0.1:0" if socket is None else f"unix:{socket}"
    if pem is None:
        port, scheme = server.add_insecure_port(where), "grpc"
    else:
        credentials = grpc.ssl_server_credentials([(pem.read_bytes(), pem.read_bytes())])
        port, scheme = server.add_secure_port(where, credentials), "grpcs"
    stub.address = f"{scheme}://127.0.0.1:{port}" if socket is None else f"unix://{socket}"
    server.start()
    try:
        yield stub
    finally:
        stub.stopping.set()
        server.stop(None).wait()
