"""The search for the highest rate within a latency aim. Pure.

Rates are doubled until one misses the aim, or halved until one meets it; then the gap is bisected, in
proportion, until it is narrow. A rate is tried up to three times, and the majority decides: one slow moment
of the machine decides nothing.
"""

from __future__ import annotations

from servable.bench.sample import Sample

TRIES = 3
LOST_SHARE = 0.001
"""Requests that may fail, of all, for a rate to meet the aim."""


class RateSearch:
    """One search. rate: the one to try next, None once it is over. found: the highest that met the aim."""

    def __init__(self, start: float, precision: float = 0.05, lowest: float = 0.1) -> None:
        if not start > 0 or not precision > 0:
            raise ValueError(f"a start and a precision above 0, got {start} and {precision}")
        self.rate: float | None = max(start, lowest)
        self.found: float | None = None
        self._missed: float | None = None
        self._precision = precision
        self._lowest = lowest
        self._met_tries = 0
        self._missed_tries = 0

    def tell(self, met: bool) -> None:
        """Says whether the load at ``rate`` met the aim."""
        if self.rate is None:
            raise ValueError("the search is over")
        self._met_tries += met
        self._missed_tries += not met
        needed = TRIES // 2 + 1
        if max(self._met_tries, self._missed_tries) < needed:
            return
        if self._met_tries >= needed:
            self.found = self.rate
        else:
            self._missed = self.rate
        self._met_tries = self._missed_tries = 0
        self.rate = self._next()

    def _next(self) -> float | None:
        if self._missed is None:
            return self.found * 2 if self.found is not None else None
        if self.found is None:
            return None if self._missed <= self._lowest else max(self._missed / 2, self._lowest)
        if self._missed <= self.found * (1 + self._precision):
            return None
        return float((self._missed * self.found) ** 0.5)


def meets(sample: Sample, quantile: str, aim: float) -> bool:
    """True if a load was answered within the aim, in milliseconds; all was sent, next to none failed."""
    unsent = any(one.kind == "unsent" for one in sample.all.failures)
    lost = sample.all.failed > LOST_SHARE * sample.asked
    return (
        sample.all.times.count > 0 and not unsent and not lost and sample.all.times.quantile(quantile) <= aim
    )
