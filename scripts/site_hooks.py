"""Hooks of MkDocs: adds tables, and documents from outside of docs/; makes links work as on GitHub.

``SERVABLE_REPOSITORY``, such as ``https://github.com/OWNER/NAME/blob/main``, makes links of those to files
that are not on the site; without it they are plain text. A file that is not there is an error in any case.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import site_pages

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = site_pages.ROOT
DOCUMENTS = {
    "README.md": "overview.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
"""Documents of the repository that are pages, and their path on the site."""
FLAGS_HEADING = "## Every flag\n"
OPENAPI = "openapi-example.json"
"""The document that the page on OpenAPI shows."""

_FENCE = re.compile(r"^\s*(```|~~~)")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_CODE = re.compile(r"(`+)(?:(?!\1).)*\1")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the documents of the repository that lie elsewhere."""
    from mkdocs.structure.files import File

    for source, path in DOCUMENTS.items():
        files.append(File.generated(config, path, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes of GitHub's Markdown, in a page of the repository, what MkDocs understands."""
    path = page.file.src_uri
    source = {on_site: document for document, on_site in DOCUMENTS.items()}.get(path, f"docs/{path}")
    if path == "migrating.md":
        markdown = without_flags(markdown)
    if path == "openapi.md" and (Path(config.docs_dir) / OPENAPI).exists():
        markdown += f'\n## An example\n\n<swagger-ui src="{OPENAPI}"/>\n'
    markdown = site_pages.filled(markdown)
    return "\n".join(converted(markdown.splitlines(), source, path)) + "\n"


def without_flags(markdown: str) -> str:
    """Returns the guide with a link in place of the table of flags, which is a page of its own."""
    before, heading, _ = markdown.partition(FLAGS_HEADING)
    assert heading, f"docs/migrating.md has no {FLAGS_HEADING!r}"
    return f"{before}{heading}\nThey are listed [by themselves](reference/flags.md).\n"


def converted(lines: list[str], source: str, path: str) -> Iterator[str]:
    """Yields the lines of a page with links as on the site, no comments, and space before lists."""
    fenced, before = False, ""
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            if line.startswith("<!--") and line.rstrip().endswith("-->"):
                continue
            starts_list = re.match(r"([-*]|\d+\.) ", line)
            if starts_list and before.strip() and not re.match(r"\s|([-*]|\d+\.) ", before):
                yield ""
            line = with_links(line, source, path)
        yield line
        before = line


def with_links(line: str, source: str, path: str) -> str:
    """Returns a line of document ``source`` with its links as they are on the page ``path``."""
    code = [found.span() for found in _CODE.finditer(line)]

    def replaced(found: re.Match[str]) -> str:
        if any(start < found.start() and found.end() < end for start, end in code):
            return found[0]
        return linked(found, source, path)

    return _LINK.sub(replaced, line)


def linked(found: re.Match[str], source: str, path: str) -> str:
    """Returns a link as it is on the site."""
    mark, text, target = found.groups()
    file, hash_, anchor = target.partition("#")
    if not file or re.match(r"[a-z]+:", file):
        return found[0]
    named = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
    on_site = DOCUMENTS.get(named) or (named.removeprefix("docs/") if named.startswith("docs/") else "")
    if on_site:
        there = posixpath.relpath(on_site, posixpath.dirname(path) or ".")
        return f"{mark}[{text}]({there}{hash_}{anchor})"
    if not (ROOT / named).exists():
        return found[0]  # MkDocs complains of it.
    repository = os.environ.get("SERVABLE_REPOSITORY", "").rstrip("/")
    return f"[{text}]({repository}/{named}{hash_}{anchor})" if repository else text
