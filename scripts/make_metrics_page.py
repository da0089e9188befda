"""Makes the tables of ``docs/metrics.md`` from the core's list of metrics: ``make docs`` writes them."""

from __future__ import annotations

from pathlib import Path

from servable import _core

FILE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
BEGINNING = "## Servable's own"


def tables() -> str:
    """Returns the end of the page, from ``BEGINNING`` on."""
    every = _core.metrics()
    foreign = [metric for metric in every if metric[0].startswith(":")]
    own = [metric for metric in every if metric not in foreign]
    return "\n".join([BEGINNING, "", *_table(own), "", "## TensorFlow Serving's", "", *_table(foreign), ""])


def _table(metrics: list[tuple[str, str, list[str], str]]) -> list[str]:
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"
        for name, kind, labels, meaning in metrics
    ]
    return ["| Name | Type | Labels | Meaning |", "| --- | --- | --- | --- |", *rows]


def page(now: str) -> str:
    """Returns the page ``now`` with its tables as they should be."""
    return now.partition(BEGINNING)[0] + tables()


if __name__ == "__main__":
    FILE.write_text(page(FILE.read_text()))
