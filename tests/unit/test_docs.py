"""The documentation's tables of flags and of gRPC's arguments match the server's lists."""

from __future__ import annotations

import re

from conftest import ROOT

from servable.cli.usage import markdown_table
from servable.config.channel_arguments import EFFECTIVE

MIGRATING = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")


def test_the_migration_guide_ends_with_the_list_of_flags() -> None:
    assert MIGRATING.rstrip().endswith(markdown_table().rstrip()), "run `make docs`"


def test_the_migration_guide_names_the_channel_arguments_that_take_effect() -> None:
    assert {name for name in re.findall(r"`(grpc\.[\w.]+)`", MIGRATING)} == set(EFFECTIVE)
