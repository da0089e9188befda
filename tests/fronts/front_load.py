"""Clients of a front: each sends one request after the other over a connection of its own, and counts."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from front_kinds import Running
from servers import until
from stubs import METHODS, floats_request, own_message

MODELS = [f"m{number}" for number in range(8)]
"""The names under which each server has the same model."""
X = 2.0
Y = 3.0
"""What the model makes of ``X``."""
PATIENCE = 30.0


class RestClient:
    """A client of REST that keeps its connection; ``ask`` returns what went wrong, "" for nothing."""

    def __init__(self, running: Running, source: str = "127.0.0.1") -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", running.rest_port, timeout=PATIENCE, source_address=(source, 0)
        )

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Returns status and body; ``_`` in names of headers becomes ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, path, body, named)
            reply = self._connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def ask(self, model: str) -> str:
        """Asks once."""
        body = json.dumps({"instances": [X]}).encode()
        try:
            status, answer = self.request("POST", f"/v1/models/{model}:predict", body)
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        if status != 200:
            return str(status)
        return "" if json.loads(answer) == {"predictions": [Y]} else answer.decode()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class GrpcClient:
    """A client of gRPC, whose calls say by ``x-model`` which model they are for."""

    def __init__(self, running: Running) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_retries", 0),
        ]
        self.channel = grpc.insecure_channel(running.grpc, options)

    def predict(self, model: str, *values: float, named: bool = True) -> list[float]:
        """Returns the answers; raises ``grpc.RpcError``. named: with ``x-model``."""
        service, _, response = METHODS["Predict"]
        request = floats_request(model, *values)
        method = self.channel.unary_unary(
            f"/tensorflow.serving.{service}/Predict",
            type(request).SerializeToString,
            own_message(response).FromString,
        )
        metadata = [("x-model", model)] if named else []
        reply = method(request, timeout=PATIENCE, metadata=metadata)
        return list(reply.outputs["y"].float_val) or [float("nan")]

    def ask(self, model: str) -> str:
        """Asks once."""
        try:
            answer = self.predict(model, X)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "" if answer == [Y] else f"{answer}"

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()


Client = RestClient | GrpcClient


@dataclass
class Load:
    """What the clients have counted: answers, and failures with the time of each since ``mark``."""

    answered: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    mark: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, kind: Callable[[], Client], models: Sequence[str]) -> None:
        """Asks until ``done``."""
        client = kind()
        for model in itertools.cycle(models):
            if self.done.is_set():
                break
            wrong = client.ask(model)
            with self.lock:
                if wrong:
                    self.failures.append((time.monotonic() - self.mark, wrong))
                else:
                    self.answered += 1
        client.close()

    def wait_for(self, more: int) -> None:
        """Waits for so many answers more."""
        goal = self.answered + more
        assert until(lambda: self.answered >= goal, 60), (self.answered, self.failures[-5:])

    def told(self) -> str:
        """Describes it in a line."""
        times = [round(when, 2) for when, _ in self.failures]
        span = f", from {min(times)} to {max(times)} s after the mark" if times else ""
        kinds = sorted({what for _, what in self.failures})
        return f"{self.answered} answered, {len(times)} failed{span} {kinds if kinds else ''}".strip()


CLIENTS = 8
"""Clients of each protocol."""


@contextmanager
def load(running: Running, models: Sequence[str]) -> Iterator[Load]:
    """Runs ``CLIENTS`` clients of each protocol, and yields once some requests have been answered."""
    load = Load()
    kinds: list[Callable[[], Client]] = [lambda: RestClient(running), lambda: GrpcClient(running)]
    clients = [
        threading.Thread(target=load.run, args=(kind, models[number % len(models) :] + models), daemon=True)
        for kind in kinds
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        load.wait_for(200)
        yield load
    finally:
        load.done.set()
        for client in clients:
            client.join(PATIENCE)
