"""How the traffic of a model is spread over its versions, as frozen values; the core reads them by name.

A target is the number of a version or a label, as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class TrafficShare:
    """A part of the traffic for a target."""

    to: str
    percent: float


@dataclass(frozen=True)
class TrafficHeader:
    """What has a header (gRPC: metadata) of this value goes to a target, whatever the shares."""

    name: str
    value: str
    to: str


@dataclass(frozen=True)
class TrafficShadow:
    """A target that gets copies of requests, whose answers are compared and counted, never returned.

    percent: of the requests. tolerance: the accepted difference of numbers, relative to a tensor's largest
    value. timeout_seconds: of one answer.
    """

    to: str
    percent: float
    tolerance: float = 1e-5
    timeout_seconds: float = 10.0


@dataclass(frozen=True)
class TrafficRollBack:
    """When a target gets no traffic any more; None is no bound.

    The bounds: the percentage of its requests that fail, by how much it may be above the default's, the p99,
    and its multiple of the default's. They are looked at over the last window_seconds, if there were
    min_requests, and have to be exceeded for_seconds. count_client_errors: also errors that are a client's
    fault, as those of a model about its input look alike.
    """

    max_error_percent: float | None = None
    max_error_percent_above_default: float | None = None
    max_p99_milliseconds: float | None = None
    max_p99_ratio_to_default: float | None = None
    min_requests: int = 100
    window_seconds: float = 60.0
    for_seconds: float = 10.0
    count_client_errors: bool = False

    def bounds(self) -> dict[str, float]:
        """Returns those that there are, by name."""
        given = {
            "max_error_percent": self.max_error_percent,
            "max_error_percent_above_default": self.max_error_percent_above_default,
            "max_p99_milliseconds": self.max_p99_milliseconds,
            "max_p99_ratio_to_default": self.max_p99_ratio_to_default,
        }
        return {name: bound for name, bound in given.items() if bound is not None}


@dataclass(frozen=True)
class Traffic:
    """How requests are spread that name neither a version nor a label.

    default_to: who gets what is left, "" for the newest version that is not named here. key_header: the
    header whose value decides which share a request belongs to, "" for chance.
    """

    default_to: str = ""
    shares: tuple[TrafficShare, ...] = ()
    headers: tuple[TrafficHeader, ...] = ()
    key_header: str = ""
    shadow: TrafficShadow | None = None
    roll_back: TrafficRollBack | None = None

    def targets(self) -> Iterator[str]:
        """Returns every target that is named, some more than once; the default's first, if it is."""
        if self.default_to:
            yield self.default_to
        yield from (share.to for share in self.shares)
        yield from (header.to for header in self.headers)
        if self.shadow is not None:
            yield self.shadow.to


def is_version(target: str) -> bool:
    """True if a target is the number of a version, and not a label."""
    return target.isascii() and target.isdecimal() and int(target) < 2**63
