"""``AsyncClient``: what ``Client`` is, with ``await``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from types import EllipsisType
from typing import Any, Protocol, TypeVar, overload

from servable.client.address import Address, parse_address
from servable.client.answers import Classification, Metadata, VersionStatus
from servable.client.arrays import Array
from servable.client.binding import Given
from servable.client.codec import Call, Choice
from servable.client.connection import Connection, closed
from servable.client.dialogue import Dialogue, Limits, Pause, Send, Steps
from servable.client.examples import Features
from servable.client.model_config import serialized_config
from servable.client.sync_client import Value, codec_of
from servable.errors import StatusError

T = TypeVar("T")


class AsyncTransport(Protocol):
    """Carries calls of one event loop."""

    async def send(self, call: Call[Any], seconds: float | None) -> bytes:
        """The reply's bytes. Raises ``StatusError``s only."""

    async def close(self) -> None:
        """Gives connections back."""


class AsyncClient:
    """A client of one model server for asyncio: the arguments, methods and errors of ``Client``.

    May be made anywhere and belongs to the event loop of its first call; any number of tasks may share it. A
    task that is cancelled takes its call with it. As an asynchronous context manager it closes its
    connections in the end.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float | None = 60.0,
        connect_timeout: float | None = 5.0,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
        ca_file: str | None = None,
    ) -> None:
        where = parse_address(address)
        self._dialogue = Dialogue(codec_of(where), Limits(timeout, retries))
        self._transport = _Transports(where, Connection(connect_timeout, headers or {}, ca_file))

    @overload
    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Value],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        outputs: str | Sequence[str] | None = None,
    ) -> dict[str, Array]: ...

    @overload
    async def predict(
        self,
        model: str,
        inputs: Value,
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        outputs: str | Sequence[str] | None = None,
    ) -> Array: ...

    async def predict(
        self,
        model: str,
        inputs: Value,
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        outputs: str | Sequence[str] | None = None,
    ) -> Any:
        """Runs a signature; see ``Client.predict``."""
        given = Given(Choice(model, version, label), inputs, signature, outputs)
        return await self._run(self._dialogue.predict(given))

    async def classify(
        self,
        model: str,
        examples: Features | Iterable[Features],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        context: Features | None = None,
    ) -> list[list[Classification]]:
        """Classes with labels and scores; see ``Client.classify``."""
        choice = Choice(model, version, label)
        return await self._run(self._dialogue.classify(choice, signature, examples, context))

    async def regress(
        self,
        model: str,
        examples: Features | Iterable[Features],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        context: Features | None = None,
    ) -> Array:
        """A float32 for each example; arguments as for ``classify``."""
        choice = Choice(model, version, label)
        return await self._run(self._dialogue.regress(choice, signature, examples, context))

    async def multi_inference(
        self,
        model: str,
        examples: Features | Iterable[Features],
        tasks: Mapping[str, str],
        *,
        version: int | None = None,
        label: str | None = None,
        context: Features | None = None,
    ) -> dict[str, Any]:
        """Several signatures in one run, over gRPC only; see ``Client.multi_inference``."""
        choice = Choice(model, version, label)
        return await self._run(self._dialogue.multi_inference(choice, tasks, examples, context))

    async def status(self, model: str, *, version: int | None = None) -> list[VersionStatus]:
        """The versions of a model that the server knows, newest first, those that failed included."""
        return await self._run(self._dialogue.status(Choice(model, version)))

    async def metadata(self, model: str, *, version: int | None = None, label: str | None = None) -> Metadata:
        """The signatures of a version: names, dtypes, shapes."""
        return await self._run(self._dialogue.metadata(Choice(model, version, label)))

    async def reload(self, config: Mapping[str, str | PathLike[str]] | str | PathLike[str] | Any) -> None:
        """Replaces the server's models, over gRPC only; see ``Client.reload``."""
        await self._run(self._dialogue.reload(serialized_config(config)))

    def with_limits(
        self, *, timeout: float | EllipsisType | None = ..., retries: int | EllipsisType = ...
    ) -> AsyncClient:
        """The same client and connections with other limits; those not given stay. Close one of the two."""
        now = self._dialogue.limits
        limits = Limits(
            now.timeout if isinstance(timeout, EllipsisType) else timeout,
            now.retries if isinstance(retries, EllipsisType) else retries,
        )
        other = object.__new__(type(self))
        other._transport = self._transport
        other._dialogue = Dialogue(self._dialogue.codec, limits, self._dialogue.cache)
        return other

    async def close(self) -> None:
        """Gives the connections back; the client cannot be used any more."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        """Does the steps of a dialogue until it has its answer."""
        try:
            step = next(steps)
            while True:
                try:
                    reply = await self._do(step)
                except StatusError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as done:
            answer: T = done.value
            return answer

    async def _do(self, step: Send | Pause) -> bytes | None:
        if isinstance(step, Send):
            return await self._transport.send(step.call, step.seconds)
        await asyncio.sleep(step.seconds)
        return None


class _Transports:
    """Makes the transport with the first call, inside the event loop that it belongs to."""

    def __init__(self, address: Address, connection: Connection) -> None:
        self._address = address
        self._connection = connection
        self._made: AsyncTransport | None = None
        self._closed = False

    async def send(self, call: Call[Any], seconds: float | None) -> bytes:
        """As ``AsyncTransport.send``."""
        if self._closed:
            raise closed()
        if self._made is None:
            self._made = _transport(self._address, self._connection)
        return await self._made.send(call, seconds)

    async def close(self) -> None:
        """As ``AsyncTransport.close``."""
        self._closed = True
        if self._made is not None:
            await self._made.close()


def _transport(address: Address, connection: Connection) -> AsyncTransport:
    if address.protocol == "rest":
        from servable.client.http_transport import AsyncHttpTransport

        return AsyncHttpTransport(address, connection)
    from servable.client.grpc_transport import AsyncGrpcTransport

    return AsyncGrpcTransport(address, connection)
