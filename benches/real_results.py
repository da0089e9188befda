"""The results of ``real.py``, and the figures and aims that follow from them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from floors import Run
from load import Sample
from results import OTHER, SERVABLE, Spread, spread

REST, GRPC = "REST", "gRPC"
RESTED = "rested"


@dataclass(frozen=True)
class Resident:
    """Resident bytes at rest before the load, the most while it ran, and at rest after it."""

    before: int
    most: int
    after: int


@dataclass
class Served:
    """One model over one protocol. Every list has an element for each round.

    samples: by clients, then by server. resident: by server, of those whose process is known. first_ms: by
    server, the milliseconds of the first ten requests after a start.
    """

    model: str
    title: str
    protocol: str
    samples: dict[int, dict[str, list[Sample]]] = field(default_factory=dict)
    resident: dict[str, list[Resident]] = field(default_factory=dict)
    first_ms: dict[str, list[list[float]]] = field(default_factory=dict)

    def add(self, clients: int, server: str, sample: Sample) -> None:
        """Adds the sample of a round."""
        self.samples.setdefault(clients, {}).setdefault(server, []).append(sample)

    def add_first(self, server: str, took: list[float], fresh: bool) -> None:
        """Adds the first requests of a round, if no other had reached the model."""
        if fresh:
            self.first_ms.setdefault(server, []).append(took)

    def of(self, clients: int, figure: Callable[[Sample], float | None], server: str) -> list[float]:
        """Returns the figure of each round; empty if it was not measured."""
        samples = self.samples.get(clients, {}).get(server, [])
        return [value for value in map(figure, samples) if value is not None]


@dataclass
class RealResults:
    """All results of one run. bare: by model, for each round the runs in every way and number of threads."""

    bare: dict[str, list[list[Run]]] = field(default_factory=dict)
    served: list[Served] = field(default_factory=list)


def best(rounds: Sequence[Sequence[Run]]) -> list[Run]:
    """Returns each round's runs in the way and number of threads with the most runs a second (median)."""
    return _chosen(rounds, lambda run: -run.per_second)


def quickest(rounds: Sequence[Sequence[Run]]) -> list[Run]:
    """Returns each round's runs, one right after another, in the way that has the lowest median of p50."""
    single = [[run for run in runs if run.threads == 1 and run.way != RESTED] for runs in rounds]
    return _chosen(single, lambda run: run.p50_us)


def rested(rounds: Sequence[Sequence[Run]]) -> list[Run]:
    """Returns each round's runs with a pause before each, as between the requests of a single client."""
    return [run for runs in rounds for run in runs if run.way == RESTED]


def _chosen(rounds: Sequence[Sequence[Run]], cost: Callable[[Run], float]) -> list[Run]:
    columns = list(zip(*rounds, strict=True))  # of one way and number of threads
    return list(min(columns, key=lambda runs: statistics.median(map(cost, runs)), default=()))


@dataclass(frozen=True)
class Aim:
    """A figure that has to be reached. figure: its name in ``figures``."""

    figure: str
    title: str
    limit: float
    at_least: bool = False

    def met(self, measured: Spread) -> bool:
        """Returns whether the median is within the limit."""
        return measured.median >= self.limit if self.at_least else measured.median <= self.limit


def aims(clients: Sequence[int]) -> list[Aim]:
    """Returns the aims, in the order of the table's columns, for these numbers of clients."""
    many = [count for count in clients if count > 1]
    found = [Aim(f"share {count}", f"req/s ÷ bare, {count}", 0.98, at_least=True) for count in many]
    found += [Aim(f"cost {count}", f"CPU ÷ bare's, {count}", 1 / 0.98) for count in many]
    if 1 in clients:
        found.append(Aim("added 1", "p50 above bare, 1, ms", 0.5))
        found.append(Aim("rested 1", "p50 above bare after a pause, 1, ms", 0.5))
    found += [Aim(f"waited {count}", f"p99 ÷ (n ÷ req/s), {count}", 1.25) for count in many]
    found += [
        Aim("faults", "faults/request", 50),
        Aim("kept", "memory after ÷ before", 1.1),
        Aim("first", "first ÷ tenth", 1.5),
    ]
    return found + [Aim(f"over {count}", f"req/s ÷ other, {count}", 1.0, at_least=True) for count in clients]


def figures(served: Served, bare: Sequence[Sequence[Run]]) -> dict[str, Spread]:
    """Returns the figures of a model over a protocol, by name; those that were not measured are left out."""
    found: dict[str, list[float]] = {}
    for clients in served.samples:
        found |= _of_load(served, clients, bare)
    faults = [served.of(clients, lambda sample: sample.faults, SERVABLE) for clients in served.samples]
    found["faults"] = [value for values in faults for value in values]
    resident = served.resident.get(SERVABLE, [])
    found["kept"] = [one.after / one.before for one in resident]
    found["first"] = [took[0] / took[-1] for took in served.first_ms.get(SERVABLE, [])]
    return {name: spread(values) for name, values in found.items() if values}


def _of_load(served: Served, clients: int, bare: Sequence[Sequence[Run]]) -> dict[str, list[float]]:
    rates = served.of(clients, lambda sample: sample.per_second, SERVABLE)
    others = served.of(clients, lambda sample: sample.per_second, OTHER)
    costs = served.of(clients, lambda sample: sample.cpu_us, SERVABLE)
    p99s = served.of(clients, lambda sample: sample.p99_us, SERVABLE)
    p50s = served.of(clients, lambda sample: sample.p50_us, SERVABLE)
    return {
        f"share {clients}": _ratios(rates, (run.per_second for run in best(bare))),
        f"cost {clients}": _ratios(costs, (run.cpu_us for run in best(bare))),
        f"waited {clients}": [p99 / 1e6 / (clients / rate) for p99, rate in zip(p99s, rates, strict=True)],
        f"added {clients}": _added_ms(p50s, quickest(bare)),
        f"rested {clients}": _added_ms(p50s, rested(bare)),
        f"over {clients}": _ratios(rates, others),
    }


def _added_ms(p50s_us: Iterable[float], bare: Iterable[Run]) -> list[float]:
    return [(p50 - run.p50_us) / 1e3 for p50, run in zip(p50s_us, bare, strict=False)]


def _ratios(ours: Iterable[float], theirs: Iterable[float]) -> list[float]:
    """Divides round by round; empty if there is nothing to divide by."""
    return [mine / other for mine, other in zip(ours, theirs, strict=False)]
