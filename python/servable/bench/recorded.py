"""Requests from a payload log, or a warm-up file: TFRecords of PredictionLogs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from servable.bench.metadata import fill_spec
from servable.bench.plan import Request
from servable.bench.target import Model, Target
from servable.bench.tensorflow import SERVICE
from servable.bench.values import Value, from_proto
from servable.errors import ServableError
from servable.messages import message_class
from servable.savedmodel.tfrecord import read_records

MOST_RECORDS = 10_000
MOST_BYTES = 1 << 30
_METHODS = {
    "predict_log": "Predict",
    "classify_log": "Classify",
    "regress_log": "Regress",
}
Write = Callable[[str, Sequence[Value]], Request]
"""Makes a request of a signature's name ("": the default) and values."""


def logged_requests(path: str, target: Target, model: Model, write: Write) -> list[Request]:
    """Returns the requests of a file, to ``model``, in the protocol of ``target``.

    Over gRPC of TensorFlow Serving's API they are sent as they were recorded; in other forms only predict
    requests can be. Raises ``ServableError`` if none can be sent, or the file is damaged.
    """
    from google.protobuf.message import DecodeError

    requests: list[Request] = []
    total = 0
    try:
        for data in read_records(path):
            log = message_class("tensorflow.serving.PredictionLog").FromString(data)
            request = _request(log, target, model, write)
            if request is None:
                continue
            requests.append(request)
            total += len(request.body or b"")
            if len(requests) == MOST_RECORDS or total > MOST_BYTES:
                break
    except OSError as error:
        raise ServableError(f"{path} cannot be read: {error.strerror}") from None
    except DecodeError:
        raise ServableError(f"{path}: its records are no PredictionLogs") from None
    if not requests:
        raise ServableError(f"{path} has no request that can be sent to {target.shown}")
    return requests


def _request(log: Any, target: Target, model: Model, write: Write) -> Request | None:
    kind = log.WhichOneof("log_type")
    if kind not in _METHODS:
        return None
    request = getattr(log, kind).request
    if target.grpc and target.protocol == "tensorflow":
        request.model_spec.ClearField("version_choice")
        fill_spec(request.model_spec, model, request.model_spec.signature_name)
        return Request(f"{SERVICE}/{_METHODS[kind]}", (), request.SerializeToString())
    if kind != "predict_log":
        return None
    values = [from_proto(name, tensor) for name, tensor in sorted(request.inputs.items())]
    name = request.model_spec.signature_name
    return write("" if name == "serving_default" else name, values)
