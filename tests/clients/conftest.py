"""Real clients: published packages, or stubs made of the public protos, against a server that runs.

``make test-clients`` installs them, runs these tests, and names their folder in ``$SERVABLE_CLIENTS``.
Without it they are skipped; what could not be installed is skipped by itself, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served
from servers import MODELS, WITH_GRPC, serving

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips all of it unless clients were installed."""
    if "SERVABLE_CLIENTS" in os.environ:
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="make test-clients installs the clients and runs this"))


@pytest.fixture(scope="session")
def installed() -> Path:
    """The folder in which clients are installed."""
    return Path(os.environ["SERVABLE_CLIENTS"]).resolve()


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """A server of three models, with everything that clients ask for."""
    models = [MODELS / name for name in ("half_plus_two", "pair", "echo", "lookup", "add_two")]
    flags = [WITH_GRPC, "--open_inference_model_control", "--shared_memory=/servable_clients_", "--grpc_web"]
    with serving(*models, *flags, ready="5 of 5 models") as served:
        yield served
