"""A replica of Ray Serve with a server inside: what Ray's proxies bring, the core of this process answers.

Ray finds methods by their names: ``__call__`` has what comes over HTTP, and each method of gRPC one of its
own name. Bytes go to the core and come from it as they are; no message and no JSON is touched here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import grpc
from starlette.requests import Request
from starlette.responses import Response

from servable.config.model_paths import cache_dir
from servable.embedded import Server
from servable.embedded.configuration import parsed
from servable.errors import StatusError
from servable.ray.grpc_service import SERVICES
from servable.ray.models import Model, read_models, to_start_with
from servable.ray.multiplexing import Multiplexer
from servable.ray.requested_model import of_message, of_path
from servable.ray.scope import has_no_body, target as path_and_query, with_slash

if TYPE_CHECKING:
    from servable import _core
    from servable.embedded.configuration import Flag

FLAGS: dict[str, Flag] = {"port": None, "max_num_load_retries": 5}
"""Flags of a replica's server, if nothing else is said. REST has a port of 127.0.0.1, for metrics."""
REQUEST_ID = b"x-request-id"
"""Ray's proxies give each request one, which the core has, too, and add it to each answer."""
_log = logging.getLogger("servable.ray")
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_STATUSES = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504, "UNAVAILABLE": 503}


class Answer(Response):  # type: ignore[misc]  # Any, where starlette is not installed
    """An answer of the core, as ASGI sends it; without ``REQUEST_ID``."""

    def __init__(self, answer: _core.RestAnswer) -> None:
        self.answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Sends it."""
        status, headers, body = self.answer
        headers = [one for one in headers if one[0] != REQUEST_ID]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Serialized:
    """A message that is serialized already."""

    __slots__ = ("_message",)

    def __init__(self, message: bytes) -> None:
        self._message = message

    def SerializeToString(self) -> bytes:  # noqa: N802  # as protobuf's
        """Returns the message."""
        return self._message


class Replica:
    """What Ray calls. What it serves comes by ``reconfigure``, at the start and at every change.

    flags: those of ``servable serve``. multiplexed: the most models that are loaded at once, on demand; 0 has
    all of them loaded at the start.
    """

    def __init__(self, flags: Mapping[str, Flag], multiplexed: int = 0) -> None:
        self._flags: dict[str, Any] = {**FLAGS, **flags}
        arguments = parsed(self._flags)
        self._is_lazy = arguments.boolean("lazy_load")
        self._cache = cache_dir(arguments.text("model_cache_dir"), os.environ)
        self._multiplexed = multiplexed
        self._multiplexer: Multiplexer | None = None
        self._server: Server | None = None
        self._models: dict[str, Model] = {}
        self._refused: dict[str, str] = {}
        self._changing: asyncio.Task[None] | None = None
        self._problem = ""

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Serves these models: at the start as many of them as can be, later what has changed.

        Raises ``StatusError`` at the start if no model can be served. A change goes on when this has
        returned, as Ray sends a replica no requests before that. One that fails is taken back: Ray would end
        the replica for it, and those that it starts instead would fail, too. ``problem`` tells of all that.
        """
        models = read_models(user_config["models"])
        if self._server is None:
            await self._start(models)
        else:
            self._changing = asyncio.create_task(self._take_over(models, self._changing))

    async def _start(self, models: dict[str, Model]) -> None:
        configs, refused = ({}, {}) if self._multiplexed else to_start_with(models)
        self._server = await Server(configs or (), **self._flags).astart(partly=True)
        if self._multiplexed:
            self._multiplexer = Multiplexer(self._server, models, self._multiplexed, self._cache)
        self._models, self._refused = models, refused
        for said in self._lacking():
            _log.error("the replica serves without a part of its models: %s", said)

    async def _take_over(self, models: dict[str, Model], before: asyncio.Task[None] | None) -> None:
        """Changes the models, after the change before; raises nothing."""
        if before is not None:
            await asyncio.wait([before])
        try:
            await self._change(models)
        except Exception as error:  # nobody else would learn of it
            if self._server is None:
                return
            is_expected = isinstance(error, StatusError)
            self._problem = error.message if isinstance(error, StatusError) else repr(error)
            _log.error("the models are as they were: %s", self._problem, exc_info=not is_expected)
            await self._take_back()
        else:
            self._models, self._refused, self._problem = models, {}, ""

    async def _take_back(self) -> None:
        try:
            # As at the start: what was not there then need not be now.
            await self._change(self._models, may_lack=True)
        except Exception as error:
            _log.warning("of the models as they were, not all serve: %s", error)

    async def _change(self, models: dict[str, Model], may_lack: bool = False) -> None:
        if self._multiplexer is not None:
            await self._multiplexer.change(models)
            return
        if may_lack:
            configs, _ = to_start_with(models)
        else:
            configs = {name: model.config(name) for name, model in models.items()}
        await asyncio.to_thread(self._running.apply, configs)

    async def problem(self) -> str:
        """Returns why the last change of models was taken back, or a model does not serve; "" without that.

        Waits for changes that are under way.
        """
        while self._changing is not None and not self._changing.done():
            await asyncio.wait([self._changing])
        if self._problem:
            return f"the models are as they were: {self._problem}"
        return "; ".join(self._lacking())

    def _lacking(self) -> list[str]:
        """Returns why models do not serve."""
        server = self._server
        if server is None or not server.is_running or self._multiplexed:
            return []
        return [*self._refused.values(), *server.problems().values()]

    async def check_health(self) -> None:
        """Raises ``RuntimeError`` if no request can be answered: Ray replaces the replica."""
        server = self._server
        if server is None or not server.is_running:
            raise RuntimeError("the replica's server does not run")
        is_changing = self._changing is not None and not self._changing.done()
        if self._multiplexed or self._is_lazy or is_changing:
            # None has to be available, and another replica would have what cannot be loaded no sooner.
            return
        if not any(one.state == "AVAILABLE" for versions in server.models().values() for one in versions):
            raise RuntimeError("; ".join(self._lacking()) or "no model is available")

    def __del__(self) -> None:
        # Called by Ray once requests are answered, and by Python after that.
        server, self._server = self.__dict__.get("_server"), None
        if server is not None:
            server.stop()

    # ---- requests

    async def __call__(self, request: Request) -> Response:
        """Answers a request to REST, below the route of the application."""
        method, target = request.method, path_and_query(request.scope)
        if place := with_slash(request.scope):
            return Response(status_code=307, headers={"location": place.decode("latin-1")})
        try:
            body = b"" if has_no_body(request.scope) else await request.body()
            async with self._loaded(of_path, target.decode("ascii", "replace")):
                headers = request.scope["headers"]
                return Answer(await self._running.answer_rest(method, target, headers, body))
        except StatusError as error:
            return Answer(_refused(error))

    async def predict(self, inputs: Any, model: str = "", **options: Any) -> Any:
        """Runs a signature for another deployment; see ``servable.Server.predict``."""
        async with self._loaded(str, model):
            return await self._running.apredict(inputs, model, **options)

    async def answer_grpc(self, path: str, message: bytes, context: Any) -> Serialized:
        """Answers a call of gRPC; its status goes into Ray's ``context``."""
        try:
            metadata = [(name, value) for name, value in context.invocation_metadata() if _is_text(value)]
            async with self._loaded(of_message, path, message):
                code, details, trailing, reply = await self._running.answer_grpc(path, message, metadata)
        except StatusError as error:
            context.set_code(grpc.StatusCode[error.code])
            context.set_details(error.message)
            return Serialized(b"")
        if code:
            # Ray logs an exception with its trace: an error of the client's is none of the replica's.
            context.set_code(_CODES[code])
            context.set_details(details)
        if trailing:
            context.set_trailing_metadata(trailing)
        return Serialized(reply)

    def _loaded(self, name_of: Callable[..., str], *request: Any) -> AbstractAsyncContextManager[None]:
        """Returns a context in which the model of a request is loaded, if models are loaded on demand."""
        if self._multiplexer is None:
            return nullcontext()
        return self._multiplexer.held(name_of(*request))

    @property
    def _running(self) -> Server:
        server = self._server
        if server is None:
            raise StatusError("UNAVAILABLE", "The replica is not ready, or is stopping")
        return server


def _method(path: str, name: str) -> Callable[..., Awaitable[Serialized]]:
    async def call(self: Replica, message: bytes, grpc_context: Any) -> Serialized:
        return await self.answer_grpc(path, message, grpc_context)

    call.__name__ = name
    return call


for _service, _names in SERVICES.items():
    for _name in _names:
        setattr(Replica, _name, _method(f"/{_service}/{_name}", _name))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _refused(error: StatusError) -> _core.RestAnswer:
    """Returns the answer for what the core was not asked."""
    body = json.dumps({"error": error.message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.code == "UNAVAILABLE":
        headers.append((b"retry-after", b"1"))
    return _STATUSES.get(error.code, 500), headers, body
