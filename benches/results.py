"""The results of a run, and their comparison with the targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from floors import Run
from load import APART, FREE, SHARED, Sample
from micro import Case
from ripple import Round
from start import Memory, Start

SERVABLE, FLOOR, ECHO, OTHER = "servable", "hyper", "echo", "other"
DECODED, PRINTED = (
    "floats of 8 characters, flat, spaced",
    "float, -1 to 1",
)  # the micro benchmarks' cases with a target


LARGE_MB = {"ripple": 500, "returned": 100}
"""Sizes, in MB, of the models that are loaded and unloaded."""


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Computes the spread of at least one value."""
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def scaled(values: Spread, factor: float) -> Spread:
    """Multiplies each by ``factor``."""
    return Spread(values.median * factor, values.low * factor, values.high * factor)


@dataclass
class Point:
    """One request over some connections, in a layout of cores: by server, one sample for each round."""

    request: str
    title: str
    connections: int
    layout: str
    body_bytes: int
    reply_bytes: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def of(self, server: str, figure: Callable[[Sample], float | None]) -> Spread | None:
        """Returns a figure of ``server``; None if it was not measured."""
        values = [value for value in map(figure, self.samples.get(server, [])) if value is not None]
        return spread(values) if values else None


@dataclass
class Results:
    """All results of one run; ``bare`` is by request, then way, with a run for each round."""

    points: list[Point] = field(default_factory=list)
    bare: dict[str, dict[str, list[Run]]] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    micro: list[Case] = field(default_factory=list)
    ripple: list[Round] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    """Resident bytes after each cycle of loading and unloading a large model."""

    def point(self, request: str, connections: int, layout: str = FREE) -> Point | None:
        """Returns the point, if it was measured."""
        for point in self.points:
            if (point.request, point.connections, point.layout) == (request, connections, layout):
                return point
        return None

    def bare_runs(self, request: str, way: str, figure: Callable[[Run], float]) -> list[float]:
        """Returns the figure of the bare run in each round; empty if it was not measured."""
        return [figure(run) for run in self.bare.get(request, {}).get(way, [])]


@dataclass(frozen=True)
class Check:
    """A target, its limit and the measured value. Lower is better unless ``at_least``."""

    what: str
    limit: float
    unit: str
    measured: Spread
    at_least: bool = False

    @property
    def met(self) -> bool:
        """True if the median meets the target."""
        return self.measured.median >= self.limit if self.at_least else self.measured.median <= self.limit


def checks(results: Results) -> list[Check]:
    """Returns every target whose figures were measured."""
    found = [*_tiny(results), *_large(results), *_photo(results), *_grpc(results)]
    found += [*_process(results), *_micro(results)]
    return [check for check in found if check is not None]


def _check(what: str, limit: float, unit: str, measured: Spread | None) -> Check | None:
    return None if measured is None else Check(what, limit, unit, measured)


def _cpu(sample: Sample) -> float | None:
    return sample.cpu_us


def _of(point: Point | None, figure: Callable[[Sample], float | None], server: str = SERVABLE) -> list[float]:
    """Returns the figure in each round; empty if it was not measured."""
    samples = [] if point is None else point.samples.get(server, [])
    return [value for value in map(figure, samples) if value is not None]


def _over(ours: list[float], *floors: list[float]) -> Spread | None:
    """Divides ours by the sum of the floors, round by round: the machine's slow moments affect both."""
    if not ours or not all(floors):
        return None
    return spread(mine / sum(theirs) for mine, *theirs in zip(ours, *floors, strict=True))


def _tiny(results: Results) -> Iterable[Check | None]:
    sixteen = results.point("tiny", 16)
    cpu, rate = _of(sixteen, _cpu), _of(sixteen, lambda sample: sample.per_second)
    if cpu and rate:
        yield Check("tiny model, 16 connections: CPU per request", 30, "µs", spread(cpu))
        yield Check("tiny model, 16 connections: requests/s", 30_000, "/s", spread(rate), at_least=True)
    for way, told in (("together", "bare runs on every core at once"), ("caller", "bare runs in one loop")):
        bare = results.bare_runs("tiny", way, lambda run: run.cpu_us)
        what = f"tiny model, 16 connections: CPU over the sum of both floors, {told}"
        yield _check(what, 1.5, "x", _over(cpu, _of(sixteen, _cpu, FLOOR), bare))
    yield from _p50(results, APART, "rested")
    yield from _p50(results, SHARED, "caller")


