"""The flags that limit what waits for the threads of models, and share these out."""

from __future__ import annotations

from servable.config.arguments import Arguments
from servable.config.values import QueueLimits
from servable.errors import UsageError

_DAY_MILLISECONDS = 24 * 60 * 60 * 1000
_MOST_REQUESTS = 10_000_000
_MOST_BYTES = 2**62
_LEAST_WEIGHT = 0.001
_MOST_WEIGHT = 1000.0


def queue_limits(arguments: Arguments) -> QueueLimits:
    """Returns the limits that the flags set; raises ``UsageError`` for one that cannot be meant."""

    def limit(name: str, most: int) -> int | None:
        return _limit(arguments, name, most)

    return QueueLimits(
        max_queue_milliseconds=limit("max_queue_milliseconds", _DAY_MILLISECONDS),
        max_requests_in_flight=limit("max_requests_in_flight", _MOST_REQUESTS),
        max_requests_in_flight_per_model=limit("max_requests_in_flight_per_model", _MOST_REQUESTS),
        max_memory_in_flight_per_model=limit("max_memory_in_flight_per_model", _MOST_BYTES),
        model_weights=_weights(arguments.text("model_weights")),
    )


def _limit(arguments: Arguments, name: str, most: int) -> int | None:
    if name not in arguments.given:
        return None
    value = arguments.integer(name)
    if not 1 <= value <= most:
        raise UsageError(f"--{name} expects 1 to {most}, got {value}; leave it out for no limit")
    return value


def _weights(text: str) -> dict[str, float]:
    """Reads ``NAME=WEIGHT,…``."""
    weights: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, written = part.rpartition("=")
        weight = _weight(written)
        if not name or weight is None:
            raise UsageError(
                f"--model_weights expects NAME=WEIGHT,… with weights from {_LEAST_WEIGHT:g} to "
                f"{_MOST_WEIGHT:g}, got {part!r}"
            )
        if name in weights:
            raise UsageError(f"--model_weights has two weights for {name!r}")
        weights[name] = weight
    return weights


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if _LEAST_WEIGHT <= weight <= _MOST_WEIGHT else None
