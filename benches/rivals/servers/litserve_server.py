"""LitServe: a worker per core, or one worker with its batching.

Its documentation advises as many workers as cores on a CPU, and ``fast_queue`` for more than 100 requests/s.
LitServe looks at the annotations of a method, so they must not be strings here.
"""

from collections.abc import Sequence
from typing import Any

import litserve
from fastapi import Request
from saved_model import BATCH_ROWS, BATCH_WAIT_SECONDS, BATCHING, PORT, PROCESSES, SavedModel


class Single(litserve.LitAPI):
    """One request after the other."""

    def setup(self, device: str) -> None:
        """Loads the model in a worker."""
        self.model = SavedModel()

    def decode_request(self, request: Request) -> list[Any]:
        """Returns the rows of a request; for this annotation LitServe gives the JSON of the body."""
        return self.model.decode(request["instances"])

    def predict(self, rows: list[Any]) -> list[Any]:
        """Runs the model."""
        return self.model.run(rows)

    def encode_response(self, output: list[Any]) -> dict[str, Any]:
        """Returns the body of the reply."""
        return {"predictions": output}


class Batched(Single):
    """Requests that arrive together are run together."""

    def batch(self, inputs: list[list[Any]]) -> list[list[Any]]:
        """Keeps the requests apart: they may have different numbers of rows."""
        return inputs

    def predict(self, rows: list[list[Any]]) -> list[list[Any]]:
        """Runs the rows of all requests at once."""
        return self.model.run_together(rows)

    def unbatch(self, output: Sequence[list[Any]]) -> Sequence[list[Any]]:
        """Returns what each request is answered."""
        return output


if __name__ == "__main__":
    api = (
        Batched(max_batch_size=BATCH_ROWS, batch_timeout=BATCH_WAIT_SECONDS, api_path="/predict")
        if BATCHING
        else Single(api_path="/predict")
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=PROCESSES, fast_queue=True)
    server.run(host="127.0.0.1", port=PORT, log_level="warning", generate_client_file=False)
