"""The documentation's table of flags is the list of flags."""

from __future__ import annotations

from conftest import ROOT
from servable.usage import markdown_table


def test_the_migration_guide_ends_with_the_list_of_flags() -> None:
    page = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    assert page.rstrip().endswith(markdown_table().rstrip()), "run `make docs`"
