"""The points measured: request, model, and number of connections."""

from __future__ import annotations

import base64
import json
import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from load import APART, FREE, SHARED

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "examples" / "mobilenet_v2" / "panda.jpg"
SIDE, CHANNELS = 224, 3
PICTURE_FLOATS = SIDE * SIDE * CHANNELS


@dataclass(frozen=True)
class Feed:
    """A tensor to feed.

    dtype: float, int32 or string. data: the elements in native byte order; of strings, the only one.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Request:
    """A request to measure.

    body: the JSON sent, or the gRPC message. feeds: the same tensors, by the inputs' aliases, for a bare run.
    flags: additional flags of the server. loads: (connections, layout of cores) of each point, see
    ``load.py``.
    """

    name: str
    title: str
    model: str
    body: bytes
    feeds: dict[str, Feed]
    loads: tuple[tuple[int, str], ...]
    flags: tuple[str, ...] = ()


def requests() -> list[Request]:
    """Returns every request, in the order of the table."""
    return [_tiny(), _floats(), _photo_stub(), _photo(), _picture()]


def _tiny() -> Request:
    values = [1.0, 2.0, 5.0]
    return Request(
        name="tiny",
        title="`half_plus_two`, three numbers",
        model="half_plus_two",
        body=json.dumps({"instances": values}).encode(),
        feeds={"x": Feed("float", (len(values),), floats_of(values))},
        loads=((1, APART), (1, SHARED), (16, FREE), (64, FREE)),
    )


def _floats() -> Request:
    values = four_digits(random.Random(2), PICTURE_FLOATS)
    return Request(
        name="floats",
        title=f"{PICTURE_FLOATS:,} floats in and out",
        model="echo_floats",
        body=json.dumps({"instances": values}).encode(),
        feeds={"x": Feed("float", (len(values),), floats_of(values))},
        loads=((1, FREE), (4, FREE)),
    )


def _photo() -> Request:
    return _of_photo("photo", "photo to label, MobileNetV2", "mobilenet_v2", ((1, FREE), (4, FREE)), ())


def _photo_stub() -> Request:
    # On the threads where the real model runs: the cost of a photo request other than the model's run.
    return _of_photo(
        "photo_stub", "photo to a constant label", "photo_stub", ((1, FREE),), ("--run_in=pool",)
    )


def _of_photo(
    name: str, title: str, model: str, loads: tuple[tuple[int, str], ...], flags: tuple[str, ...]
) -> Request:
    photo = PHOTO.read_bytes()
    body = json.dumps({"inputs": [{"b64": base64.b64encode(photo).decode()}]}).encode()
    return Request(name, title, model, body, {"image_bytes": Feed("string", (1,), photo)}, loads, flags)


def _picture() -> Request:
    values = four_digits(random.Random(3), PICTURE_FLOATS)
    pixels = [values[start : start + CHANNELS] for start in range(0, PICTURE_FLOATS, CHANNELS)]
    rows = [pixels[start : start + SIDE] for start in range(0, len(pixels), SIDE)]
    return Request(
        name="picture",
        title="224x224x3 picture as JSON, MobileNetV2",
        model="mobilenet_v2_float",
        body=json.dumps({"instances": [rows]}).encode(),
        feeds={"images": Feed("float", (1, SIDE, SIDE, CHANNELS), floats_of(values))},
        loads=((1, FREE), (4, FREE)),
    )


def four_digits(source: random.Random, count: int) -> list[float]:
    """Numbers of [-1, 1] with four decimals, as sent by a client that rounds: 1.26 MB for 150,528."""
    draw: Callable[[], float] = lambda: round(source.uniform(-1, 1), 4)  # noqa: E731
    return [draw() for _ in range(count)]


def floats_of(values: list[float]) -> bytes:
    """Returns float32s in native byte order."""
    return array("f", values).tobytes()
