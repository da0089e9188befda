"""Batching configuration: text BatchingParameters (TensorFlow Serving's message) → checked options."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

from servable.config.textproto import read_text_message
from servable.config.values import BatchingOptions
from servable.errors import StatusError, invalid_argument

MESSAGE = "tensorflow.serving.BatchingParameters"

VERSION_FILE = "batching_params.pbtxt"
"""File in a version's folder with its own parameters, for --enable_per_model_batching_parameters."""

_LARGEST = 2**31 - 1
"""Limit on rows, batches and threads; microseconds may exceed it."""


def read(path: str) -> BatchingOptions:
    """Returns the parameters in the text file ``path``. Raises ``StatusError``."""
    return of_message(read_text_message(path, MESSAGE))


def of_version(folder: str) -> BatchingOptions | None:
    """Returns the parameters in a version's folder; None if it has none and so is not batched."""
    path = os.path.join(folder, VERSION_FILE)
    return read(path) if os.path.lexists(path) else None


def of_message(parameters: Any) -> BatchingOptions:
    """Returns the parameters in a BatchingParameters message, with TensorFlow Serving's defaults."""
    plain = BatchingOptions()

    def number(name: str, default: int) -> int:
        return int(getattr(parameters, name).value) if parameters.HasField(name) else default

    rows = number("max_batch_size", plain.max_batch_size)
    options = BatchingOptions(
        max_batch_size=rows,
        batch_timeout_micros=number("batch_timeout_micros", plain.batch_timeout_micros),
        max_enqueued_batches=number("max_enqueued_batches", plain.max_enqueued_batches),
        num_batch_threads=number("num_batch_threads", plain.num_batch_threads),
        allowed_batch_sizes=tuple(parameters.allowed_batch_sizes),
        pad_variable_length_inputs=parameters.pad_variable_length_inputs,
        enable_large_batch_splitting=parameters.enable_large_batch_splitting.value,
        max_execution_batch_size=number("max_execution_batch_size", rows),
    )
    _check(options)
    return options


def _check(options: BatchingOptions) -> None:
    for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "max_execution_batch_size"):
        value = getattr(options, name)
        if value <= 0:
            raise invalid_argument(f"{name} must be positive; was {value}")
        if value > _LARGEST:
            raise invalid_argument(f"{name} must be at most {_LARGEST}; was {value}")
    if options.batch_timeout_micros < 0:
        raise invalid_argument(
            f"batch_timeout_micros must be non-negative; was {options.batch_timeout_micros}"
        )
    _check_sizes(options)


def _check_sizes(options: BatchingOptions) -> None:
    sizes = options.allowed_batch_sizes
    if not sizes:
        return
    if sizes[0] <= 0 or any(one >= other for one, other in pairwise(sizes)):
        raise invalid_argument(
            f"allowed_batch_sizes must be positive and ascending; was {', '.join(map(str, sizes))}"
        )
    largest, name = options.max_batch_size, "max_batch_size"
    if options.enable_large_batch_splitting:
        largest, name = options.max_execution_batch_size, "max_execution_batch_size"
    if sizes[-1] != largest:
        raise StatusError(
            "INVALID_ARGUMENT",
            f"Last entry in allowed_batch_sizes must match {name}; last entry was {sizes[-1]}; "
            f"expected {largest}",
        )
