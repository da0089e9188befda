"""Calls over gRPC with grpcio: one HTTP/2 connection for all threads, or for the tasks of an event loop."""

from __future__ import annotations

from typing import Any

from servable.client.packages import load
from servable.client.transport.address import Address
from servable.client.transport.connection import Connection, closed
from servable.client.transport.request import Request
from servable.errors import StatusError, invalid_argument, status_error


class GrpcTransport:
    """Sends calls and waits. Any number of threads may share one."""

    def __init__(self, address: Address, connection: Connection) -> None:
        self._grpc = load("grpc")
        self._metadata = _metadata(connection)
        options = _options(address, connection)
        if address.tls:
            credentials = _credentials(self._grpc, connection)
            self._channel = self._grpc.secure_channel(address.target, credentials, options)
        else:
            self._channel = self._grpc.insecure_channel(address.target, options)
        self._methods: dict[str, Any] = {}
        self._closed = False

    def send(self, request: Request, seconds: float | None) -> bytes:
        """Returns the reply's message. Raises ``StatusError``s."""
        method = self._methods.get(request.path)
        if method is None:
            method = self._methods[request.path] = self._channel.unary_unary(request.path)
        if self._closed:
            raise closed()
        try:
            reply: bytes = method(request.body, timeout=seconds, metadata=self._metadata)
        except self._grpc.RpcError as error:
            raise _as_status(error) from error
        return reply

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._closed = True
        self._channel.close()


class AsyncGrpcTransport:
    """Sends calls from one event loop: the one running at creation."""

    def __init__(self, address: Address, connection: Connection) -> None:
        grpc = load("grpc")
        aio = load("grpc.aio")
        self._error = aio.AioRpcError
        self._metadata = _metadata(connection)
        options = _options(address, connection)
        if address.tls:
            self._channel = aio.secure_channel(address.target, _credentials(grpc, connection), options)
        else:
            self._channel = aio.insecure_channel(address.target, options)
        self._methods: dict[str, Any] = {}

    async def send(self, request: Request, seconds: float | None) -> bytes:
        """Returns the reply's message. Raises ``StatusError``s."""
        method = self._methods.get(request.path)
        if method is None:
            method = self._methods[request.path] = self._channel.unary_unary(request.path)
        try:
            reply: bytes = await method(request.body, timeout=seconds, metadata=self._metadata)
        except self._error as error:
            raise _as_status(error) from error
        return reply

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        await self._channel.close()


def _options(address: Address, connection: Connection) -> list[tuple[str, int | str]]:
    """Returns gRPC's defaults, except for surprising ones.

    These are a limit of 4 MiB, seconds of silence after a refused connection, and the environment's proxies
    in front of a nearby server.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if connection.connect_timeout is not None:
        # Despite its name, the time allowed for one connection (gRPC's connection-backoff.md).
        options.append(("grpc.min_reconnect_backoff_ms", max(1, int(connection.connect_timeout * 1000))))
    return options


def _metadata(connection: Connection) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(_metadatum(name.lower(), value) for name, value in connection.headers.items())


def _metadatum(name: str, value: str) -> tuple[str, str | bytes]:
    """gRPC takes bytes for names that end in ``-bin``."""
    return name, value.encode() if name.endswith("-bin") and isinstance(value, str) else value


def _credentials(grpc: Any, connection: Connection) -> Any:
    tls = connection.tls
    certificate = _content("cert_file", tls.cert_file)
    key = certificate if tls.key_file is None else _content("key_file", tls.key_file)
    return grpc.ssl_channel_credentials(_content("ca_file", tls.ca_file), key, certificate)


def _content(name: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise invalid_argument(f"{name} {path} cannot be read: {said}") from None


def _as_status(error: Any) -> StatusError:
    return status_error(error.code().name, error.details() or "")
