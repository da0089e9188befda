"""Limits of operations: time, and the number of tries."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from servable.errors import invalid_argument

LONGEST_SECONDS = 2_000_000.0
"""23 days: representable by every transport, in milliseconds of 31 bits."""


@dataclass(frozen=True)
class Limits:
    """Limits of an operation.

    timeout: seconds for all of it, retries included, or None; infinity becomes None. retries: further tries.
    """

    timeout: float | None
    retries: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeout", limit("timeout", self.timeout))
        if self.retries < 0:
            raise invalid_argument(f"retries is {self.retries}; expected 0 or more")


def limit(name: str, seconds: float | None) -> float | None:
    """Normalises a time limit: None for no limit. Raises ``InvalidArgumentError``."""
    if seconds is None or seconds == inf:
        return None
    if not 0 < seconds <= LONGEST_SECONDS:
        raise invalid_argument(
            f"{name} is {seconds}; expected seconds above 0, at most {LONGEST_SECONDS:.0f}, "
            "or None for no limit"
        )
    return seconds
