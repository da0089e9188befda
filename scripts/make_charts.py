"""Draws the charts of docs/charts.md from the tables of docs/performance.md and docs/protocols.md.

`make docs` calls it. Each file names the hash of its figures, by which a test finds charts older than
their tables.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
IMAGES = DOCS / "images"
INK = "#010203"  # stands for the colour of text, which the style sheet sets
STYLE = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
OURS, THEIRS = "#2da44e", "#8c96a0"
SHADES = ("#9be9a8", "#40c463", "#2da44e", "#216e39")

Row = dict[str, str]


@dataclass(frozen=True)
class Chart:
    """Bars: for each label a number of each series, in that order."""

    title: str
    series: dict[str, list[float]]
    labels: list[str]
    mark: float | None = None
    """Where a line stands that the bars are compared with."""
    log: bool = False

    def hash(self) -> str:
        """Returns the hash of everything that is drawn."""
        drawn = [self.title, self.series, self.labels, self.mark, self.log]
        return hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16]


def table(page: str, *columns: str) -> list[Row]:
    """Returns the rows of the first table of a page in ``docs`` that has these columns."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        head = cells(line)
        if lines[number + 1 : number + 2] and lines[number + 1].startswith("| ---") and {*columns} <= {*head}:
            rows = []
            for row in lines[number + 2 :]:
                if not row.startswith("|"):
                    break
                rows.append(dict(zip(head, cells(row), strict=True)))
            return rows
    raise LookupError(f"docs/{page} has no table with the columns {', '.join(columns)}")


def cells(line: str) -> list[str]:
    """Returns the cells of a line of a table; none of another."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def number(cell: str) -> float:
    """Returns the number that a cell begins with: ``**1,234 (1,200 to 1,250)**`` is 1234."""
    found = re.match(r"-?[\d,]*\.?\d+", cell.strip("*"))
    if not found:
        raise ValueError(f"no number: {cell!r}")
    return float(found[0].replace(",", ""))


def serving() -> Chart:
    """Throughput over REST, as a multiple of TensorFlow Serving's."""
    columns = {
        f"{clients} clients" if clients > 1 else "1 client": f"req/s ÷ TensorFlow Serving, {clients}"
        for clients in (1, 4, 16, 64)
    }
    rows = [row for row in _ratios() if row["over"] == "REST"]
    series = {name: [_column(row, start) for row in rows] for name, start in columns.items()}
    title = "Requests/s over REST, as a multiple of TensorFlow Serving's"
    return Chart(title, series, [row["model"] for row in rows], mark=1.0)


def _ratios() -> list[Row]:
    return table("performance.md", "model", "over", "req/s ÷ TensorFlow Serving, 16: ≥ 1.00")


def _column(row: Row, start: str) -> float:
    (name,) = [column for column in row if column.startswith(f"{start}:")]
    return number(row[name])


def _of_both(model: str, column: str, title: str, log: bool = False) -> Chart:
    """Returns a chart of a column for both servers, by model; over gRPC where REST was not measured."""
    found: dict[str, dict[str, float]] = {}
    for row in table("performance.md", model, "over", "server", column):
        place = found.setdefault(row[model], {})
        if row["over"] == "REST" or row["server"] not in place:
            place[row["server"]] = number(row[column])
    servers = ("Servable", "TensorFlow Serving")
    series = {server: [found[one][server] for one in found] for server in servers}
    return Chart(title, series, list(found), log=log)


def memory() -> Chart:
    """Resident memory after a load."""
    return _of_both("resident, MB", "after it", "Resident memory after a load, MB")


def first() -> Chart:
    """The first request after the start."""
    title = "The first request after the start, ms (logarithmic)"
    return _of_both("requests after the start, ms", "1st", title, log=True)


def protocols() -> Chart:
    """What each form of a picture costs the server without its model."""
    column = "CPU with next to no model, ms"
    rows = [row for row in table("protocols.md", "form", "bytes sent", column) if row[column]]
    title = "CPU time for a picture of 224x224x3 floats without the model, ms"
    labels = [row["form"].replace("`", "") for row in rows]
    return Chart(title, {"Servable": [number(row[column]) for row in rows]}, labels)


CHARTS: dict[str, Callable[[], Chart]] = {
    "serving.svg": serving,
    "memory.svg": memory,
    "first.svg": first,
    "protocols.svg": protocols,
}
"""The charts by the names of their files in ``docs/images``."""


def drawn(chart: Chart) -> str:
    """Returns a chart as SVG, always the same. Text takes the colour of the reader's theme."""
    import io

    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    ink = {
        key: INK for key in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    }
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "charts", "font.size": 9, **ink}):
        rows = len(chart.labels)
        figure, axes = pyplot.subplots(
            figsize=(8, 1.2 + rows * (0.22 + 0.16 * len(chart.series))), layout="constrained"
        )
        _bars(axes, chart)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    text = file.getvalue().replace(INK, "currentColor")
    head = f"\\1\n <!-- figures: {chart.hash()} -->\n {STYLE}"
    return re.sub(r"(<svg [^>]*>)", head, text, count=1)


def _bars(axes: Any, chart: Chart) -> None:
    rows, width = len(chart.labels), 0.8 / len(chart.series)
    colours = SHADES if len(chart.series) > 2 else (OURS, THEIRS)
    for place, (name, values) in enumerate(chart.series.items()):
        across = [row + (place - (len(chart.series) - 1) / 2) * width for row in range(rows)]
        bars = axes.barh(across, values, height=width * 0.9, color=colours[place], label=name)
        axes.bar_label(
            bars, labels=[f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in values], padding=2
        )
    axes.set_yticks(range(rows), chart.labels)
    axes.invert_yaxis()
    axes.set_title(chart.title, loc="left")
    if chart.log:
        axes.set_xscale("log")
    if chart.mark is not None:
        axes.axvline(chart.mark, color=INK, linewidth=0.8)
    axes.margins(x=0.12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(chart.series) > 1:
        axes.figure.legend(loc="outside lower center", ncols=len(chart.series), frameon=False)


if __name__ == "__main__":
    for name, make in CHARTS.items():
        (IMAGES / name).write_text(drawn(make()), encoding="utf-8")
