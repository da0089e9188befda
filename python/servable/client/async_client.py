"""``AsyncClient``: a model server as an object, for asyncio.

``sync_client.py`` is generated from this file: run ``make client`` after a change here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from types import EllipsisType
from typing import Any, TypeVar, overload

from servable.client.answers import Classification, Metadata, VersionStatus
from servable.client.binding import Given, Value
from servable.client.codecs import codec_of
from servable.client.codecs.codec import Choice
from servable.client.dialogue import Dialogue, Pause, Send, Steps
from servable.client.limits import Limits
from servable.client.model_config import serialized_config
from servable.client.transport.address import parse_address
from servable.client.transport.connection import Connection, Tls, with_token
from servable.client.transport.open import open_async_transport
from servable.client.values.arrays import Array
from servable.client.values.examples import Features
from servable.errors import StatusError

T = TypeVar("T")


class AsyncClient:
    """A client of one model server, Servable or TensorFlow Serving, over REST or gRPC, for asyncio.

    address: ``http://host:8501``, ``https://…``, ``grpc://host:8500``, ``grpcs://…`` (TLS),
    ``unix:///path`` (gRPC on a Unix socket) or ``http+unix:///path`` (REST on one).
    timeout: seconds for a whole call, retries included; None for no limit.
    connect_timeout: seconds for making one connection. retries: number of times that a call is sent again
    when no server answers (UNAVAILABLE); ``reload`` never is. headers: sent with every call, as HTTP headers
    or gRPC metadata. ca_file: PEM file of the authorities to trust with TLS, instead of the system's; or a
    ``Tls``, which may name a certificate of this client, too, for a server that asks for one.
    token: for a server that needs one; None takes $SERVABLE_TOKEN if that is set, "" sends none.
    json: over REST, arrays go as JSON even to a server that takes numpy's own form, which is faster.

    Messages may have any size. A client may be made anywhere and belongs to the event loop of its first call;
    any number of tasks may, and should, share it: it keeps its connections. Cancelling a task cancels its
    call. As an asynchronous context manager it closes them at the end.

    Every method raises a ``StatusError`` of the class for its code: ``NotFoundError``,
    ``InvalidArgumentError``, ``UnavailableError``, ``DeadlineExceededError`` and so on, with ``code`` and
    ``message``. Over REST the code is derived from the HTTP status, which some codes share.
    """

    def __init__(  # noqa: PLR0913 - each is an option, given by its name
        self,
        address: str,
        *,
        timeout: float | None = 60.0,
        connect_timeout: float | None = 5.0,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
        ca_file: str | Tls | None = None,
        token: str | None = None,
        json: bool = False,
    ) -> None:
        where = parse_address(address)
        tls = ca_file if isinstance(ca_file, Tls) else Tls(ca_file)
        connection = Connection(connect_timeout, with_token(headers or {}, token), tls)
        self._dialogue = Dialogue(codec_of(where.protocol, json), Limits(timeout, retries))
        self._transport = open_async_transport(where, connection)

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
        """Runs a signature.

        inputs: a mapping from the signature's names to values, answered with a dict of arrays by output name;
        or, for a signature with one input, its bare value, answered with one array. Values become arrays of
        the dtype in the server's metadata. signature: "" for ``serving_default``. version or label: neither
        means the newest version. outputs: names of the outputs wanted, in the order of the answer, duplicates
        ignored; None for all, in the order of their names.

        Strings come back as object arrays of bytes; bfloat16 as that of ml_dtypes if it is installed,
        otherwise as float32.
        """
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
        """Returns classes with labels and scores, a list for each example.

        examples: mappings from feature names to numbers, text, bytes or flat lists of them. context: features
        shared by all examples.
        """
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
        """Returns a float32 for each example; arguments as for ``classify``."""
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
        """Runs several signatures on the same examples at once, over gRPC only.

        tasks: signature → ``classify`` or ``regress``. Returns their answers, by signature.
        """
        choice = Choice(model, version, label)
        return await self._run(self._dialogue.multi_inference(choice, tasks, examples, context))

    async def status(self, model: str, *, version: int | None = None) -> list[VersionStatus]:
        """Returns the versions of a model known to the server, newest first, including failed ones."""
        return await self._run(self._dialogue.status(Choice(model, version)))

    async def metadata(self, model: str, *, version: int | None = None, label: str | None = None) -> Metadata:
        """Returns the signatures of a version: names, dtypes, shapes."""
        return await self._run(self._dialogue.metadata(Choice(model, version, label)))

    async def reload(self, config: Mapping[str, str | PathLike[str]] | str | PathLike[str] | Any) -> None:
        """Replaces the server's models, over gRPC only; returns when that is done.

        config: model names to absolute folders, the text of a model config file, its ``pathlib.Path``, or a
        ``ModelServerConfig`` message. Models missing from it are unloaded. If the timeout ends before all are
        loaded, the server continues loading: allow more time using ``with_limits``.
        """
        await self._run(self._dialogue.reload(serialized_config(config)))

    def with_limits(
        self, *, timeout: float | EllipsisType | None = ..., retries: int | EllipsisType = ...
    ) -> AsyncClient:
        """Returns a client with other limits on the same connections; close one of the two."""
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
        """Releases the connections; the client cannot be used any more."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        """Performs the steps of a dialogue until it has its answer."""
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
