"""Ray Serve: a replica per core, or one replica with its dynamic request batching.

As its documentation has it: an asynchronous deployment gives blocking work that releases the GIL to a thread,
and more requests than the default of five may be under way at a time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from saved_model import BATCH_ROWS, BATCH_WAIT_SECONDS, BATCHING, PORT, PROCESSES, SavedModel
from starlette.requests import Request

WAITING = 2 * BATCH_ROWS


@serve.deployment(num_replicas=PROCESSES, max_ongoing_requests=WAITING)
class Single:
    """One request at a time in each thread of a replica."""

    def __init__(self) -> None:
        self.model = SavedModel()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answers one request."""
        body = await request.json()
        return {"predictions": await asyncio.to_thread(self.model.predict, body["instances"])}


@serve.deployment(num_replicas=PROCESSES, max_ongoing_requests=WAITING)
class Batched:
    """Requests that arrive together are run together."""

    def __init__(self) -> None:
        self.model = SavedModel()

    @serve.batch(max_batch_size=BATCH_ROWS, batch_wait_timeout_s=BATCH_WAIT_SECONDS)
    async def run(self, requests: list[list[Any]]) -> list[list[Any]]:
        """Runs the rows of several requests at once."""
        return await asyncio.to_thread(self.model.run_together, requests)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answers one request."""
        body = await request.json()
        return {"predictions": await self.run(self.model.decode(body["instances"]))}


if __name__ == "__main__":
    ray.init(include_dashboard=False)
    quiet = LoggingConfig(enable_access_log=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config=quiet)
    deployment: Any = Batched if BATCHING else Single
    serve.run(deployment.options(logging_config=quiet).bind(), route_prefix="/predict", blocking=True)
