"""The code blocks of the documents, with the marks above them.

A mark is a comment on a line of its own, above the block:

    <!-- not run: REASON -->          nothing runs it
    <!-- served: MODEL… [--flag…] --> a server with these models of the tests is there from this block on
    <!-- fails -->                    its last command has to fail
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conftest import ROOT

SHELL = ("sh", "bash", "console", "shell")
MARKS = ("not run", "served", "fails")
RUN_ELSEWHERE = {
    "docs/exporting.md": "tests/e2e/test_exporting.py",
    "docs/client.md": "tests/e2e/test_client.py",
}
"""Pages whose commands a test of their own runs."""

_FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
_MARK = re.compile(r"^<!-- ([\w ]+?)(?:: (.*))? -->$")


@dataclass(frozen=True)
class Block:
    """One block of a page; ``line`` is that of its fence, counted from 1."""

    page: str
    line: int
    language: str
    text: str
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Page and line, as an editor takes them."""
        return f"{self.page}:{self.line}"


def documents() -> list[Path]:
    """Returns every document that people read: all but the specification and the changelog."""
    pages = [*ROOT.glob("*.md"), ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")]
    spec = ROOT / "docs" / "spec"
    return sorted(page for page in pages if spec not in page.parents and page.name != "CHANGELOG.md")


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page, in their order."""
    return list(read(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8").splitlines()))


def read(name: str, lines: list[str]) -> Iterator[Block]:
    """Yields the blocks of the page ``name``."""
    marks: dict[str, str] = {}
    place = 0
    while place < len(lines):
        fence, mark = _FENCE.match(lines[place]), _MARK.match(lines[place])
        if fence:
            end = next(n for n in range(place + 1, len(lines)) if lines[n].strip() == "```")
            text = "\n".join(line.removeprefix(fence[1]) for line in lines[place + 1 : end]) + "\n"
            yield Block(name, place + 1, fence[2], text, marks)
            place = end
        marks = {**marks, mark[1]: mark[2] or ""} if mark and mark[1] in MARKS else {}
        place += 1


def commands(text: str) -> list[str]:
    """Returns the commands of a shell block; lines that go on in the next one are one command."""
    found: list[str] = []
    ahead = ""
    for line in text.splitlines():
        whole = f"{ahead}\n{line}" if ahead else line
        if line.rstrip().endswith(("\\", "|")):
            ahead = whole
            continue
        ahead = ""
        if whole.strip() and not whole.lstrip().startswith("#"):
            found.append(whole)
    return [*found, ahead] if ahead else found


def is_run(block: Block) -> bool:
    """True if the walk through its page runs a block."""
    return block.language in SHELL and "not run" not in block.marks and block.page not in RUN_ELSEWHERE
