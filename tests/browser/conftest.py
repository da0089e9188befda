"""A real Chromium for the console's tests, and fake servers for it to visit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import chromium
import pytest
from conftest import ROOT
from fake_server import ASSETS, FakeServer, Scene
from visiting import ALL, Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SIZE: Any = {"width": 1280, "height": 820}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker of the tests that always run."""
    config.addinivalue_line("markers", "in_every_run: the shape of the browser tests that make test has")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that take long, and all of them where there is no Chromium."""
    missing = _missing()
    for item in items:
        if item.path.parent != ROOT / "tests" / "browser":
            continue
        if missing:
            item.add_marker(pytest.mark.skip(reason=missing))
        elif os.environ.get(ALL) != "all" and not item.get_closest_marker("in_every_run"):
            item.add_marker(pytest.mark.skip(reason="runs in make test-console"))


def _missing() -> str | None:
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return f"playwright is not installed; {chromium.HOW}"
    if not (ASSETS / "index.html").is_file():
        return "the console is not built: make console"
    return None if chromium.find() else f"there is no Chromium; {chromium.HOW}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window. It goes with its file: meanwhile no other test can run an event loop."""
    from playwright.sync_api import sync_playwright

    found = chromium.find()
    assert found is not None
    environment: dict[str, Any] = {**os.environ, **found.environment}
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found.path, args=FLAGS, env=environment)
        yield launched
        launched.close()


@pytest.fixture
def fake() -> Iterator[Callable[[Scene], FakeServer]]:
    """``fake(scene)``: a fake server, stopped after the test."""
    running: list[FakeServer] = []

    def start(scene: Scene) -> FakeServer:
        running.append(FakeServer(scene))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(params=["light"])
def visitor(browser: Browser, fake: object, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """A visitor with a fresh profile. Whatever a page logs as an error fails the test.

    Fake servers outlive it, as pages that stay open ask on. Its parameter is the colour scheme:
    ``parametrize("visitor", ["light", "dark"], indirect=True)``.
    """
    context = browser.new_context(
        viewport=SIZE, color_scheme=request.param, reduced_motion="reduce", locale="en-US"
    )
    context.set_default_timeout(15_000)
    visitor = Visitor(context)
    yield visitor
    context.close()
    assert visitor.unexpected() == []
