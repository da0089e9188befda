"""The services that Ray's gRPC proxies have to know, without their messages: bytes come, and bytes go.

Ray takes the paths of such functions as ``grpc_servicer_functions``; it replaces the handlers by its own,
which call the replica's method of the same name.
"""

from __future__ import annotations

from typing import Any

import grpc

SERVICES = {
    "tensorflow.serving.PredictionService": (
        "Predict",
        "Classify",
        "Regress",
        "MultiInference",
        "GetModelMetadata",
    ),
    "tensorflow.serving.ModelService": ("GetModelStatus",),
    "inference.GRPCInferenceService": (
        "ServerLive",
        "ServerReady",
        "ServerMetadata",
        "ModelReady",
        "ModelMetadata",
        "ModelConfig",
        "ModelStatistics",
        "ModelInfer",
    ),
}
"""Services and their methods. Left out is what streams, and what would change one replica of many."""

GRPC_FUNCTIONS = (
    "servable.ray.grpc_service.add_PredictionServiceServicer_to_server",
    "servable.ray.grpc_service.add_ModelServiceServicer_to_server",
    "servable.ray.grpc_service.add_GRPCInferenceServiceServicer_to_server",
)
"""For ``grpc_servicer_functions``."""


def add_PredictionServiceServicer_to_server(servicer: Any, server: Any) -> None:  # noqa: N802
    """Adds TensorFlow Serving's PredictionService."""
    _add("tensorflow.serving.PredictionService", servicer, server)


def add_ModelServiceServicer_to_server(servicer: Any, server: Any) -> None:  # noqa: N802
    """Adds TensorFlow Serving's ModelService."""
    _add("tensorflow.serving.ModelService", servicer, server)


def add_GRPCInferenceServiceServicer_to_server(servicer: Any, server: Any) -> None:  # noqa: N802
    """Adds the Open Inference Protocol's service."""
    _add("inference.GRPCInferenceService", servicer, server)


def _add(service: str, servicer: Any, server: Any) -> None:
    methods = {
        name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name)) for name in SERVICES[service]
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
