"""What became of one load: numbers, as tables and files show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from servable.bench.asking import Failure
from servable.bench.plan import CorePlan
from servable.bench.process import Spent

if TYPE_CHECKING:
    from servable._core import BenchOutcome, BenchTimes

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
NEVER_SENT = ("unsent", "connect")
"""Kinds of failures of requests of which the server has seen nothing."""
SATURATED = 0.9
"""A thread of the load generator that used more of its core than this was the limit, not the server."""


@dataclass(frozen=True)
class Times:
    """Times in milliseconds. steps: times that were seen, ascending, and how often each was."""

    count: int
    mean: float
    max: float
    quantiles: dict[str, float]
    steps: Sequence[tuple[float, int]] = field(default=(), repr=False)

    def quantile(self, name: str) -> float:
        """Returns ``p50``, ``p90``, ``p99`` or ``p99.9``."""
        return self.quantiles[name]


def times_of(seen: BenchTimes) -> Times:
    """Reads the core's times."""
    quantiles = {name: seen.quantile(share) / 1e6 for name, share in QUANTILES.items()}
    steps = [(nanos / 1e6, count) for nanos, count in seen.steps()]
    return Times(seen.count, seen.mean / 1e6, seen.max / 1e6, quantiles, steps)


@dataclass(frozen=True)
class Seen:
    """What became of the requests to one model, or to all. sent, received: bytes."""

    name: str
    times: Times
    failures: tuple[Failure, ...]
    sent: int
    received: int

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(one.count for one in self.failures)


@dataclass(frozen=True)
class Sample:
    """One load. seconds: in which requests were counted. lag: of an open loop, how late they were sent.

    server: what its processes used, if they are known. generator_cpu: CPU seconds of the load generator;
    busiest: the largest share of a core that one of its threads used.
    """

    load: str
    rate: float | None
    concurrency: int | None
    seconds: float
    models: tuple[Seen, ...]
    all: Seen
    lag: Times | None
    opened: int
    generator_cpu: float
    busiest: float
    server: Spent | None = None
    interrupted: bool = False

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return self.all.times.count / self.seconds if self.seconds else 0.0

    @property
    def asked(self) -> int:
        """All requests that were counted, those that could not be sent included."""
        return self.all.times.count + self.all.failed

    @property
    def sent(self) -> int:
        """The requests that were sent: without those for which there was no connection, or no room."""
        return self.asked - sum(one.count for one in self.all.failures if one.kind in NEVER_SENT)

    def each(self, total: float) -> float:
        """Returns a total's part for each request that was sent."""
        return total / self.sent if self.sent else 0.0

    def record(self) -> dict[str, Any]:
        """Returns everything but the steps, as JSON has it. Times in milliseconds, the processors' in µs."""
        record = asdict(self)
        for times in (record["all"]["times"], record["lag"], *(one["times"] for one in record["models"])):
            if times:
                del times["steps"]
        record["requests"], record["per_second"] = self.asked, self.per_second
        record["generator_cpu_us"] = self.each(self.generator_cpu) * 1e6
        if self.server:
            record["server_cpu_us"] = self.each(self.server.cpu) * 1e6
        return record


def sample_of(plan: CorePlan, outcome: BenchOutcome, server: Spent | None, interrupted: bool) -> Sample:
    """Reads what the core tells of a load."""
    models = tuple(
        Seen(
            group.name,
            times_of(seen.times),
            tuple(Failure(*one) for one in seen.failures),
            seen.sent,
            seen.received,
        )
        for group, seen in zip(plan.groups, outcome.groups, strict=True)
    )
    closed = plan.rate is None
    return Sample(
        load=load_name(plan),
        rate=plan.rate,
        concurrency=plan.concurrency if closed else None,
        seconds=outcome.seconds,
        models=models,
        all=models[0] if len(models) == 1 else merged(models),
        lag=None if closed else times_of(outcome.lag),
        opened=outcome.opened,
        generator_cpu=outcome.cpu_seconds,
        busiest=outcome.busiest,
        server=server,
        interrupted=interrupted,
    )


def load_name(plan: CorePlan) -> str:
    """Returns how a load is called: its callers, or its rate."""
    if plan.rate is None:
        return f"{plan.concurrency} caller{'s' if plan.concurrency > 1 else ''}"
    rate = f"{plan.rate:,.0f}" if plan.rate >= 100 else f"{plan.rate:g}"
    return f"{rate}/s {plan.arrivals}"


def merged(models: Sequence[Seen]) -> Seen:
    """Returns the sum of several models."""
    steps: dict[float, int] = {}
    failures: dict[tuple[str, int], Failure] = {}
    for seen in models:
        for time, count in seen.times.steps:
            steps[time] = steps.get(time, 0) + count
        for one in seen.failures:
            before = failures.get((one.kind, one.number))
            count = one.count + (before.count if before else 0)
            text = before.text if before else one.text
            failures[one.kind, one.number] = Failure(one.kind, one.number, count, text)
    total = sum(seen.times.count for seen in models)
    mean = sum(seen.times.mean * seen.times.count for seen in models) / total if total else 0.0
    ordered = sorted(steps.items())
    times = Times(
        total,
        mean,
        max((seen.times.max for seen in models), default=0.0),
        {name: quantile_of(ordered, share) for name, share in QUANTILES.items()},
        ordered,
    )
    sent, received = (sum(getattr(seen, name) for seen in models) for name in ("sent", "received"))
    return Seen("all", times, tuple(failures.values()), sent, received)


def quantile_of(steps: Sequence[tuple[float, int]], share: float) -> float:
    """Returns a time that this share of all do not exceed; 0 without any."""
    total = sum(count for _, count in steps)
    rank = max(1, math.ceil(share * total))
    passed = 0
    for time, count in steps:
        passed += count
        if passed >= rank:
            return time
    return 0.0
