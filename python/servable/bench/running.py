"""Puts a load on a server, watches it, and says what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from servable import _core
from servable.bench.plan import CorePlan
from servable.bench.process import between, usage
from servable.bench.sample import Sample, sample_of
from servable.errors import ServableError

GLANCE = 0.25
"""Seconds between two looks at a load."""
PATIENCE = 5.0
"""Seconds without any good answer, but with failures, after which the server is given up."""


class GoneError(ServableError):
    """Nothing but failures came for some seconds; ``sample`` is what came before."""

    def __init__(self, text: str, sample: Sample) -> None:
        super().__init__(text)
        self.sample = sample


Show = Callable[[float, int, int, "_core.BenchTimes"], None]
"""Gets, while a load runs: seconds since requests are counted, good answers, failures, times."""


def run(plan: CorePlan, pids: tuple[int, ...], show: Show, patience: float = PATIENCE) -> Sample:
    """Runs a load to its end. Ctrl-C ends it, and the sample then says so.

    Raises ``ServableError`` for a plan that cannot be run, and ``GoneError`` for a server that is gone.
    """
    try:
        running = _core.BenchRun(plan)
    except _core.CoreError as error:
        raise ServableError(str(error.args[-1])) from None
    interrupted, watch = False, Watch(patience)
    before = None
    try:
        while not running.wait_measuring(GLANCE):
            pass
        before = usage(pids)
        begun = time.monotonic()
        while not running.wait(GLANCE):
            good, failed, times = running.progress()
            now = time.monotonic()
            show(now - begun, good, failed, times)
            if watch.is_gone(now, good, failed, times.max / 1e9):
                running.stop()
    except KeyboardInterrupt:
        interrupted = True
        running.stop()
    after = usage(pids)
    try:
        outcome = running.outcome()
    except _core.CoreError as error:
        raise ServableError(str(error.args[-1])) from None
    sample = sample_of(plan, outcome, between(before, after), interrupted)
    if watch.gone:
        first = max(sample.all.failures, key=lambda one: one.count)
        text = f"no request was answered for {watch.patience:g} s: {first.shown} ({first.text or 'no text'})"
        raise GoneError(text, sample)
    return sample


class Watch:
    """Sees whether anything but failures comes. Pure."""

    def __init__(self, patience: float) -> None:
        self.gone = False
        self.patience = patience
        self._good = 0
        self._failed = 0
        self._since: float | None = None

    def is_gone(self, now: float, good: int, failed: int, longest: float) -> bool:
        """Says at ``now`` whether the server is given up, by the answers and failures so far.

        longest: seconds that a good answer took at most. Where answers take long, others may be on their way.
        """
        self.patience = max(self.patience, 2 * longest)
        if good > self._good:
            self._since = None
        elif failed > self._failed:
            # Where nothing ends at all, requests wait: they have a timeout.
            self._since = now if self._since is None else self._since
            self.gone = self.gone or now - self._since >= self.patience
        self._good, self._failed = good, failed
        return self.gone
