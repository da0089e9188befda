"""The pages that are made from lists, what the hooks make of links, and the charts."""

from __future__ import annotations

import re
from pathlib import Path

import make_charts
import pytest
import site_hooks
import site_pages
from conftest import ROOT

from servable.config.flags import FLAGS, GROUPS


def test_markers_in_pages_are_those_of_tables() -> None:
    pages = {
        path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")
    }
    marked = [name for text in pages.values() for name in re.findall(r"<!-- table: (\w+) -->", text)]
    assert sorted(marked) == sorted(site_pages.TABLES)
    for text in pages.values():
        assert "<!--" not in site_pages.filled(text)
        assert len(site_pages.filled(text)) > len(text) + 200


def test_every_flag_is_on_its_page_once() -> None:
    page = site_pages.flags()
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == sorted(
        FLAGS, key=lambda name: (list(GROUPS).index(FLAGS[name].group), list(FLAGS).index(name))
    )
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == list(GROUPS.values())


def test_every_kind_of_error_is_explained() -> None:
    kinds = site_pages.error_kinds()
    assert [code for code, _, _ in kinds] == list(range(1, 17))
    assert {name for _, name, _ in kinds} == set(site_pages.MEANINGS)
    assert dict((name, status) for _, name, status in kinds)["NOT_FOUND"] == 404
    assert site_pages.errors().count("\n| ") == 1 + 16


def test_the_api_has_every_verb_method_and_path() -> None:
    assert re.findall(r"NAME:(\w+)", site_pages.rest()) == ["predict", "classify", "regress"]
    methods = site_pages.grpc_methods()
    assert len(methods["tensorflow.serving.PredictionService"]) == 5
    assert {"ModelInfer", "RepositoryIndex"} <= set(methods["inference.GRPCInferenceService"])
    assert all(f"`{one}`" in site_pages.grpc() for found in methods.values() for one in found)
    assert "\nPUT    /admin/models/NAME" in site_pages.administration()


def test_the_commands_are_those_of_the_program() -> None:
    assert "usage: servable COMMAND" in site_pages.commands()


@pytest.mark.parametrize(
    ("source", "path", "line", "on_site"),
    [
        ("docs/a.md", "a.md", "[x](b.md#c)", "[x](b.md#c)"),
        ("docs/a.md", "a.md", "[x](../README.md#c)", "[x](overview.md#c)"),
        ("docs/tutorials/a.md", "tutorials/a.md", "[x](../../SECURITY.md)", "[x](../security.md)"),
        ("README.md", "overview.md", "![x](docs/images/rivals.svg)", "![x](images/rivals.svg)"),
        ("README.md", "overview.md", "[x](docs/bodies.md#a-picture)", "[x](bodies.md#a-picture)"),
        (
            "docs/a.md",
            "a.md",
            "[`x`](../Makefile) and [y](https://example.com)",
            "`x` and [y](https://example.com)",
        ),
        ("docs/a.md", "a.md", "[x](../gone.txt)", "[x](../gone.txt)"),
        ("docs/a.md", "a.md", "`[x](../README.md)`", "`[x](../README.md)`"),
        ("docs/a.md", "a.md", "[x](#here)", "[x](#here)"),
    ],
)
def test_links_work_on_the_site(
    monkeypatch: pytest.MonkeyPatch, source: str, path: str, line: str, on_site: str
) -> None:
    monkeypatch.delenv("SERVABLE_REPOSITORY", raising=False)
    assert site_hooks.with_links(line, source, path) == on_site


def test_files_of_the_repository_are_linked_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVABLE_REPOSITORY", "https://example.com/blob/main")
    assert (
        site_hooks.with_links("[x](../Makefile)", "docs/a.md", "a.md")
        == "[x](https://example.com/blob/main/Makefile)"
    )


def test_markdown_of_github_becomes_that_of_mkdocs() -> None:
    lines = ["Words:", "- one", "  more", "- two", ""]
    lines += ["<!-- not run: so -->", "```sh", "- [x](../README.md)", "```"]
    assert list(site_hooks.converted(lines, "docs/a.md", "a.md")) == [
        *("Words:", "", "- one", "  more", "- two", ""),
        *("```sh", "- [x](../README.md)", "```"),
    ]


def test_the_guide_has_a_link_in_place_of_the_flags() -> None:
    page = site_hooks.without_flags((ROOT / "docs" / "migrating.md").read_text(encoding="utf-8"))
    assert "reference/flags.md" in page and "`rest_api_port` |" not in page


# ---- what other servers call it

MIGRATING = sorted((ROOT / "docs").glob("migrating-*.md"))


def ours(page: Path) -> list[str]:
    """Returns the last cells of the rows of a page's tables: what it is called here."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line.rstrip("| ").rpartition("|")[2] for line in lines if line.startswith("|")]


@pytest.mark.parametrize("page", MIGRATING, ids=lambda page: page.stem)
def test_flags_and_metrics_that_guides_promise_are_there(page: Path) -> None:
    cells = " ".join(ours(page))
    flags = set(re.findall(r"`--(\w+)", cells))
    metrics = set(re.findall(r"\b((?:servable|process)_\w+)", cells))
    assert len(flags) > 5 and len(metrics) > 3
    assert flags - set(FLAGS) == set()
    known = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in metrics if f"`{name}`" not in known] == []


# ---- charts


@pytest.mark.parametrize("name", make_charts.CHARTS)
def test_charts_are_those_of_the_tables(name: str) -> None:
    chart = make_charts.CHARTS[name]()
    file = make_charts.IMAGES / name
    assert file.exists(), "`make docs` draws it"
    drawn = file.read_text(encoding="utf-8")
    assert f"<!-- figures: {chart.hash()} -->" in drawn, "`make docs` draws it again"
    assert len(chart.labels) >= 6
    assert {len(values) for values in chart.series.values()} == {len(chart.labels)}
    assert name in (ROOT / "docs" / "charts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("cell", "number"), [("**1,234 (1,200 to 1,250)**", 1234.0), ("-8.17", -8.17), ("43.0 MB", 43.0)]
)
def test_numbers_of_a_table(cell: str, number: float) -> None:
    assert make_charts.number(cell) == number


def test_a_table_that_is_not_there_is_an_error() -> None:
    with pytest.raises(LookupError, match="no such column"):
        make_charts.table("performance.md", "no such column")
