"""Chooses the transport for an address."""

from __future__ import annotations

from typing import Protocol

from servable.client.transport.address import Address
from servable.client.transport.connection import Connection, closed
from servable.client.transport.request import Request


class Transport(Protocol):
    """Carries requests; usable from any thread."""

    def send(self, request: Request, seconds: float | None) -> bytes:
        """Returns the reply's bytes. Raises ``StatusError``s only."""

    def close(self) -> None:
        """Releases the connections."""


class AsyncTransport(Protocol):
    """Carries the requests of one event loop."""

    async def send(self, request: Request, seconds: float | None) -> bytes:
        """Returns the reply's bytes. Raises ``StatusError``s only."""

    async def close(self) -> None:
        """Releases the connections."""


def open_transport(address: Address, connection: Connection) -> Transport:
    """Opens the transport for an address. Raises ``MissingPackageError``."""
    if address.protocol == "rest":
        from servable.client.transport.http import HttpTransport

        return HttpTransport(address, connection)
    from servable.client.transport.grpc import GrpcTransport

    return GrpcTransport(address, connection)


def open_async_transport(address: Address, connection: Connection) -> AsyncTransport:
    """Like ``open_transport``, for asyncio; may be called outside an event loop."""
    return _TransportOfFirstCall(address, connection)


class _TransportOfFirstCall:
    """Makes the transport on the first call, inside the event loop that it belongs to."""

    def __init__(self, address: Address, connection: Connection) -> None:
        self._address = address
        self._connection = connection
        self._made: AsyncTransport | None = None
        self._closed = False

    async def send(self, request: Request, seconds: float | None) -> bytes:
        """See ``AsyncTransport.send``."""
        if self._closed:
            raise closed()
        if self._made is None:
            self._made = _async_transport(self._address, self._connection)
        return await self._made.send(request, seconds)

    async def close(self) -> None:
        """See ``AsyncTransport.close``."""
        self._closed = True
        if self._made is not None:
            await self._made.close()


def _async_transport(address: Address, connection: Connection) -> AsyncTransport:
    if address.protocol == "rest":
        from servable.client.transport.http import AsyncHttpTransport

        return AsyncHttpTransport(address, connection)
    from servable.client.transport.grpc import AsyncGrpcTransport

    return AsyncGrpcTransport(address, connection)
