"""Fronts, real ones, with two servers of Servable behind: the configurations of ``deploy/fronts``.

``make test-fronts`` installs what can be installed, and runs all of it. Without it, each program that is
installed checks its configuration.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from front_kinds import FRONTS, Front
from front_load import MODELS
from servers_behind import Behind

HERE = Path(__file__).resolve().parent
ALL = "SERVABLE_FRONTS_TESTS"


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker of tests that need a minute for each front."""
    config.addinivalue_line("markers", "traffic: runs a front with servers behind; make test-fronts runs it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the long tests unless they are asked for."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("traffic") and ALL not in os.environ:
            item.add_marker(pytest.mark.skip(reason="make test-fronts runs this"))


@pytest.fixture(scope="module", params=FRONTS, ids=str)
def front(request: pytest.FixtureRequest) -> Front:
    """One kind of front; skipped where its program is not installed."""
    front: Front = request.param
    if not front.program():
        pytest.skip(f"{front} is not installed: {front.package}")
    return front


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Behind, Behind]]:
    """Two servers, each with all of ``MODELS``; both serve when a test begins."""
    folder = tmp_path_factory.mktemp("behind")
    pair = (Behind(folder / "1.log", *MODELS), Behind(folder / "2.log", *MODELS))
    try:
        yield pair
    finally:
        for one in pair:
            one.kill()


@pytest.fixture
def both(behind: tuple[Behind, Behind]) -> tuple[Behind, Behind]:
    """The two servers, started again if a test before has left one dead."""
    for one in behind:
        one.start()
    return behind
