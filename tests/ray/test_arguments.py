"""What Ray itself knows of the arguments of programs, and refuses. Needs Ray, but no cluster."""

from __future__ import annotations

from typing import Any

import pytest

import servable.ray
from servable.errors import UsageError


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"replicas": {"min": 1}}, "replicas: unknown key 'min'; known are min_replicas, "),
        ({"replicas": {"max_replica": 2}}, "replicas: unknown key 'max_replica'; did you mean max_replicas?"),
        ({"replicas": {"target_ongoing_requests": 0}}, "Ray refuses it: 1 validation error"),
        ({"replicas": {"min_replicas": 3, "max_replicas": 2}}, "Ray refuses it: "),
        ({"options": {"foo": 1}}, "options: unknown key 'foo'; known are ray_actor_options, "),
        ({"options": {1: 1}}, "options: unknown key 1"),
        ({"options": {"max_replicas_per_node": 1000}}, "Ray refuses it: Invalid max_replicas_per_node 1000"),
        ({"options": {"ray_actor_options": {"num_cpus": "x"}}}, "Ray refuses it: The type of keyword"),
        ({"name": "a#b"}, "Ray refuses it: "),
    ],
)
def test_applications(given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        servable.ray.deployment("/m", **given)
    assert text in str(raised.value)


def test_fields_of_ray_are_taken() -> None:
    scale = {"min_replicas": 1, "max_replicas": 4, "upscaling_factor": 0.5}
    options = {"max_queued_requests": 8, "max_surge_percent": 100, "ray_actor_options": {"num_cpus": 2}}
    assert servable.ray.deployment("/m", name="shop", replicas=scale, options=options)
    assert servable.ray.deployment("/m", replicas=2, options={})


@pytest.mark.parametrize("options", [{"foo": 1}, {"num_cpus": -1}, {"num_cpus": "x"}])
def test_servers_of_nodes(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="options: Ray refuses them: "):
        servable.ray.servers("/m", options=options)
