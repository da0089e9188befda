"""The ``Codec`` for gRPC: calls as messages of TensorFlow Serving's services."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from servable.client.answers import Classification, Metadata, Signature, TensorSpec, VersionStatus
from servable.client.codecs.codec import CLASSIFY, REGRESS, BoundRequest, Call, Choice, Prediction
from servable.client.values.arrays import Array
from servable.client.values.dtypes import name_of_number
from servable.client.values.examples import Examples, write_input
from servable.client.values.tensors import read_tensor, write_tensor
from servable.errors import CODES, InternalError, invalid_argument
from servable.messages import message_class

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
_METHODS = {CLASSIFY: "tensorflow/serving/classify", REGRESS: "tensorflow/serving/regress"}

T = TypeVar("T")


class GrpcCodec:
    """See ``Codec``."""

    def predict(self, bound: BoundRequest) -> Call[Prediction]:
        """Predict: every input with its dtype and shape; outputs are filtered by the server."""
        request = _request("PredictRequest", bound.choice, bound.signature)
        request.output_filter.extend(bound.outputs)
        specs = bound.metadata.signatures[bound.signature].inputs
        for alias, array in bound.inputs.items():
            write_tensor(request.inputs[alias], array, specs[alias].dtype)
        return _call(
            _PREDICTION + "Predict",
            request,
            "PredictResponse",
            lambda reply: _prediction(reply, bound.outputs),
        )

    def classify(
        self, choice: Choice, signature: str, examples: Examples
    ) -> Call[list[list[Classification]]]:
        """Classify."""
        request = _request("ClassificationRequest", choice, signature)
        write_input(request.input, examples)
        return _call(
            _PREDICTION + "Classify",
            request,
            "ClassificationResponse",
            lambda reply: _classifications(reply.result),
        )

    def regress(self, choice: Choice, signature: str, examples: Examples) -> Call[Array]:
        """Regress."""
        request = _request("RegressionRequest", choice, signature)
        write_input(request.input, examples)
        return _call(
            _PREDICTION + "Regress", request, "RegressionResponse", lambda reply: _regressions(reply.result)
        )

    def multi_inference(
        self, choice: Choice, tasks: Mapping[str, str], examples: Examples
    ) -> Call[dict[str, Any]]:
        """MultiInference; replies are in the order of the tasks."""
        request = message_class("tensorflow.serving.MultiInferenceRequest")()
        for signature, method in tasks.items():
            if method not in _METHODS:
                raise invalid_argument(f"a task is {CLASSIFY!r} or {REGRESS!r}, got {method!r}")
            task = request.tasks.add(method_name=_METHODS[method])
            _fill_spec(task.model_spec, choice, signature)
        write_input(request.input, examples)

        def read(reply: Any) -> dict[str, Any]:
            return {
                signature: _classifications(one.classification_result)
                if one.WhichOneof("result") == "classification_result"
                else _regressions(one.regression_result)
                for signature, one in zip(tasks, reply.results, strict=False)
            }

        return _call(_PREDICTION + "MultiInference", request, "MultiInferenceResponse", read)

    def status(self, choice: Choice) -> Call[list[VersionStatus]]:
        """GetModelStatus."""
        request = _request("GetModelStatusRequest", choice)
        return _call(_MODEL + "GetModelStatus", request, "GetModelStatusResponse", _statuses)

    def metadata(self, choice: Choice) -> Call[Metadata]:
        """GetModelMetadata, with its only field."""
        request = _request("GetModelMetadataRequest", choice)
        request.metadata_field.append("signature_def")
        return _call(_PREDICTION + "GetModelMetadata", request, "GetModelMetadataResponse", _metadata)

    def reload(self, config: bytes) -> Call[None]:
        """HandleReloadConfigRequest; must not be sent twice."""
        request = message_class("tensorflow.serving.ReloadConfigRequest")()
        request.config.ParseFromString(config)
        path = _MODEL + "HandleReloadConfigRequest"
        return _call(path, request, "ReloadConfigResponse", lambda _: None, repeatable=False)


def _request(name: str, choice: Choice, signature: str = "") -> Any:
    request = message_class(f"tensorflow.serving.{name}")()
    _fill_spec(request.model_spec, choice, signature)
    return request


def _fill_spec(spec: Any, choice: Choice, signature: str) -> None:
    spec.SetInParent()
    spec.name = choice.model
    spec.signature_name = signature
    if choice.version is not None:
        spec.version.SetInParent()
        spec.version.value = choice.version
    elif choice.label is not None:
        spec.version_label = choice.label


def _call(
    path: str, request: Any, reply: str, read: Callable[[Any], T], *, repeatable: bool = True
) -> Call[T]:
    from google.protobuf.message import DecodeError, EncodeError

    def parsed(content: bytes) -> T:
        try:
            return read(message_class(f"tensorflow.serving.{reply}").FromString(content))
        except (DecodeError, LookupError) as error:
            # Also one with a code or a state that there is not.
            raise InternalError("INTERNAL", f"the reply is no {reply}: {error}") from None

    try:
        body = request.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise invalid_argument(
            f"the request cannot be written as a message: {error}",
            "a message holds 2 GiB at most: ask for fewer rows at once",
        ) from None
    return Call(path, body, parsed, repeatable)


def _prediction(reply: Any, wanted: tuple[str, ...]) -> Prediction:
    for alias in wanted:
        if alias not in reply.outputs:
            raise InternalError("INTERNAL", f"the reply has no output {alias!r}, which was asked for")
    outputs = {alias: read_tensor(reply.outputs[alias]) for alias in wanted or sorted(reply.outputs)}
    told = reply.model_spec.HasField("version")
    return Prediction(outputs, reply.model_spec.version.value if told else None)


def _classifications(result: Any) -> list[list[Classification]]:
    return [[Classification(one.label, one.score) for one in row.classes] for row in result.classifications]


def _regressions(result: Any) -> Array:
    return np.array([one.value for one in result.regressions], np.float32)


def _statuses(reply: Any) -> list[VersionStatus]:
    states = message_class("tensorflow.serving.ModelVersionStatus").DESCRIPTOR.enum_types_by_name["State"]
    return [
        VersionStatus(
            one.version,
            states.values_by_number[one.state].name,
            CODES[one.status.error_code],
            one.status.error_message,
        )
        for one in reply.model_version_status
    ]


def _metadata(reply: Any) -> Metadata:
    definitions = message_class("tensorflow.serving.SignatureDefMap").FromString(
        reply.metadata["signature_def"].value
    )
    signatures = {
        name: Signature(_specs(one.inputs), _specs(one.outputs), one.method_name)
        for name, one in sorted(definitions.signature_def.items())
    }
    return Metadata(reply.model_spec.name, reply.model_spec.version.value, signatures)


def _specs(infos: Any) -> dict[str, TensorSpec]:
    return {
        alias: TensorSpec(
            name_of_number(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for alias, info in sorted(infos.items())
    }