def _p50(results: Results, layout: str, way: str) -> Iterable[Check | None]:
    one = results.point("tiny", 1, layout)
    ours, floor = (_of(one, lambda sample: sample.p50_us, server) for server in (SERVABLE, FLOOR))
    what = f"tiny model, one connection, {layout}: p50 over"
    yield _check(f"{what} the bare hyper server's", 1.25, "x", _over(ours, floor))
    bare = results.bare_runs("tiny", way, lambda run: run.p50_us)
    yield _check(f"{what} the sum of both floors", 1.5, "x", _over(ours, floor, bare))


def _large(results: Results) -> Iterable[Check | None]:
    cpu = _of(results.point("floats", 1), _cpu)
    what = "150,528 floats in and out: CPU per request"
    yield _check(what, 6, "ms", scaled(spread(cpu), 1e-3) if cpu else None)


def _photo(results: Results) -> Iterable[Check | None]:
    alone = _of(results.point("photo_stub", 1), _cpu)
    what = "photo request with an empty model behind it: CPU per request"
    yield _check(what, 0.5, "ms", scaled(spread(alone), 1e-3) if alone else None)
    photo = results.point("photo", 1)
    cpu, p50 = _of(photo, _cpu), _of(photo, lambda sample: sample.p50_us)
    yield _added("photo request: p50", p50, results.bare_runs("photo", "caller", lambda run: run.p50_us))
    yield _added("photo request: CPU", cpu, results.bare_runs("photo", "caller", lambda run: run.cpu_us))


def _added(what: str, ours: list[float], bare: list[float], limit: float = 0.5) -> Check | None:
    if not ours or not bare:
        return None
    added = spread((both - model) * 1e-3 for both, model in zip(ours, bare, strict=True))
    return Check(f"{what} added to the bare run", limit, "ms", added)


def _grpc(results: Results) -> Iterable[Check | None]:
    sixteen = results.point("grpc_tiny", 16)
    rate = [_of(sixteen, lambda sample: sample.per_second, server) for server in (SERVABLE, ECHO)]
    cpu = [_of(sixteen, _cpu, server) for server in (SERVABLE, ECHO)]
    over = "over the bare C++ gRPC server's"
    measured = _over(*rate)
    if measured is not None:
        yield Check(f"gRPC, tiny model, 16 calls at once: calls/s {over}", 1, "x", measured, at_least=True)
    yield _check(f"gRPC, tiny model, 16 calls at once: CPU per call {over}", 1, "x", _over(*cpu))
    for layout in (APART, SHARED):
        one = results.point("grpc_tiny", 1, layout)
        p50 = [_of(one, lambda sample: sample.p50_us, server) for server in (SERVABLE, ECHO)]
        yield _check(f"gRPC, tiny model, one call at a time, {layout}: p50 {over}", 1, "x", _over(*p50))
    picture = _of(results.point("grpc_picture", 1), _cpu)
    bare = results.bare_runs("grpc_picture", "caller", lambda run: run.cpu_us)
    yield _added("gRPC, 602 KB in, 4 KB out: CPU", picture, bare, 0.3)


def _process(results: Results) -> Iterable[Check | None]:
    if results.starts:
        yield _check("start to first answer", 0.8, "s", spread(start.seconds for start in results.starts))
        resident = spread(start.resident / 1e6 for start in results.starts)
        yield _check("resident memory at the first answer", 340, "MB", resident)
    if results.memory:
        after = spread(memory.after_large / 1e6 for memory in results.memory)
        yield _check("resident memory after large requests", 360, "MB", after)
    if results.ripple:
        ripple = spread(one.ratio for one in results.ripple)
        what = f"p99 of a model while one of {LARGE_MB['ripple']} MB comes and goes, over the quiet one"
        yield _check(what, 1.2, "x", ripple)
    if results.returned:
        last = results.returned[-1] / results.returned[0]
        what = (
            f"resident after {len(results.returned)} loads and unloads of {LARGE_MB['returned']} MB, "
            "over after the first"
        )
        yield _check(what, 1.1, "x", Spread(last, last, last))


def _micro(results: Results) -> Iterable[Check | None]:
    for case in results.micro:
        if (case.bench, case.name) == ("decode", DECODED):
            rate = case.figures["MB/s"]
            yield Check("decoding JSON floats", 500, "MB/s", Spread(rate, rate, rate), at_least=True)
        if (case.bench, case.name) == ("encode", PRINTED):
            each = case.figures["ns/value"]
            yield Check("printing a float", 40, "ns", Spread(each, each, each))
