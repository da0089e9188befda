"""Which versions stay in memory: hit rates of the decision in ``lifecycle/residency.py``, beside plain LRU.

    python benches/residency.py [--models 1000] [--room 0.05 0.1 0.3] [--requests 15000]

Pure and quick: no server, no engine, nothing loaded. Prints a Markdown table; docs/many-models.md has one.
Every traffic comes from a generator with a fixed seed, so that the same command prints the same table.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import random
from collections.abc import Callable, Iterator

from servable.lifecycle.residency import Residency, Resident

REQUESTS_EACH_SECOND = 100.0
Trace = Iterator[int]


def zipf(models: int, exponent: float, chance: random.Random) -> Callable[[], int]:
    """Returns what draws a model: number 0 is the most popular."""
    weights = list(itertools.accumulate(1 / (rank + 1) ** exponent for rank in range(models)))
    return lambda: bisect.bisect_left(weights, chance.random() * weights[-1])


def steady(models: int, exponent: float) -> Trace:
    """Yields models by Zipf's law."""
    draw = zipf(models, exponent, random.Random(1))
    while True:
        yield draw()


def swept(models: int, exponent: float) -> Trace:
    """Likewise; a fifth of the requests asks for one model after the other, as a monitor does."""
    draw, chance = zipf(models, exponent, random.Random(2)), random.Random(3)
    sweep = itertools.cycle(range(models))
    while True:
        yield next(sweep) if chance.random() < 0.2 else draw()


def shifting(models: int, exponent: float) -> Trace:
    """Likewise; every 200 s of it, the popularity moves on by a tenth of all models."""
    draw = zipf(models, exponent, random.Random(4))
    for count in itertools.count():
        yield (draw() + int(count / (200 * REQUESTS_EACH_SECOND)) * (models // 10)) % models


def round_and_round(models: int, _exponent: float) -> Trace:
    """Yields a third of the models, one after the other, again and again: what LRU is worst at."""
    return itertools.cycle(range(models // 3))


TRACES: dict[str, Callable[[int, float], Trace]] = {
    "Zipf": steady,
    "Zipf, a fifth in sequence": swept,
    "Zipf, popularity shifts": shifting,
    "round and round": round_and_round,
}


class Memory:
    """A simulated memory; sizes differ by a factor of four."""

    def __init__(self, residency: Residency[int], models: int) -> None:
        chance = random.Random(5)
        self.sizes = [chance.randint(50, 200) for _ in range(models)]
        self._residency = residency
        self._used: dict[int, float] = {}

    def ask(self, model: int, now: float) -> bool:
        """Uses a model, and loads it if it has to; returns whether it was there."""
        hit = model in self._used
        self._residency.used(model, 1, now)
        if not hit:
            while True:
                residents = {one: Resident(self.sizes[one], now - at) for one, at in self._used.items()}
                leaving = self._residency.leaves(residents, self.sizes[model], now)
                if leaving is None:
                    break
                del self._used[leaving]
                self._residency.left(leaving)
        self._used[model] = now
        return hit


def hit_rate(residency: Residency[int], models: int, trace: Trace, requests: int) -> float:
    """Returns the share of hits, after a tenth of the requests."""
    memory, hits, warm = Memory(residency, models), 0, requests // 10
    for count, model in enumerate(itertools.islice(trace, requests)):
        hit = memory.ask(model, count / REQUESTS_EACH_SECOND)
        hits += hit and count >= warm
    return hits / (requests - warm)


def budget(models: int, room: float) -> int:
    """Returns a budget for this share of all models."""
    return int(125 * models * room)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument(
        "--room", type=float, nargs="+", default=[0.05, 0.1, 0.3], help="shares of all models"
    )
    parser.add_argument("--exponents", type=float, nargs="+", default=[0.7, 1.0])
    parser.add_argument("--windows", type=float, nargs="+", default=[0.01, 0.1, 0.3])
    parser.add_argument("--requests", type=int, default=15_000)
    given = parser.parse_args()
    print(f"| traffic | room | LRU | {' | '.join(f'window {one:.0%}' for one in given.windows)} |")
    print("| --- | --- | --- |" + " --- |" * len(given.windows))
    for name, trace in TRACES.items():
        for exponent in given.exponents if "Zipf" in name else (0.0,):
            for room in given.room:
                bytes_ = budget(given.models, room)
                compared: list[Residency[int]] = [Residency(bytes_, doorkeeper=False)]
                compared += [Residency(bytes_, window=window) for window in given.windows]
                rates = [
                    hit_rate(one, given.models, trace(given.models, exponent), given.requests)
                    for one in compared
                ]
                shown = name if not exponent else f"{name}, s = {exponent:g}"
                print(f"| {shown} | {room:.0%} | {' | '.join(f'{rate:.1%}' for rate in rates)} |", flush=True)


if __name__ == "__main__":
    main()
