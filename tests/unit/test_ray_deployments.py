"""What Ray Serve is told of an application."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from fake_ray import FakeRay, fake_ray as fake_ray

import servable.ray


@pytest.fixture
def told(fake_ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of the last deployment."""
    options: dict[str, Any] = {}

    def deployment(
        _: type,
        name: str,
        num_replicas: int,
        user_config: Any,
        max_ongoing_requests: int = 5,
        graceful_shutdown_timeout_s: float | None = None,
    ) -> Any:
        options["graceful_shutdown_timeout_s"] = graceful_shutdown_timeout_s
        made = types.SimpleNamespace(bind=lambda *_: None)
        made.options = lambda **_: made
        return made

    monkeypatch.setattr(fake_ray.serve, "deployment", deployment, raising=False)  # type: ignore[attr-defined]
    config = types.ModuleType("ray.serve.config")
    config.AutoscalingConfig = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.serve.config", config)
    replica = types.ModuleType("servable.ray.replica")
    replica.Replica = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "servable.ray.replica", replica)
    return options


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 40.0),
        ({"rest_api_timeout_in_ms": 120_000}, 130.0),
        ({"rest_api_timeout_in_ms": 120_000, "options": {"graceful_shutdown_timeout_s": 5}}, 5),
        # Without a limit, Ray's own.
        ({"rest_api_timeout_in_ms": 0}, None),
    ],
)
def test_a_replica_that_ends_has_the_time_of_a_request(
    given: dict[str, Any], expected: float | None, told: dict[str, Any]
) -> None:
    servable.ray.deployment("/m", **given)
    assert told["graceful_shutdown_timeout_s"] == expected
