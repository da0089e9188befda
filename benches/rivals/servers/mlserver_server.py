"""MLServer: a custom runtime with a custom handler, in a worker per core.

Its adaptive batching is for the V2 protocol alone, which has no such body; so it is not used here.
MLServer looks at the annotations of the handler from another module, so they must not be strings.
"""

from typing import Any

from mlserver import MLModel
from mlserver.handlers import custom_handler
from pydantic import BaseModel
from saved_model import SavedModel


class Request(BaseModel):
    """The body of a request."""

    instances: list[Any]


class Reply(BaseModel):
    """The body of a reply."""

    predictions: list[Any]


class Runtime(MLModel):
    """The model in a worker."""

    async def load(self) -> bool:
        """Loads the model."""
        self.model = SavedModel()
        return True

    @custom_handler(rest_path="/predict")
    async def answer(self, request: Request) -> Reply:
        """Answers one request."""
        return Reply(predictions=self.model.predict(request.instances))
