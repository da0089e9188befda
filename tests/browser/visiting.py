"""Visits pages in Chromium: notes what they log and what keeps people out, takes the docs' pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import chromium
import pytest
from conftest import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

ALL = "SERVABLE_BROWSER_TESTS"
"""Set to ``all``, every test runs, and the docs' pictures are taken; otherwise one shape of them runs."""
PICTURES = ROOT / "docs" / "images"


class Visitor:
    """Opens pages, and remembers what went wrong on them."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.errors: list[str] = []
        self.expected: tuple[str, ...] = ()
        """Parts of errors that a test causes on purpose."""

    def open(self, url: str, heading: bool = True) -> Page:
        """Opens a page in a tab of its own, and waits for its heading."""
        page = self.context.new_page()
        page.on("console", lambda said: self._note(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("dialog", lambda dialog: (self._note(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(url)
        if heading:
            page.locator("h1").first.wait_for()
        return page

    def unexpected(self) -> list[str]:
        """Returns the errors that no test wanted."""
        return [error for error in self.errors if not any(part in error for part in self.expected)]

    def _note(self, error: str) -> None:
        self.errors.append(error)


def serious(page: Page) -> list[str]:
    """Returns what axe finds on a page and calls serious or critical, with the elements."""
    source = chromium.axe()
    if source is None:
        pytest.skip(f"axe-core is not installed; {chromium.HOW}")
    page.evaluate(source)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:200]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


SHORTENED = """folders => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walk.nextNode()) nodes.push(walk.currentNode);
  for (const node of nodes)
    for (const folder of folders)
      if (node.data.includes(folder)) node.data = node.data.replaceAll(folder, "/models");
}"""


def picture(page: Page, name: str, *folders: Path) -> None:
    """Writes docs/images/console-NAME.png; only where all tests run.

    folders: those of the tests' models, for which the picture has ``/models``.
    """
    if os.environ.get(ALL) != "all":
        return
    page.evaluate(SHORTENED, [str(folder) for folder in folders])
    page.screenshot(path=PICTURES / f"console-{name}.png", animations="disabled")
