"""What was measured, and how it stands to what was aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from floors import Run
from load import Sample
from micro import Case
from start import Memory, Start

SERVABLE, FLOOR, OTHER = "servable", "hyper", "other"
DECODED, PRINTED = "float, 4 decimals", "float, -1 to 1"  # the micro benchmarks' cases with a target


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def scaled(values: Spread, factor: float, offset: float = 0.0) -> Spread:
    """``(value + offset) * factor`` of each."""
    return Spread(*((value + offset) * factor for value in (values.median, values.low, values.high)))


@dataclass
class Point:
    """One request over so many connections: by server, one sample for each round."""

    request: str
    title: str
    connections: int
    body_bytes: int
    reply_bytes: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def of(self, server: str, figure: Callable[[Sample], float | None]) -> Spread | None:
        """A figure of ``server``; None where it was not measured."""
        values = [value for value in map(figure, self.samples.get(server, [])) if value is not None]
        return spread(values) if values else None


@dataclass
class Results:
    """Everything one run found; ``bare`` is by request, then placement, with a run for each round."""

    points: list[Point] = field(default_factory=list)
    bare: dict[str, dict[str, list[Run]]] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    micro: list[Case] = field(default_factory=list)

    def point(self, request: str, connections: int) -> Point | None:
        """The point, if it was measured."""
        for point in self.points:
            if (point.request, point.connections) == (request, connections):
                return point
        return None

    def bare_cpu(self, request: str) -> Spread | None:
        """CPU time per bare run in the cheaper placement, microseconds."""
        spreads = [spread(run.cpu_us for run in runs) for runs in self.bare.get(request, {}).values()]
        return min(spreads, key=lambda cpu: cpu.median) if spreads else None


@dataclass(frozen=True)
class Check:
    """A target, its limit and what was measured. Lower is better unless ``at_least``."""

    what: str
    limit: float
    unit: str
    measured: Spread
    at_least: bool = False

    @property
    def met(self) -> bool:
        """By the median."""
        return self.measured.median >= self.limit if self.at_least else self.measured.median <= self.limit


def checks(results: Results) -> list[Check]:
    """Every target whose figures were measured."""
    found = [*_tiny(results), *_large(results), *_photo(results), *_process(results), *_micro(results)]
    return [check for check in found if check is not None]


def _check(
    what: str, limit: float, unit: str, measured: Spread | None, at_least: bool = False
) -> Check | None:
    return None if measured is None else Check(what, limit, unit, measured, at_least)


def _cpu(point: Point | None, server: str = SERVABLE) -> Spread | None:
    return None if point is None else point.of(server, lambda sample: sample.cpu_us)


def _tiny(results: Results) -> Iterable[Check | None]:
    one, sixteen = results.point("tiny", 1), results.point("tiny", 16)
    cpu, floor, bare = _cpu(sixteen), _cpu(sixteen, FLOOR), results.bare_cpu("tiny")
    yield _check("tiny model, 16 connections: CPU per request", 30, "µs", cpu)
    rate = None if sixteen is None else sixteen.of(SERVABLE, lambda sample: sample.per_second)
    yield _check("tiny model, 16 connections: requests/s", 30_000, "/s", rate, at_least=True)
    if cpu and floor and bare:
        ratio = scaled(cpu, 1 / (floor.median + bare.median))
        yield _check("tiny model, 16 connections: CPU over the sum of both floors", 1.5, "x", ratio)
    yield _p50(one)


def _p50(one: Point | None) -> Check | None:
    if one is None:
        return None
    ours, floor = one.of(SERVABLE, lambda sample: sample.p50_us), one.of(FLOOR, lambda sample: sample.p50_us)
    ratio = scaled(ours, 1 / floor.median) if ours and floor else None
    return _check("tiny model, one connection: p50 over the bare hyper server's", 1.25, "x", ratio)


def _large(results: Results) -> Iterable[Check | None]:
    cpu = _cpu(results.point("floats", 1))
    yield _check("150,528 floats in and out: CPU per request", 6, "ms", cpu and scaled(cpu, 1e-3))


def _photo(results: Results) -> Iterable[Check | None]:
    alone, whole = _cpu(results.point("photo_stub", 1)), _cpu(results.point("photo", 1))
    what = "photo request with an empty model behind it: CPU per request"
    yield _check(what, 0.5, "ms", alone and scaled(alone, 1e-3))
    bare = results.bare_cpu("photo")
    if whole and bare:
        added = scaled(whole, 1e-3, -bare.median)
        yield _check("photo request: CPU added to the bare run", 0.5, "ms", added)


def _process(results: Results) -> Iterable[Check | None]:
    if results.starts:
        yield _check("start to first answer", 0.8, "s", spread(start.seconds for start in results.starts))
        resident = spread(start.resident / 1e6 for start in results.starts)
        yield _check("resident memory at the first answer", 340, "MB", resident)
    if results.memory:
        after = spread(memory.after_large / 1e6 for memory in results.memory)
        yield _check("resident memory after large requests", 360, "MB", after)


def _micro(results: Results) -> Iterable[Check | None]:
    for what, bench, case, column, limit, unit, at_least in (
        ("decoding JSON floats", "decode", DECODED, "MB/s", 500, "MB/s", True),
        ("printing a float", "encode", PRINTED, "ns/value", 40, "ns", False),
    ):
        values = [one.figures[column] for one in results.micro if (one.bench, one.name) == (bench, case)]
        if values:
            yield _check(what, limit, unit, spread(values), at_least)
