"""A SavedModel as every Python server here runs it: loaded once, called through its concrete signature.

    python benches/rivals/servers/saved_model.py FOLDER < BODY

answers one body without a server; that answer is what every server has to give.

The environment tells a server what to do: ``MODEL`` is the folder of the SavedModel, ``PORT`` the port of
127.0.0.1, ``PROCESSES`` how many processes run the model; ``BATCHING`` is 1 if requests are run together.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf  # type: ignore[import-untyped]

MODEL = os.environ.get("MODEL", "")
PORT = int(os.environ.get("PORT", "0"))
PROCESSES = int(os.environ.get("PROCESSES", "1"))
BATCHING = os.environ.get("BATCHING") == "1"
BATCH_ROWS = 64
BATCH_WAIT_SECONDS = 0.005


class SavedModel:
    """One signature of one input and one output, with the JSON values of TensorFlow Serving's REST API."""

    def __init__(self, folder: str = MODEL) -> None:
        self._model = tf.saved_model.load(folder)  # has the variables; the signature does not keep them
        self._signature = self._model.signatures["serving_default"]
        ((self._input, spec),) = self._signature.structured_input_signature[1].items()
        (self._output,) = self._signature.structured_outputs
        self._dtype = spec.dtype

    def decode(self, instances: Sequence[Any]) -> list[Any]:
        """Returns the rows of ``instances``: bytes for ``{"b64": …}``, anything else as it is."""
        return [base64.b64decode(value["b64"]) if isinstance(value, dict) else value for value in instances]

    def run(self, rows: Sequence[Any]) -> list[Any]:
        """Runs the model on the rows; returns a JSON value for each."""
        answers: list[Any] = (
            self._signature(**{self._input: tf.constant(rows, self._dtype)})[self._output].numpy().tolist()
        )
        return [value.decode() if isinstance(value, bytes) else value for value in answers]

    def predict(self, instances: Sequence[Any]) -> list[Any]:
        """Decodes and runs."""
        return self.run(self.decode(instances))

    def run_together(self, requests: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Runs the rows of several requests as one batch; returns the answers of each."""
        answers = iter(self.run([row for rows in requests for row in rows]))
        return [[next(answers) for _ in rows] for rows in requests]


if __name__ == "__main__":
    body = json.load(sys.stdin)
    print(json.dumps({"predictions": SavedModel(sys.argv[1]).predict(body["instances"])}))
