"""The page, the dashboard and the alert rules name metrics and labels that are in the core's list."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from servable import _core

DASHBOARD = ROOT / "deploy" / "grafana" / "servable.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
LABELS = {name: {*labels, "job", "instance"} for name, _, labels, _ in _core.metrics()} | {
    # Made by Prometheus for every target.
    "up": {"job", "instance"}
}
ENDINGS = ("_bucket", "_sum", "_count")
HISTOGRAMS = {name for name, kind, _, _ in _core.metrics() if kind == "histogram"}

Selector = tuple[str, dict[str, str]]


def expressions() -> Iterator[str]:
    """Returns every expression of the dashboard and of the alert rules."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    text = ALERTS.read_text()
    rules = re.findall(r"^ +expr: (?:>\n((?: {10}.*\n)+)|(.*)\n)", text, re.MULTILINE)
    assert len(rules) == text.count("- alert:")
    yield from (" ".join(folded.split()) or plain for folded, plain in rules)


def selectors(expression: str) -> list[Selector]:
    """Returns the metrics that an expression asks for, with the labels that they have to have."""
    found = re.findall(r"\b(up|servable_\w+|process_\w+)(?:\{([^}]*)\})?", expression)
    return [(name, dict(re.findall(r'(\w+)(?:=~|!=|!~|=)"([^"]*)"', labels))) for name, labels in found]


def family(name: str) -> str:
    """Returns the name in the list of a metric that may be a part of a histogram."""
    for ending in ENDINGS:
        if name.removesuffix(ending) in HISTOGRAMS:
            return name.removesuffix(ending)
    return name


@pytest.mark.parametrize("expression", list(expressions()))
def test_an_expression_names_metrics_and_labels_that_there_are(expression: str) -> None:
    asked = selectors(expression)
    assert asked
    for name, labels in asked:
        known = LABELS[family(name)]
        assert name not in HISTOGRAMS, "a histogram has no samples of its own"
        assert labels.keys() <= known | {"le"}
        grouped = {label for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(", ")}
        assert grouped <= {label for name, _ in asked for label in LABELS[family(name)]} | {"le"}


@pytest.mark.parametrize(
    ("script", "function", "file"),
    [
        ("make_dashboard.py", "dashboard", DASHBOARD),
        ("make_metrics_page.py", "page", ROOT / "docs" / "metrics.md"),
    ],
)
def test_what_is_made_is_up_to_date(script: str, function: str, file: Path) -> None:
    make = runpy.run_path(str(ROOT / "scripts" / script))[function]
    now = file.read_text(encoding="utf-8")
    assert now == (make(now) if function == "page" else make()), "run `make docs`"
