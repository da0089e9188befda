"""Requests, and parts of them, from files: whole bodies, and pictures of a folder."""

from __future__ import annotations

import os

from servable.bench.plan import Request
from servable.bench.target import V2, Model, Target
from servable.bench.tensorflow import JSON, SERVICE
from servable.bench.v2 import METHOD
from servable.errors import ServableError
from servable.regular_files import open_file

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
MOST_PICTURES = 1000
MOST_BYTES = 1 << 30
"""Most bytes of all pictures: they are in memory during the load."""


def body_request(target: Target, model: Model, path: str) -> Request:
    """Returns a predict or infer request whose body, or message, is a file. Raises ``ServableError``."""
    content = _read(path)
    if target.grpc:
        return Request(METHOD if target.protocol == V2 else f"{SERVICE}/Predict", (), content)
    verb = "/infer" if target.protocol == V2 else ":predict"
    headers = (JSON,) if content.lstrip()[:1] == b"{" else (("Content-Type", "application/octet-stream"),)
    return Request(target.model_path(model) + verb, headers, content)


def pictures(folder: str) -> list[bytes]:
    """Returns the pictures of a folder by their names, a thousand at most. Raises ``ServableError``."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(ENDINGS))
    except OSError as error:
        raise ServableError(f"{folder} cannot be read: {error.strerror}") from None
    if not names:
        raise ServableError(f"{folder} has no pictures: none of its files ends in {', '.join(ENDINGS)}")
    found, total = [], 0
    for name in names[:MOST_PICTURES]:
        found.append(_read(os.path.join(folder, name)))
        total += len(found[-1])
        if total > MOST_BYTES:
            raise ServableError(f"{folder} has more than {MOST_BYTES >> 20} MB of pictures; choose fewer")
    return found


def _read(path: str) -> bytes:
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise ServableError(f"{path} cannot be read: {error.strerror}") from None
