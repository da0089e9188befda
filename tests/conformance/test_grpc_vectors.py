"""Every case of the specification's ``grpc.json``, with the official stubs and Servable's own messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from conftest import SHARED, Served
from google.protobuf import text_format
from servers import serving
from stubs import METHODS, call, official_message, own_message

pytestmark = [pytest.mark.needs_tensorflow, pytest.mark.needs_shared]

PLAIN = {
    "half_plus_two": "half_plus_two_cpu",
    "half_plus_three": "half_plus_three",
    "half_plus_two_tf2": "half_plus_two_tf2_cpu",
    "counter": "counter",
}
"""Models with one version, and their folders without ``saved_model_``."""
MODEL = 'config {{ name: "{0}" base_path: "{1}/saved_model_{2}" model_platform: "tensorflow" {3} }}'
TWO_VERSIONS = """
  model_version_policy { all {} }
  version_labels { key: "stable" value: 123 }
  version_labels { key: "canary" value: 124 }
"""
STATEFUL = "Predict/PredictionWithCustomizedSignatures/"
"""These depend on each other, in order, and on a counter that starts at 0."""


def _cases() -> list[dict[str, Any]]:
    file = SHARED / "spec" / "vectors" / "grpc.json"
    return list(json.loads(file.read_text())["cases"]) if file.is_file() else []


CASES = _cases()
ALONE = [pytest.param(case, id=case["name"]) for case in CASES if not case["name"].startswith(STATEFUL)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    config = tmp_path_factory.mktemp("config") / "models.config"
    folder = SHARED.resolve() / "testdata" / "tensorflow_serving"
    models = [MODEL.format(name, folder, model, "") for name, model in PLAIN.items()]
    models.append(MODEL.format("two_versions", folder, "half_plus_two_2_versions", TWO_VERSIONS))
    config.write_text("model_config_list {\n" + "\n".join(models) + "\n}\n")
    labels = "--allow_version_labels_for_unavailable_models"
    with serving(f"--model_config_file={config}", "--port=0", labels) as server:
        yield server


@pytest.fixture(scope="module")
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.grpc) as open_channel:
        yield open_channel


@pytest.fixture(params=[official_message, own_message], ids=["official", "own"])
def message(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    message: Callable[[str], Any] = request.param
    message("PredictRequest")
    return message


@pytest.mark.parametrize("case", ALONE or [pytest.param({}, id="none")])
def test_case(channel: grpc.Channel, message: Callable[[str], Any], case: dict[str, Any]) -> None:
    _check(channel, message, case)


def test_cases_of_the_counter(channel: grpc.Channel, message: Callable[[str], Any]) -> None:
    reset = 'model_spec { name: "counter" signature_name: "reset_counter" }'
    call(channel, "Predict", text_format.Parse(reset, message("PredictRequest")()), message)
    cases = [case for case in CASES if case["name"].startswith(STATEFUL)]
    assert len(cases) == 5
    for case in cases:
        _check(channel, message, case)


def _check(channel: grpc.Channel, message: Callable[[str], Any], case: dict[str, Any]) -> None:
    _, request_name, response_name = METHODS[case["rpc"]]
    request = text_format.Parse(case["request"], message(request_name)())
    try:
        response, code, text = call(channel, case["rpc"], request, message), "OK", ""
    except grpc.RpcError as error:
        response, code, text = None, error.code().name, error.details() or ""
    assert code == case["code"], text
    if "message" in case:
        assert text == case["message"]
    if "message_prefix" in case:
        assert text.startswith(case["message_prefix"])
    if "response" in case:
        expected = text_format.Parse(
            case["response"], message(response_name)(), descriptor_pool=_pool(message)
        )
        assert _comparable(response, message) == _comparable(expected, message)


def _pool(message: Callable[[str], Any]) -> Any:
    """Returns the pool for types inside of an Any."""
    return message("SignatureDefMap").DESCRIPTOR.file.pool


def _comparable(response: Any, message: Callable[[str], Any]) -> Any:
    """Returns the response with metadata unpacked, because the bytes of a map have no fixed order."""
    if response.DESCRIPTOR.name != "GetModelMetadataResponse":
        return response
    unpacked = {}
    for field, packed in response.metadata.items():
        unpacked[field] = message("SignatureDefMap").FromString(packed.value)
        assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    return response.model_spec, unpacked
