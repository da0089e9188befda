"""The difference between two servers, with its uncertainty. Pure.

Both are measured by turns, so that a machine that gets slower does so for both: what counts is the ratio of
each round. Its mean is taken of logarithms (half and double cancel out), and its confidence interval by
bootstrap: the rounds are drawn again and again, with replacement, and the middle 95 % of the means are shown.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 5000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """B over A: the geometric mean of the rounds' ratios, and the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """True if the interval leaves out 1: a difference that chance does not explain."""
        return self.low > 1 or self.high < 1


def ratio(first: Sequence[float], second: Sequence[float], seed: int = 1) -> Ratio | None:
    """Returns second over first, round by round; None without rounds in which both are above 0."""
    logs = [math.log(b / a) for a, b in zip(first, second, strict=True) if a > 0 and b > 0]
    if not logs:
        return None
    chance = random.Random(seed)
    size = len(logs)
    means = sorted(math.fsum(chance.choices(logs, k=size)) / size for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    low = means[int(tail * RESAMPLES)]
    high = means[min(RESAMPLES - 1, int((1 - tail) * RESAMPLES))]
    return Ratio(math.exp(math.fsum(logs) / size), math.exp(low), math.exp(high))
