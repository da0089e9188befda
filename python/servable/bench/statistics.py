"""The difference between two servers, with its uncertainty. Pure.

Both are measured by turns, so that a machine that gets slower does so for both: what counts is the ratio of
each round. Its mean is taken of logarithms (half and double cancel out), and its confidence interval by
Student's t of them, as the rounds are few: below five nothing is told but the mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_ROUNDS = 5
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """B over A: the geometric mean of the rounds' ratios, and the ends of its confidence interval.

    without: rounds that have no ratio, as one of the two is 0; the mean is that of the others, None if there
    are none. low and high are None, and nothing is concluded, if there are such rounds, or too few rounds.
    """

    mean: float | None
    low: float | None
    high: float | None
    rounds: int
    without: int = 0

    @property
    def differs(self) -> bool:
        """True if the interval leaves out 1: a difference that chance does not explain."""
        return self.low is not None and self.high is not None and (self.low > 1 or self.high < 1)


def ratio(first: Sequence[float], second: Sequence[float]) -> Ratio | None:
    """Returns second over first, round by round; None if all are 0: that is not known of either."""
    if not any(first) and not any(second):
        return None
    rounds = len(first)
    logs = [math.log(b / a) for a, b in zip(first, second, strict=True) if a > 0 and b > 0]
    without = rounds - len(logs)
    mean = statistics.fmean(logs) if logs else None
    if mean is None or without or rounds < FEWEST_ROUNDS:
        return Ratio(None if mean is None else math.exp(mean), None, None, rounds, without)
    half = student_t(rounds - 1) * statistics.stdev(logs) / math.sqrt(rounds)
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), rounds)


def student_t(freedom: int) -> float:
    """Returns how many standard errors the interval is wide to either side, for 4 degrees of freedom or more.

    By the expansion around the normal distribution (Abramowitz and Stegun, 26.7.5): there at most 0.0009 off.
    """
    x = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
