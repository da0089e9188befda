"""Fixtures for pytest, which are there wherever Servable is installed: servers inside of the test's process.

    def test_the_model(servable_server):
        server = servable_server("models/half_plus_two")
        assert server.predict([1.0]).tolist() == [2.5]

``servable_server`` starts servers for one test, ``servable_session_server`` for all of a run: asked again for
the same, it returns the one that runs. Neither imports anything until it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from servable.embedded import Server

    Factory = Callable[..., Server]


@pytest.fixture
def servable_server() -> Iterator[Factory]:
    """``servable_server(what, name="", **flags)``: a server that runs until the test ends."""
    with ExitStack() as servers:
        yield lambda *what, **flags: servers.enter_context(_server(*what, **flags))


@pytest.fixture(scope="session")
def servable_session_server() -> Iterator[Factory]:
    """The same until the end of the run; asked for the same again, it returns the one that runs."""
    with ExitStack() as servers:
        running: dict[str, Server] = {}

        def start(*what: Any, **flags: Any) -> Server:
            # An object is known by its identity, which no other gets: the server has it.
            key = repr([*map(_known_as, what), sorted(flags.items())])
            if key not in running:
                running[key] = servers.enter_context(_server(*what, **flags))
            # A test may have stopped it.
            return running[key].start()

        yield start


def _server(*what: Any, **flags: Any) -> Server:
    from servable.embedded import Server

    return Server(*what, **flags)


def _known_as(what: object) -> str:
    if not (isinstance(what, str) or hasattr(what, "__fspath__")):
        return f"{type(what).__qualname__} {id(what)}"
    # The current folder may be another the next time.
    return f"{type(what).__qualname__} {what} in {os.getcwd()}"
