"""The documentation as a site: it builds strictly, its search knows all of it, nothing is foreign."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from pages import documents

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="MkDocs is not installed: `make dev` does it"),
]
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
LINKS_LOADED = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]),
            "NO_MKDOCS_2_WARNING": "1",
        },
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_document_is_a_page(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    for document in documents():
        if (ROOT / "docs") in document.parents:
            assert document.relative_to(ROOT / "docs").with_suffix(".html").as_posix() in pages
    others = {"overview", "architecture", "contributing", "security", "changelog", "examples"}
    assert {f"{name}.html" for name in others} <= pages


def test_the_search_knows_every_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    known = {entry["location"].partition("#")[0] for entry in index["docs"]}
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"}
    # What the plugin for OpenAPI puts into a frame of its page.
    pages = {page for page in pages if not page.startswith(("swagger-", "assets/"))}
    assert pages <= known | {"index.html"}


class Loads(HTMLParser):
    """Collects what a page has its reader's browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADED and given.get(LOADED[tag]):
            self.found.append(given[LOADED[tag]])
        if tag == "link" and LINKS_LOADED & set(given.get("rel", "").split()):
            self.found.append(given.get("href", ""))
        self.found += re.findall(r"url\(['\"]?([^)'\"]+)", given.get("style", ""))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    seen = 0
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        seen += len(loads.found)
        assert [one for one in loads.found if re.match(r"(\w+:)?//", one)] == [], page
    assert seen > 100
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//[^)'\"]*", text) == [], sheet


def test_no_page_asks_for_what_the_theme_would_fetch(site: Path) -> None:
    """Diagrams and facts of a repository are fetched by the theme's script when a page has them."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'class="mermaid"' not in text and 'data-md-component="source"' not in text, page


def test_marks_are_not_shown(site: Path) -> None:
    for page in site.rglob("*.html"):
        shown = re.search(r"(<|&lt;)!-- (not run|served|fails|table)", page.read_text(encoding="utf-8"))
        assert shown is None, page


def test_broken_links_anchors_and_orphans_fail(tmp_path: Path) -> None:
    """With the configuration of the site, on pages with one defect of each kind."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[0]
    text = re.sub(r"hooks:\n(  - .*\n)+", "", text)
    (tmp_path / "mkdocs.yml").write_text(f"{text}\nnav:\n  - Start: index.md\n")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Start\n\n[a](gone.md) [b](#gone) [c](orphan.md#gone)\n")
    (docs / "orphan.md").write_text("# Orphan\n")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for part in ("'gone.md'", "'#gone'", "'orphan.md#gone'", 'not included in the "nav"'):
        assert part in said, said
