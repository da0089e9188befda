"""The points measured over gRPC: serialized ``PredictRequest``s."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping

from load import APART, FREE, SHARED
from points import PICTURE_FLOATS, SIDE, Feed, Request

TEN_MB_BATCH = 17  # pictures: 10.2 MB of floats
DATA_TYPES = {"float": 1, "int32": 3, "string": 7}  # tensorflow.DataType


def requests() -> list[Request]:
    """Returns every request, in the order of the table; ``loads`` are (calls in flight, layout of cores)."""
    values = array("f", [1.0, 2.0, 5.0])
    return [
        _floats(
            "grpc_tiny",
            "gRPC: `half_plus_two`, three numbers",
            ("half_plus_two", "x"),
            (3,),
            values.tobytes(),
            ((1, APART), (1, SHARED), (16, FREE)),
        ),
        _pictures("grpc_picture", 1),
        _pictures("grpc_pictures", TEN_MB_BATCH),
    ]


def _pictures(name: str, count: int) -> Request:
    source = random.Random(4)
    picture = array("f", [source.uniform(-1, 1) for _ in range(PICTURE_FLOATS)]).tobytes()
    return _floats(
        name,
        f"gRPC: {count * PICTURE_FLOATS:,} floats to {count}x1000, next to no model",
        ("floats_stub", "images"),
        (count, SIDE, SIDE, 3),
        picture * count,
        ((1, FREE), (4, FREE)),
    )


def _floats(
    name: str,
    title: str,
    fed: tuple[str, str],
    shape: tuple[int, ...],
    data: bytes,
    loads: tuple[tuple[int, str], ...],
) -> Request:
    """Makes a request of floats; ``fed`` is the model and the alias of its input."""
    model, alias = fed
    feeds = {alias: Feed("float", shape, data)}
    return Request(name, title, model, predict_request(model, feeds), feeds, loads)


def predict_request(model: str, feeds: Mapping[str, Feed]) -> bytes:
    """Returns a ``tensorflow.serving.PredictRequest``, its numbers as ``tensor_content``."""
    entries = (block(2, block(1, alias.encode()) + block(2, _tensor(feed))) for alias, feed in feeds.items())
    return block(1, block(1, model.encode())) + b"".join(entries)


def _tensor(feed: Feed) -> bytes:
    sizes = b"".join(block(2, _number(1, size)) for size in feed.shape)
    elements = 8 if feed.dtype == "string" else 4  # string_val, tensor_content
    return _number(1, DATA_TYPES[feed.dtype]) + block(2, sizes) + block(elements, feed.data)


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, data: bytes) -> bytes:
    """Returns a field of a message that has a length: text, bytes or a message."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Returns a number as protobuf writes it."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
