"""The console's page as it is built: small, complete, and as its Content-Security-Policy wants it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from conftest import ROOT

ASSETS = ROOT / "python" / "servable" / "console" / "assets"
MOST_BYTES = 300_000
"""Of all files together, compressed."""


def files() -> list[Path]:
    return [path for path in sorted(ASSETS.rglob("*")) if path.is_file()]


def test_all_of_it_is_small() -> None:
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in files()) <= MOST_BYTES


def test_the_page_names_the_files_that_are_there() -> None:
    """Relatively, so that a proxy may put a path before; with a hash in each, so that they may be kept."""
    page = (ASSETS / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="\./([^"]+)"', page)
    assert len(named) == len(re.findall(r'(?:src|href)="', page))
    there = [path.relative_to(ASSETS).as_posix() for path in files()]
    assert sorted(["index.html", *named]) == there
    assert [name for name in named if not re.fullmatch(r"console/\w+-[\w-]{8}\.(js|css|svg)", name)] == []


def test_nothing_is_inline_or_from_elsewhere() -> None:
    page = (ASSETS / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\bstyle=|\bon\w+=|<script[^>]*>[^<]", page)
    for path in files():
        text = path.read_text(encoding="utf-8")
        # Names of XML, which nobody fetches.
        addresses = set(re.findall(r"https?://[^\s\"'`)<]+", text)) - {"http://www.w3.org/2000/svg"}
        outside = [
            one
            for one in addresses
            if not one.startswith(("http://www.w3.org/", "http://localhost:8501", "http://${"))
        ]
        assert outside == [], path.name
        assert not re.search(r"\beval\(|new Function\(", text), path.name


def test_what_the_server_says_becomes_text_alone() -> None:
    """Preact makes text of whatever it is given; the other way has a name of its own."""
    sources = [path for path in (ROOT / "console" / "src").rglob("*") if path.suffix in (".ts", ".tsx")]
    assert len(sources) > 20
    html = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySet|\beval\(|new Function"
    )
    assert [path.name for path in sources if html.search(path.read_text(encoding="utf-8"))] == []
