"""A Ray cluster of several nodes on this machine, for all tests of this folder.

``make test-ray`` installs Ray and runs them; otherwise they are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips all of it unless Ray was installed for it. Ray itself warns of much."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.timeout(400))
            if "SERVABLE_RAY_TESTS" not in os.environ:
                item.add_marker(pytest.mark.skip(reason="make test-ray installs Ray and runs this"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A head and three workers, with both of Ray Serve's proxies."""
    from ray_cluster import RayCluster

    made = RayCluster(workers=3)
    try:
        yield made
    finally:
        made.close()


Run = Callable[..., Any]


@pytest.fixture
def run(cluster: Any) -> Iterator[Run]:
    """``run(name, models, **options)``: an application at ``/name``, on workers, until the test ends."""
    from ray import serve
    from ray_cluster import ON_WORKERS

    import servable.ray

    names: list[str] = []

    def run(name: str, models: Any, options: Mapping[str, Any] | None = None, **more: Any) -> Any:
        names.append(name)
        chosen = {"ray_actor_options": ON_WORKERS, "health_check_period_s": 2, **(options or {})}
        application = servable.ray.deployment(models, options=chosen, **more)
        return serve.run(application, name=name, route_prefix=f"/{name}")

    yield run
    for name in set(names):
        serve.delete(name)
