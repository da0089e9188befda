"""Both protocols as used by client code: REST by requests, gRPC by stubs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from conftest import Served
from model_configs import model_config
from servers import until
from stubs import PATIENCE, call, floats_request, own_message
from wire import ask, predict


def version_states(served: Served, model: str) -> dict[int, str]:
    """Returns version → state, from REST's status API; empty for an unknown model."""
    reply = json.loads(ask(served, "GET", f"/v1/models/{model}").body)
    return {int(one["version"]): one["state"] for one in reply.get("model_version_status", [])}


def available(served: Served, model: str) -> list[int]:
    """Returns the serving versions, newest first."""
    states = version_states(served, model)
    return [version for version, state in states.items() if state == "AVAILABLE"]


def await_versions(served: Served, model: str, *expected: int) -> None:
    """Waits until exactly these versions serve."""
    wanted = sorted(expected, reverse=True)
    reached = until(lambda: available(served, model) == wanted, PATIENCE)
    assert reached, f"{model}: wanted {wanted}, got {version_states(served, model)}\n{served.log}"


def answer(served: Served, model: str, x: float = 2.0) -> float | str:
    """Returns REST's prediction for one ``x``, or the error's text."""
    reply = predict(served, model, {"instances": [x]})
    return float(json.loads(reply.body)["predictions"][0]) if reply.status == 200 else reply.error


@dataclass
class Stub:
    """TensorFlow Serving's gRPC services on one channel."""

    served: Served
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.served.grpc)

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: str, request: Any, timeout: float | None = PATIENCE) -> Any:
        """Makes a unary call by the bare name of its method; raises ``grpc.RpcError``."""
        return call(self.channel, method, request, own_message, timeout)

    def predict(
        self,
        model: str,
        x: float = 2.0,
        version: int | None = None,
        label: str = "",
        timeout: float | None = PATIENCE,
    ) -> float:
        """Returns ``y`` for one ``x``."""
        request = floats_request(model, x)
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        return float(self.call("Predict", request, timeout).outputs["y"].float_val[0])

    def states(self, model: str) -> dict[int, int]:
        """Returns version → number of its state."""
        request = own_message("GetModelStatusRequest")()
        request.model_spec.name = model
        reply = self.call("GetModelStatus", request)
        return {one.version: one.state for one in reply.model_version_status}

    def reload(self, *models: dict[str, Any], timeout: float | None = PATIENCE) -> tuple[int, str]:
        """Calls HandleReloadConfigRequest with these ``config`` entries; returns (code, message)."""
        request = own_message("ReloadConfigRequest")(config=model_config(*models))
        try:
            reply = self.call("HandleReloadConfigRequest", request, timeout)
        except grpc.RpcError as error:
            return error.code().value[0], error.details() or ""
        return reply.status.error_code, reply.status.error_message


@dataclass
class Load:
    """Constant requests over both protocols: the number answered, and every failure."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, ask_once: Callable[[], float | str]) -> None:
        """Sends requests until ``done``."""
        while not self.done.is_set():
            got = ask_once()
            with self.lock:
                self.answered += 1
                if got != 3.0:
                    self.failures.append(str(got))


@contextmanager
def steady_load(served: Served, model: str) -> Iterator[Load]:
    """Runs a client per protocol that never pauses; at the end, both were answered since the last change."""
    load = Load()
    with Stub(served) as stub:

        def ask_by_grpc() -> float | str:
            try:
                return stub.predict(model)
            except grpc.RpcError as error:
                return f"gRPC: {error}"

        asks: tuple[Callable[[], float | str], ...] = (lambda: answer(served, model), ask_by_grpc)
        clients = [threading.Thread(target=load.run, args=(ask_once,), daemon=True) for ask_once in asks]
        for client in clients:
            client.start()
        try:
            assert until(lambda: load.answered >= 10)
            yield load
        finally:
            reached = load.answered + 10
            until(lambda: load.answered >= reached)
            load.done.set()
            for client in clients:
                client.join(PATIENCE)
