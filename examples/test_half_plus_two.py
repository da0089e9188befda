"""Tests a model as clients and as Python see it; run with ``pytest examples/test_half_plus_two.py``.

The fixtures come with Servable. The server runs inside of the test's process, on free ports of 127.0.0.1.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import servable

MODEL = Path(__file__).resolve().parent.parent / "tests" / "models" / "half_plus_two"
Factory = Callable[..., servable.Server]


@pytest.fixture(scope="module")
def server(servable_session_server: Factory) -> servable.Server:
    """The model, loaded once for all tests."""
    return servable_session_server(MODEL)


def test_the_values(server: servable.Server) -> None:
    assert server.predict([1.0, 2.0, 5.0]).tolist() == [2.5, 3.0, 4.5]


def test_what_a_client_gets(server: servable.Server) -> None:
    request = urllib.request.Request(
        f"{server.url}/v1/models/half_plus_two:predict", json.dumps({"instances": [1.0]}).encode()
    )
    with urllib.request.urlopen(request) as reply:
        assert json.load(reply) == {"predictions": [2.5]}


def test_text_is_refused(servable_server: Factory) -> None:
    server = servable_server(MODEL, batching="auto")
    with pytest.raises(servable.InvalidArgumentError, match="takes float, got text"):
        server.predict(["one"])
