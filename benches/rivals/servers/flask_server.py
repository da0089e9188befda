"""Flask, run by gunicorn with threads, as Flask's documentation deploys it."""

from __future__ import annotations

from typing import Any

from flask import Flask, request
from saved_model import SavedModel

app = Flask(__name__)
model = SavedModel()


@app.post("/predict")
def predict() -> dict[str, Any]:
    """Answers one request."""
    return {"predictions": model.predict(request.get_json()["instances"])}
