"""FastAPI, run by uvicorn with uvloop and httptools.

As its documentation has it: the model is loaded in the lifespan, work that blocks is a plain ``def``, which
FastAPI runs in its thread pool, and declared types let Pydantic read and print the JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from saved_model import SavedModel

models: dict[str, SavedModel] = {}


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Loads the model before the first request."""
    models["model"] = SavedModel()
    yield
    models.clear()


class Request(BaseModel):
    """The body of a request."""

    instances: list[Any]


class Reply(BaseModel):
    """The body of a reply."""

    predictions: list[Any]


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
def predict(request: Request) -> Reply:
    """Answers one request."""
    return Reply(predictions=models["model"].predict(request.instances))
