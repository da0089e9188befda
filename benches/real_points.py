"""The requests to the real models, each for one picture, text, recording or row."""

from __future__ import annotations

import base64
import json
import math
import random
from array import array
from typing import Any

from points import PHOTO, Feed, Request, floats_of, four_digits
from real_models import CATEGORIES, CHANNELS, COLUMNS, IDS, SAMPLES, SIDE, STEPS, VOCABULARY

PICTURE = (1, 224, 224, 3)


def requests() -> list[Request]:
    """Returns a request to each model, in the order of the table; without a body where REST is left out.

    A picture of 224x224x3 as JSON costs the same whichever network it is for: over REST it is measured
    with MobileNetV2 alone, and with the others over gRPC.
    """
    return [
        _photo(),
        _floats("mobilenet_v2_float", "MobileNetV2, 224x224x3 floats", "images", PICTURE),
        _without_rest(_floats("resnet50", "ResNet50, 224x224x3 floats", "images", PICTURE)),
        _without_rest(_floats("efficientnet_b0", "EfficientNetB0, 224x224x3 floats", "images", PICTURE)),
        _ids(),
        _floats("lstm", "LSTM, 64 steps of 32", "steps", (1, STEPS, CHANNELS)),
        _floats("conv1d", "Conv1D, 4,000 samples", "samples", (1, SAMPLES, 1)),
        _floats("unet", "U-Net, 128x128x3 floats in, 128x128 out", "images", (1, SIDE, SIDE, 3)),
        _row(),
    ]


def _request(model: str, title: str, body: dict[str, Any], feeds: dict[str, Feed]) -> Request:
    return Request(model, title, model, json.dumps(body).encode(), feeds, ())


def _without_rest(request: Request) -> Request:
    return Request(request.name, request.title, request.model, b"", request.feeds, ())


def _photo() -> Request:
    photo = PHOTO.read_bytes()
    body = {"inputs": [{"b64": base64.b64encode(photo).decode()}]}
    feeds = {"image_bytes": Feed("string", (1,), photo)}
    return _request("mobilenet_v2", "MobileNetV2, photo to label", body, feeds)


def _floats(model: str, title: str, alias: str, shape: tuple[int, ...]) -> Request:
    values = four_digits(random.Random(5), math.prod(shape))
    body = {"instances": nested(values, shape)}
    return _request(model, title, body, {alias: Feed("float", shape, floats_of(values))})


def nested(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Returns the values as lists in lists, of the given sizes."""
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values


def _ids() -> Request:
    source = random.Random(6)
    ids = [source.randrange(VOCABULARY) for _ in range(IDS)]
    feeds = {"ids": Feed("int32", (1, IDS), array("i", ids).tobytes())}
    return _request("transformer", "Transformer, 128 ids", {"instances": [ids]}, feeds)


def _row() -> Request:
    columns = four_digits(random.Random(7), COLUMNS)
    category = CATEGORIES[7]
    feeds = {
        "category": Feed("string", (1, 1), category.encode()),
        "columns": Feed("float", (1, COLUMNS), floats_of(columns)),
    }
    body = {"instances": [{"category": [category], "columns": columns}]}
    return _request("table", "Table, a string and 12 numbers", body, feeds)
