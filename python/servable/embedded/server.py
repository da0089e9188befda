"""``Server``: what a program, a test or a notebook has of the server that runs beside it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from servable.embedded import changing, display, logs, outcomes, process
from servable.embedded.configuration import Flag
from servable.embedded.display import VersionStatus
from servable.embedded.models import NO_EXPORTS, model_configs
from servable.embedded.running import LONGEST_LOAD, Running, begin
from servable.errors import (
    FailedPreconditionError,
    MissingPackageError,
    StatusError,
    UnavailableError,
    invalid_argument,
)

if TYPE_CHECKING:
    from servable import _core


class Server:
    """A server for models, inside of this process.

    what: a path, as ``servable serve`` takes it; a Keras model, a ``tf.Module``, a ``tf.function`` or a
    concrete function, which is exported at each start; or a mapping from names to these. name: of the only
    model. flags: those of ``servable serve``, with Python's values: ``batching="auto"``,
    ``rest_api_port=8501``; None is off for a port. The ports are free ones of 127.0.0.1, if nothing else is
    said, and SavedModels stay in TensorFlow.

    Usable with ``with`` and ``async with``, and by ``start`` and ``stop``, after which it can start again.
    All methods may be called from any thread.
    """

    def __init__(self, what: object, name: str = "", **flags: Flag) -> None:
        self._what = what
        self._name = name
        self._flags = flags
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._running: Running | None = None
        self._finalizer: weakref.finalize[Any, Server] | None = None

    # ---- start and end

    def start(self, partly: bool = False) -> Server:
        """Starts, unless it runs, and returns itself: every model is available then, and the ports are open.

        partly: one model is enough if the others cannot be served, which ``problems`` tells of.

        Raises the ``StatusError`` of a model that cannot be served, ``UsageError`` for wrong flags, and
        ``TensorFlowNotFoundError``; it does not run then.
        """
        process.check()
        with self._own_lock():
            if self._running is None:
                self._running = running = begin(self._what, self._name, self._flags, partly)
                self._finalizer = weakref.finalize(self, _end_soon, running)
                self._finalizer.atexit = False
        return self

    def stop(self) -> None:
        """Ends, if it runs: requests finish, models are unloaded, ports closed."""
        running = self._running
        if running is not None and running.is_lost:
            return
        with self._own_lock():
            running, self._running = self._running, None
            if running is None:
                return
            if self._finalizer is not None:
                self._finalizer.detach()
            running.end()

    async def astart(self, partly: bool = False) -> Server:
        """Does the same as ``start`` while the event loop goes on."""
        try:
            return await asyncio.to_thread(self.start, partly)
        except asyncio.CancelledError:
            # It cannot be ended before it has started.
            threading.Thread(target=self.stop, name="servable-embedded", daemon=True).start()
            raise

    async def astop(self) -> None:
        """Does the same as ``stop`` while the event loop goes on."""
        await asyncio.to_thread(self.stop)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Server:
        return await self.astart()

    async def __aexit__(self, *_: object) -> None:
        await self.astop()

    # ---- what it is

    @property
    def is_running(self) -> bool:
        """True from the end of ``start`` to ``stop``."""
        running = self._running
        return running is not None and not (running.is_lost or running.is_over)

    @property
    def url(self) -> str:
        """The address of REST: ``http://127.0.0.1:PORT``. Raises ``FailedPreconditionError`` if it is off."""
        running = self._known()
        return (
            f"{running.scheme}://{_reachable(running.addresses.get('rest') or _off('REST', 'rest_api_port'))}"
        )

    @property
    def grpc_address(self) -> str:
        """The address of gRPC: ``127.0.0.1:PORT``. Raises ``FailedPreconditionError`` if it is off."""
        return _reachable(self._known().addresses.get("grpc") or _off("gRPC", "port"))

    def addresses(self) -> dict[str, str]:
        """Returns the addresses of the ports that are open: ``rest`` and ``grpc``, each ``host:port``."""
        return dict(self._known().addresses)

    def models(self) -> dict[str, list[VersionStatus]]:
        """Returns the versions of each model, newest first."""
        found: dict[str, list[VersionStatus]] = {}
        for name, version, state, code, message in self._live().core.states():
            found.setdefault(name, []).append(VersionStatus(version, state, code, message))
        return {name: sorted(found[name], reverse=True) for name in sorted(found)}

    def problems(self) -> dict[str, str]:
        """Returns why models do not serve as configured, by name.

        Those without a version that is available, or without one that is listed; and those of which a former
        version serves, as the wanted ones have failed.
        """
        return outcomes.problems(self._live().server.manager)

    def logs(self) -> str:
        """Returns the log since it started: the last lines of all servers of this process.

        The logger ``servable`` has them too, but for those of the core.
        """
        return logs.since(self._live().since)

    # ---- what it serves

    def load(self, what: object, name: str = "", timeout: float = LONGEST_LOAD) -> None:
        """Serves the model at a path, too, and returns once it is available. Raises ``StatusError``."""
        (model,) = model_configs(what, name, NO_EXPORTS)
        changing.load(self._live().server, model, timeout)

    def unload(self, name: str, timeout: float = LONGEST_LOAD) -> bool:
        """Serves a model no longer; requests in flight are answered. True if it was unloaded in time."""
        return changing.unload(self._live().server, name, timeout)

    def apply(self, what: object, timeout: float = LONGEST_LOAD) -> None:
        """Serves exactly these models from now on, by their paths, and returns once they are available.

        Versions that were served answer until the new ones are there. Raises ``StatusError``.
        """
        changing.apply(self._live().server, model_configs(what, "", NO_EXPORTS), timeout)

    # ---- requests by their bytes

    async def answer_rest(
        self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes = b""
    ) -> _core.RestAnswer:
        """Answers a request to REST without a socket, as a client's: returns status, headers and body.

        target: path and query, percent-encoded. Raises ``StatusError`` if the server stops.
        """
        from servable.embedded.in_process import answered

        return await answered(self._live().core.answer_rest, (method, target, headers), body)

    async def answer_grpc(
        self,
        path: str,
        message: bytes,
        metadata: Sequence[tuple[str, str]] = (),
        timeout: float | None = None,
    ) -> _core.GrpcAnswer:
        """Answers a call of gRPC without a socket: returns code, details, metadata of the end, and the reply.

        path: ``/tensorflow.serving.PredictionService/Predict``. message: the serialized request. Methods that
        stream are refused. Raises ``StatusError`` if the server stops.
        """
        from servable.embedded.in_process import answered

        return await answered(self._live().core.answer_grpc, (path, metadata, timeout), message)

    # ---- predictions

    def predict(
        self,
        inputs: Any,
        model: str = "",
        signature: str = "",
        version: int | str | None = None,
        outputs: str | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Runs a signature, without a socket, as a client's request is run.

        inputs: a mapping from the signature's names to values, answered with a dict of arrays by output name;
        or, for a signature with one input, its bare value, answered with one array. Values are converted as
        by ``Client.predict``. model: not needed if there is one. signature: "" for ``serving_default``.
        version: a number, or a label; None is the newest. outputs: names of those wanted; None for all.
        timeout: in seconds.

        Arrays are not copied on their way: do not change one that was given until there is an answer. Those
        of the answer are read-only. Raises ``StatusError`` with TensorFlow Serving's texts.
        """
        running = self._live()
        asking = running.asking or _asking(running)
        try:
            return asking.predict(inputs, model or _only(running), signature, version, outputs, timeout)
        except StatusError:
            if running.is_over:
                raise UnavailableError("UNAVAILABLE", "The server is stopping") from None
            raise

    async def apredict(
        self,
        inputs: Any,
        model: str = "",
        signature: str = "",
        version: int | str | None = None,
        outputs: str | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Does the same as ``predict`` while the event loop goes on."""
        ask = partial(self.predict, inputs, model, signature, version, outputs, timeout)
        return await asyncio.get_running_loop().run_in_executor(self._live().threads(), ask)

    # ---- how it looks

    def __repr__(self) -> str:
        with suppress(StatusError):
            return display.line(self.models(), self._shown_addresses())
        return f"<servable.Server, which {self._state()}>"

    def _repr_html_(self) -> str:
        """Returns the table that notebooks show."""
        with suppress(StatusError):
            return display.table(self.models(), self._shown_addresses())
        return f"<div><b>servable.Server</b>, which {self._state()}</div>"

    def _shown_addresses(self) -> dict[str, str]:
        running = self._live()
        titles = {"rest": "REST", "grpc": "gRPC", "grpc_socket": "gRPC on a socket"}
        shown = {title: running.addresses[one] for one, title in titles.items() if one in running.addresses}
        return {**shown, "REST": self.url} if "REST" in shown else shown

    def _state(self) -> str:
        if self._running is None:
            return "is not running"
        return "runs in the process that this one was forked from" if self._running.is_lost else "is stopping"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a servable.Server belongs to its process: give others its url, or its grpc_address")

    def _own_lock(self) -> threading.Lock:
        """Returns the lock; a new one in a process that was forked, where nobody opens the former one."""
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.Lock()
        return self._lock

    def _known(self) -> Running:
        running = self._running
        if running is None:
            raise FailedPreconditionError(
                "FAILED_PRECONDITION",
                "the server is not running",
                "start() it, or use it in a with statement",
            )
        return running

    def _live(self) -> Running:
        running = self._known()
        if running.is_lost:
            raise FailedPreconditionError(
                "FAILED_PRECONDITION",
                f"the server runs in process {running.process}, which this one was forked from",
                "ask it at its url or grpc_address; to serve in a process of its own, spawn that one",
            )
        return running


def serve(what: object, name: str = "", **flags: Flag) -> Server:
    """Starts a server inside of this process, which runs until ``stop``; see ``Server``."""
    return Server(what, name, **flags).start()


def serve_async(what: object, name: str = "", **flags: Flag) -> Server:
    """Returns the same for ``async with``, which starts it."""
    return Server(what, name, **flags)


def _end_soon(running: Running) -> None:
    """Ends a server that nobody has any more; beside whoever noticed it, who may hold any lock."""
    if not (running.is_over or running.is_lost):
        threading.Thread(target=running.end, name="servable-embedded", daemon=True).start()


def _asking(running: Running) -> Any:
    try:
        from servable.embedded.prediction import Asking
    except ImportError as error:
        why = str(error).partition(":")[0]
        raise MissingPackageError(f"predict needs numpy ({why}): pip install numpy") from None
    is_lazy = running.server.config.lifecycle.lazy_load
    running.asking = Asking(running.core, running.server.manager.awaken if is_lazy else None)
    return running.asking


def _only(running: Running) -> str:
    """Returns the name of the only model now. Raises ``InvalidArgumentError`` if there is not one."""
    models = running.server.manager.configured()
    if len(models) == 1:
        return models[0].name
    if not models:
        raise invalid_argument("there is no model: load() one")
    listed = ", ".join(model.name for model in models[:8])
    raise invalid_argument("there are several models, and none is named", f"give model=, one of {listed}")


def _reachable(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"localhost:{port}" if host in ("[::]", "0.0.0.0") else address


def _off(title: str, flag: str) -> NoReturn:
    raise FailedPreconditionError("FAILED_PRECONDITION", f"{title} is off: {flag} is None")
