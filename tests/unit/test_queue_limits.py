"""The flags that limit what waits for the threads of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from servable.config.arguments import parse
from servable.config.queue_limits import queue_limits
from servable.config.settings import server_config
from servable.config.values import QueueLimits
from servable.errors import UsageError


def limits(*argv: str) -> QueueLimits:
    return queue_limits(parse(list(argv), serve=True))


def test_without_flags_there_are_no_limits() -> None:
    assert limits() == QueueLimits()


def test_every_limit_is_read() -> None:
    assert limits(
        "--max_queue_milliseconds=250",
        "--max_requests_in_flight=1000",
        "--max_requests_in_flight_per_model=10",
        "--max_memory_in_flight_per_model=1048576",
        "--model_weights=photo=4,a=b=0.5",
    ) == QueueLimits(250, 1000, 10, 1 << 20, {"photo": 4.0, "a=b": 0.5})


@pytest.mark.parametrize(
    "name",
    [
        "max_queue_milliseconds",
        "max_requests_in_flight",
        "max_requests_in_flight_per_model",
        "max_memory_in_flight_per_model",
    ],
)
@pytest.mark.parametrize("value", ["0", "-1", str(2**63 - 1)])
def test_a_limit_that_cannot_be_meant_is_refused(name: str, value: str) -> None:
    with pytest.raises(
        UsageError, match=f"--{name} expects 1 to [0-9]+, got {value}; leave it out for no limit"
    ):
        limits(f"--{name}={value}")


@pytest.mark.parametrize(
    "text", ["photo", "photo=", "=4", "photo=0", "photo=-1", "photo=nan", "photo=1e9", "a=x"]
)
def test_weights_have_names_and_are_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="--model_weights expects NAME=WEIGHT"):
        limits(f"--model_weights={text}")


def test_a_model_has_one_weight() -> None:
    with pytest.raises(UsageError, match="two weights for 'a'"):
        limits("--model_weights=a=1,a=2")


def test_batching_has_parameters_or_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--batching=auto and --enable_batching exclude each other"):
        server_config(parse([f"m={tmp_path}", "--batching=auto", "--enable_batching"], serve=True), {})
