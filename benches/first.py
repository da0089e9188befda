"""The first requests after a start: how long each of them takes.

The client and its connection are warm by then, from requests for a model that is not there, so that what the
first takes longer is the model's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
from grpc_points import predict_request
from load import Client
from process import BenchError

COUNT = 10
ABSENT = "absent"
METHOD = "/tensorflow.serving.PredictionService/Predict"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def over_rest(address: str, model: str, body: bytes) -> list[float]:
    """Returns the milliseconds of the first ten requests, one after another, to ``HOST:PORT``."""
    client = Client(f"http://{address}/v1/models/{model}:predict")

    def ask() -> None:
        status, reply = client.ask(body)
        if status != 200:
            raise BenchError(f"{model} answered {status}: {reply[:400]!r}")

    try:
        for _ in range(COUNT):
            client.ask_at(f"/v1/models/{ABSENT}:predict", b'{"instances": [1.0]}')
        return timed(ask)
    finally:
        client.close()


def over_grpc(address: str, model: str, message: bytes) -> list[float]:
    """Returns the milliseconds of the first ten calls, one after another, to ``HOST:PORT``."""
    with grpc.insecure_channel(address, options=UNLIMITED) as channel:
        predict: Callable[[bytes], Any] = channel.unary_unary(METHOD)
        for _ in range(COUNT):
            _ignoring_absence(predict)
        try:
            return timed(lambda: predict(message))
        except grpc.RpcError as error:
            raise BenchError(f"{model} answered {error}") from error


def _ignoring_absence(predict: Callable[[bytes], Any]) -> None:
    try:
        predict(predict_request(ABSENT, {}))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise BenchError(f"a model that is not there was answered {error}") from error


def timed(ask: Callable[[], object]) -> list[float]:
    """Asks ten times; returns the milliseconds of each."""
    took = []
    for _ in range(COUNT):
        begun = time.perf_counter()
        ask()
        took.append((time.perf_counter() - begun) * 1e3)
    return took
