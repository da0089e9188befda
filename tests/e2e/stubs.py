"""TensorFlow Serving's messages: from its own package if installed, otherwise Servable's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from servable.messages import message_class

PATIENCE = 60.0
MODULES = {
    "ClassificationRequest": "classification",
    "ClassificationResponse": "classification",
    "GetModelMetadataRequest": "get_model_metadata",
    "GetModelMetadataResponse": "get_model_metadata",
    "GetModelStatusRequest": "get_model_status",
    "GetModelStatusResponse": "get_model_status",
    "MultiInferenceRequest": "inference",
    "MultiInferenceResponse": "inference",
    "PredictRequest": "predict",
    "PredictResponse": "predict",
    "RegressionRequest": "regression",
    "RegressionResponse": "regression",
    "ReloadConfigRequest": "model_management",
    "ReloadConfigResponse": "model_management",
    "SignatureDefMap": "get_model_metadata",
}
"""Message → module of the official package."""
METHODS = {
    "Predict": ("PredictionService", "PredictRequest", "PredictResponse"),
    "Classify": ("PredictionService", "ClassificationRequest", "ClassificationResponse"),
    "Regress": ("PredictionService", "RegressionRequest", "RegressionResponse"),
    "MultiInference": ("PredictionService", "MultiInferenceRequest", "MultiInferenceResponse"),
    "GetModelMetadata": ("PredictionService", "GetModelMetadataRequest", "GetModelMetadataResponse"),
    "GetModelStatus": ("ModelService", "GetModelStatusRequest", "GetModelStatusResponse"),
    "HandleReloadConfigRequest": ("ModelService", "ReloadConfigRequest", "ReloadConfigResponse"),
}
"""Method → service, request, response."""


def own_message(name: str) -> Any:
    """Returns a message of ``tensorflow.serving`` from Servable's private pool."""
    return message_class(f"tensorflow.serving.{name}")


def official_message(name: str) -> Any:
    """Returns the one from ``tensorflow-serving-api``; skips the test if that is not installed."""
    module = f"tensorflow_serving.apis.{MODULES[name]}_pb2"
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        pytest.skip(f"the official stubs are not installed: {error}")


def set_floats(tensor: Any, *values: float, size: int | None = None) -> None:
    """Makes a TensorProto a vector of float32. size: that of the shape, if not the number of values."""
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=len(values) if size is None else size)
    tensor.float_val.extend(values)


def floats_request(model: str, *values: float, size: int | None = None) -> Any:
    """Returns a PredictRequest with ``x`` as set by ``set_floats``."""
    request = own_message("PredictRequest")()
    request.model_spec.name = model
    set_floats(request.inputs["x"], *values, size=size)
    return request


def call(
    channel: grpc.Channel,
    method: str,
    request: Any,
    message: Callable[[str], Any],
    timeout: float | None = PATIENCE,
) -> Any:
    """Makes a unary call by the bare name of its method; raises ``grpc.RpcError``."""
    service, _, response = METHODS[method]
    path = f"/tensorflow.serving.{service}/{method}"
    stub = channel.unary_unary(path, type(request).SerializeToString, message(response).FromString)
    return stub(request, timeout=timeout, wait_for_ready=True)


def failure(call: Callable[[], Any]) -> tuple[str, str]:
    """Returns code and text of a failing call; ("OK", "") if it succeeds."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""
