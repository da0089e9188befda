"""A load, as the core takes it: ``_core.BenchPlan`` and its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CoreTarget:
    """``_core.BenchTarget``. Files are PEM; without tls they are not used."""

    grpc: bool
    host: str
    port: int
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


@dataclass(frozen=True)
class Request:
    """``_core.BenchRequest``: a path, headers or metadata, and a body or message; without one, a GET."""

    path: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = None


@dataclass(frozen=True)
class Group:
    """``_core.BenchGroup``: the requests to one model, with its weight and, for tables, its name."""

    name: str
    weight: float
    requests: Sequence[Request]


@dataclass(frozen=True)
class CorePlan:
    """``_core.BenchPlan``: times in seconds; without a rate, a closed loop of callers.

    max_outstanding: requests of an open loop that may be under way. connections: those that calls of gRPC
    share. count: requests that are counted at most.
    """

    target: CoreTarget
    groups: Sequence[Group]
    concurrency: int = 1
    rate: float | None = None
    arrivals: str = "fixed"
    max_outstanding: int = 1000
    threads: int = 1
    connections: int = 1
    warm_up: float = 2.0
    duration: float = 10.0
    count: int | None = None
    timeout: float = 30.0
    seed: int = 1
