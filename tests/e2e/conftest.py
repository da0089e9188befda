"""Base paths for end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import put_version


@pytest.fixture
def empty_base(tmp_path: Path) -> Path:
    """A base path without a version; its name is ``m``."""
    folder = tmp_path / "m"
    folder.mkdir()
    return folder


@pytest.fixture
def base(empty_base: Path) -> Path:
    """A base path, also named ``m``, with version 1 of ``half_plus_two``."""
    put_version("half_plus_two", empty_base, 1)
    return empty_base
