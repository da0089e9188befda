"""Draws the record as a chart, in the environment that has matplotlib.

    python benches/rivals/chart.py RECORD.json CHART.svg

One column a model: requests/s above, p99 below, at 16 clients. Text takes the colour of the reader's theme,
so light and dark pages show the same file.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

CLIENTS = "16"
INK = "#010203"  # stands for the colour of text, which the style sheet sets
OURS, THEIRS = "#2da44e", "#8c96a0"
STYLE = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
FIGURES = {
    f"requests/s at {CLIENTS} clients (more is better)": lambda sample: sample["per_second"],
    f"p99 at {CLIENTS} clients, ms (less is better)": lambda sample: sample["p99_us"] / 1e3,
}


def measured(record: dict[str, Any], question: str, figure: Any) -> dict[str, float]:
    """Returns the median of each server's rounds; servers that were not measured are left out."""
    found: dict[str, list[float]] = {}
    for run in record["runs"]:
        if run["question"] == question and CLIENTS in run["samples"]:
            found.setdefault(run["server"], []).append(figure(run["samples"][CLIENTS]))
    return {server: median(values) for server, values in found.items()}


def bad(record: dict[str, Any], question: str, server: str) -> int:
    """Returns how many requests were answered wrongly or failed, in all loads."""
    return sum(
        run["wrong"] + run["failed"] + sum(sample["errors"] for sample in run["samples"].values())
        for run in record["runs"]
        if (run["question"], run["server"]) == (question, server)
    )


def shown(value: float) -> str:
    """Formats three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bars(axes: Any, record: dict[str, Any], question: str, values: dict[str, float]) -> None:
    """Draws a bar for each server, with its figure beside it."""
    servers = list(record["servers"])
    for place, server in enumerate(servers):
        value = values.get(server)
        axes.barh(place, value or 0, color=OURS if server.startswith("servable") else THEIRS, height=0.7)
        text = "not measured" if value is None else shown(value)
        wrong = bad(record, question, server)
        text += f" ({wrong:,} wrong or failed)" if wrong else ""
        axes.annotate(
            text, (value or 0, place), (3, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
    axes.set_yticks(range(len(servers)), record["servers"].values())
    axes.set_xlim(0, 1.25 * max(values.values(), default=1.0))
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=8, colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)


def draw(record: dict[str, Any]) -> Any:
    """Returns the figure."""
    questions = record["questions"]
    rows = 0.2 * len(record["servers"]) + 0.6
    figure, grid = pyplot.subplots(
        len(FIGURES),
        len(questions),
        figsize=(3.6 * len(questions) + 1.2, 2 * rows),
        sharey=True,
        squeeze=False,
    )
    for row, (title, value) in zip(grid, FIGURES.items(), strict=True):
        for axes, (question, long) in zip(row, questions.items(), strict=True):
            bars(axes, record, question, measured(record, question, value))
            axes.set_title(f"{long.replace('`', '')}\n{title}", fontsize=9, color=INK, loc="left")
    grid[0][0].invert_yaxis()  # of all: they share it
    figure.tight_layout(w_pad=1.5, h_pad=1.5)
    return figure


def main() -> None:
    """Reads the record and writes the chart."""
    record = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    chart = Path(sys.argv[2])
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "rivals"
    matplotlib.rcParams["font.family"] = "sans-serif"
    draw(record).savefig(chart, transparent=True, metadata={"Date": None})
    text = chart.read_text(encoding="utf-8").replace(INK, "currentColor")
    chart.write_text(re.sub(r"(<svg [^>]*>)", rf"\1\n {STYLE}", text, count=1), encoding="utf-8")


if __name__ == "__main__":
    main()
