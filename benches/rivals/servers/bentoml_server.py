"""BentoML: a worker per core, or one worker with its adaptive batching.

A batchable API takes and returns a list, a value for each row; so it answers ``[…]`` where the other servers
answer ``{"predictions": […]}``. A second service in front of it would add that, and a hop.
"""

from __future__ import annotations

from typing import Any

import bentoml
from saved_model import BATCH_ROWS, BATCHING, PROCESSES, SavedModel


@bentoml.service(workers=PROCESSES, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Single:
    """One request at a time in each thread of a worker."""

    def __init__(self) -> None:
        self.model = SavedModel()

    @bentoml.api(route="/predict")
    def predict(self, instances: list[Any]) -> dict[str, list[Any]]:
        """Answers one request."""
        return {"predictions": self.model.predict(instances)}


@bentoml.service(workers=PROCESSES, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Batched:
    """Requests that arrive together are run together."""

    def __init__(self) -> None:
        self.model = SavedModel()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=BATCH_ROWS)
    def predict(self, instances: list[Any]) -> list[Any]:
        """Answers the rows of one request or of several."""
        return self.model.predict(instances)


Service = Batched if BATCHING else Single
