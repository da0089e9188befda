"""For which model a request is: by the path of REST, or by the message of gRPC, as a client has sent them."""

from __future__ import annotations

import re
from urllib.parse import unquote

_REST = re.compile(r"/v[12]/models/([^/:?]+)", re.IGNORECASE)
_SPEC = (1, 1)
"""The name in the ModelSpec that is field 1."""
_WAYS = {
    "/tensorflow.serving.PredictionService/Predict": _SPEC,
    "/tensorflow.serving.PredictionService/Classify": _SPEC,
    "/tensorflow.serving.PredictionService/Regress": _SPEC,
    "/tensorflow.serving.PredictionService/GetModelMetadata": _SPEC,
    "/tensorflow.serving.ModelService/GetModelStatus": _SPEC,
    # That of its first task or of its last, which have to be the same.
    "/tensorflow.serving.PredictionService/MultiInference": (1, 1, 1),
    "/inference.GRPCInferenceService/ModelInfer": (1,),
    "/inference.GRPCInferenceService/ModelReady": (1,),
    "/inference.GRPCInferenceService/ModelMetadata": (1,),
    "/inference.GRPCInferenceService/ModelConfig": (1,),
    "/inference.GRPCInferenceService/ModelStatistics": (1,),
}
"""Numbers of the fields that lead to the name, by method."""
_MOST_FIELDS = 4096
"""Most fields of a message that are looked at."""
_BYTES = 2
_FIXED = {1: 8, 5: 4}


def of_path(path: str) -> str:
    """Returns the name in a percent-encoded path; "" if there is none."""
    found = _REST.match(path)
    return unquote(found[1]) if found else ""


def of_message(method: str, message: bytes) -> str:
    """Returns the name in a serialized message; "" if there is none, or the message is broken."""
    way = _WAYS.get(method)
    if way is None:
        return ""
    part: memoryview | None = memoryview(message)
    for number in way:
        if part is None:
            return ""
        try:
            part = _last(part, number)
        except ValueError:
            return ""
    try:
        return bytes(part or b"").decode()
    except UnicodeDecodeError:
        return ""


def _last(message: memoryview, number: int) -> memoryview | None:
    """Returns the last field of that number that is of bytes, which is the one that counts.

    Raises ``ValueError`` if the message is broken.
    """
    found, at = None, 0
    for _ in range(_MOST_FIELDS):
        if at >= len(message):
            break
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("cut off")
            if tag >> 3 == number:
                found = message[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(message, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError("a group")
    return found


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no number")
