"""Every command in the documents is run by a test, or marked as not run with a reason.

Here the quickest pages are walked through; ``make test-docs`` walks through all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from pages import RUN_ELSEWHERE, SHELL, Block, blocks, commands, documents, is_run, read
from walkthrough import Walkthrough, alike

ALL = os.environ.get("SERVABLE_ALL_DOCS", "") == "1"
QUICK = ("docs/tutorials/module.md", "docs/tutorials/onnx.md")
EVERY_BLOCK = {page.relative_to(ROOT).as_posix(): blocks(page) for page in documents()}
WALKED = [name for name, found in EVERY_BLOCK.items() if any(is_run(one) for one in found)]


def runs_python(page: str) -> bool:
    """True for pages whose programs are run in their order, too; others have tests of their own for these."""
    return page.startswith("docs/tutorials/") or page in ("README.md", "docs/index.md")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Walkthrough]:
    walkthrough = Walkthrough(tmp_path)
    yield walkthrough
    walkthrough.close()


@pytest.mark.needs_tensorflow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", WALKED)
def test_what_the_page_says_works(page: str, reader: Walkthrough) -> None:
    if not ALL and page not in QUICK:
        pytest.skip("`make test-docs` walks through every page")
    assert reader.run(EVERY_BLOCK[page], runs_python(page)) > 0


def test_pages_with_commands_are_found() -> None:
    assert set(QUICK) <= set(WALKED)
    assert len(WALKED) > 12
    assert {f"docs/tutorials/{name}.md" for name in ("keras", "pictures", "text", "tables")} <= set(WALKED)


def test_what_is_not_run_has_a_reason() -> None:
    left_out = [one for found in EVERY_BLOCK.values() for one in found if "not run" in one.marks]
    assert left_out
    assert [one.where for one in left_out if len(one.marks["not run"].split()) < 3] == []
    assert [one.where for one in left_out if one.language not in (*SHELL, "python")] == []


def test_reasons_name_tests_that_are_there() -> None:
    for found in EVERY_BLOCK.values():
        for one in found:
            for word in one.marks.get("not run", "").replace(";", " ").split():
                if word.startswith(("tests/", "deploy/", "docs/")):
                    assert (ROOT / word).exists(), f"{one.where}: {word}"


def test_pages_that_others_run_are_named_there() -> None:
    for page, test in RUN_ELSEWHERE.items():
        assert any(one.language in SHELL for one in EVERY_BLOCK[page]), page
        assert f'"{Path(page).name}"' in (ROOT / test).read_text(encoding="utf-8"), test


# ---- what reads the pages


def page_of(text: str) -> list[Block]:
    return list(read("page.md", text.splitlines()))


def test_marks_belong_to_the_block_below_them() -> None:
    first, second, third = page_of(
        "<!-- served: a b -->\n<!-- not run: no such thing -->\n```sh\none\n```\n```sh\ntwo\n```\n"
        "<!-- fails -->\n\n```sh\nthree\n```\n"
    )
    assert first.marks == {"served": "a b", "not run": "no such thing"}
    assert (first.line, first.text, is_run(first)) == (3, "one\n", False)
    assert (second.marks, is_run(second)) == ({}, True)
    assert third.marks == {}


def test_a_command_may_go_on_in_the_next_line() -> None:
    assert commands("# about it\na \\\n  b\n\nc |\n  d\ne\n") == ["a \\\n  b", "c |\n  d", "e"]


@pytest.mark.parametrize(
    ("got", "shown", "same"),
    [
        ({"a": [1.0, 2.0001]}, {"a": [1.0, 2.0]}, True),
        ({"a": [1.0, 2.1]}, {"a": [1.0, 2.0]}, False),
        ({"a": 1}, {"b": 1}, False),
        ([1, 2], [1], False),
        ("panda", "panda", True),
        ("panda", "bear", False),
    ],
)
def test_answers_are_compared_with_what_is_shown(got: object, shown: object, same: bool) -> None:
    assert alike(got, shown) is same


def test_an_answer_that_differs_fails(reader: Walkthrough) -> None:
    shown = page_of('```sh\necho \'{"a": 1}\'\n```\n```json\n{"a": 2}\n```\n')
    with pytest.raises(AssertionError, match=r"page\.md:4: it was"):
        reader.run(shown, with_python=False)


def test_a_command_that_fails_fails(reader: Walkthrough) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:1: false"):
        reader.run(page_of("```sh\nfalse\n```\n"), with_python=False)
    assert reader.run(page_of("<!-- fails -->\n```sh\ntrue\nfalse\n```\n"), with_python=False) == 1
