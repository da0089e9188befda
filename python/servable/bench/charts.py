"""Charts by matplotlib, which the extra ``bench`` installs: SVG or PNG, by the file's ending."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from servable.bench.sample import Sample
from servable.errors import MissingPackageError, ServableError, UsageError

ENDINGS = (".svg", ".png")
_INSTALL = "charts need matplotlib, which is not installed: pip install 'servable[bench]'"


def check_chart(path: str) -> str:
    """Returns the name of a chart's file. Raises ``UsageError`` and ``MissingPackageError``."""
    if not path.endswith(ENDINGS):
        raise UsageError(f"a chart is a file that ends in .svg or .png, got {path}")
    _pyplot()
    return path


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingPackageError(_INSTALL) from None
    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def percentile_curve(steps: Sequence[tuple[float, int]]) -> tuple[list[float], list[float]]:
    """Returns, for each time, one over the share of requests that took longer, and the time."""
    total = sum(count for _, count in steps)
    passed, across, up = 0, [], []
    for time, count in steps:
        passed += count
        across.append(total / max(total - passed, 0.5))
        up.append(time)
    return across, up


def draw_latencies(samples: Sequence[Sample], title: str, path: str) -> None:
    """Draws the distribution of latencies of each load: each tick to the right leaves out a tenth as many."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for sample in samples:
        across, up = percentile_curve(sample.all.times.steps)
        if across:
            axes.plot(across, up, label=sample.load)
    axes.set_xscale("log")
    ticks = {1: "0", 2: "50", 10: "90", 100: "99", 1000: "99.9", 10_000: "99.99", 100_000: "99.999"}
    longest = max((sample.all.times.count for sample in samples), default=1)
    shown = [tick for tick in ticks if tick <= max(10, longest)]
    axes.set_xticks(shown, [ticks[tick] for tick in shown])
    axes.minorticks_off()
    axes.set_xlabel("percentile")
    _finish(pyplot, figure, axes, title, path)


def draw_throughput(samples: Sequence[Sample], title: str, path: str) -> None:
    """Draws what each load reached, and how long its answers took."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name in ("p50", "p99"):
        across = [sample.per_second for sample in samples]
        up = [sample.all.times.quantile(name) for sample in samples]
        axes.plot(across, up, marker="o", label=name)
    for sample in samples:
        at = (sample.per_second, sample.all.times.quantile("p99"))
        axes.annotate(sample.load, at, textcoords="offset points", xytext=(4, 4), fontsize=8)
    # Room for the last load's name.
    axes.set_xlim(0, 1.2 * max((sample.per_second for sample in samples), default=0) or 1)
    axes.set_xlabel("answers per second")
    _finish(pyplot, figure, axes, title, path)


def _finish(pyplot: Any, figure: Any, axes: Any, title: str, path: str) -> None:
    axes.set_title(title)
    axes.set_ylabel("milliseconds")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise ServableError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        pyplot.close(figure)
