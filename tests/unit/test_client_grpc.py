"""The client over gRPC, against a small server of grpcio: statuses, retries, limits, sizes, sockets."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_stub import answering, no_versions

from servable import Client
from servable.client.answers import Metadata, Signature, TensorSpec
from servable.client.codecs.codec import BoundRequest, Choice
from servable.client.codecs.grpc import GrpcCodec
from servable.client.model_config import serialized_config
from servable.client.values.tensors import read_tensor, write_tensor
from servable.errors import (
    CODES,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    StatusError,
    UnavailableError,
    status_error,
)
from servable.messages import message_class

Ask = Callable[..., Any]


def message(name: str) -> Any:
    return message_class(f"tensorflow.serving.{name}")()


@pytest.mark.parametrize("code", CODES[1:])
def test_statuses(code: str) -> None:
    def refuse(method: str, request: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode[code], "the text")
        return b""

    with (
        answering(refuse) as stub,
        Client(stub.address, retries=0) as client,
        pytest.raises(StatusError) as raised,
    ):
        client.status("m")
    assert (raised.value.code, raised.value.message) == (code, "the text")
    assert type(raised.value) is type(status_error(code, ""))


def test_another_try(ask: Ask) -> None:
    def refuse_once(method: str, request: bytes, context: Any) -> bytes:
        if len(stub.methods) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return b""

    with answering(refuse_once) as stub:
        assert ask(stub.address, "status", "m") == []
    assert stub.methods == ["GetModelStatus"] * 2


def test_nobody_there(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        ask(f"unix://{tmp_path}/nobody", "status", "m", retries=1)


def test_a_server_that_comes_late(tmp_path: Path) -> None:
    """A refused connection is retried soon enough for the client's own retries."""
    with Client(f"unix://{tmp_path}/s", retries=20) as client:
        with pytest.raises(UnavailableError):
            client.with_limits(retries=0).status("m")
        with answering(no_versions, tmp_path / "s"):
            assert client.with_limits(retries=20).status("m") == []


def test_a_server_that_says_nothing(ask: Ask) -> None:
    def silent(method: str, request: bytes, context: Any) -> bytes:
        stub.stopping.wait(60)
        return b""

    with answering(silent) as stub, pytest.raises(DeadlineExceededError):
        ask(stub.address, "status", "m", timeout=0.3)


def test_a_reply_that_is_none(ask: Ask) -> None:
    with (
        answering(lambda method, request, context: b"\xff") as stub,
        pytest.raises(InternalError, match="no GetModel"),
    ):
        ask(stub.address, "status", "m")


def test_headers_are_metadata(ask: Ask) -> None:
    seen: dict[str, str | bytes] = {}

    def note(method: str, request: bytes, context: Any) -> bytes:
        seen.update(context.invocation_metadata())
        return b""

    with answering(note) as stub:
        ask(stub.address, "status", "m", headers={"Authorization": "Bearer x", "id-bin": "text"})
    assert seen["authorization"] == "Bearer x"
    assert seen["id-bin"] == b"text"


def predicting(method: str, request: bytes, context: Any) -> bytes:
    """Implements a model ``x: float[-1] -> y: float[-1]`` that returns its input."""
    if method == "GetModelMetadata":
        reply = message("GetModelMetadataResponse")
        definitions = message("SignatureDefMap")
        signature = definitions.signature_def["serving_default"]
        for info in (signature.inputs["x"], signature.outputs["y"]):
            info.dtype = 1
            info.tensor_shape.dim.add(size=-1)
        reply.model_spec.version.value = 3
        reply.metadata["signature_def"].value = definitions.SerializeToString()
        return bytes(reply.SerializeToString())
    asked = message("PredictRequest").FromString(request)
    assert asked.model_spec.signature_name == "serving_default"
    answer = message("PredictResponse")
    write_tensor(answer.outputs["y"], read_tensor(asked.inputs["x"]), "float")
    answer.model_spec.version.value = 3
    return bytes(answer.SerializeToString())


def test_messages_of_any_size(ask: Ask) -> None:
    """gRPC's own limit is 4 MiB."""
    array = np.arange(2_000_000, dtype=np.float32)
    with answering(predicting) as stub:
        np.testing.assert_array_equal(ask(stub.address, "predict", "m", array), array)
    assert stub.methods == ["GetModelMetadata", "Predict"]


def test_outputs_as_asked_for() -> None:
    both = Signature({}, {alias: TensorSpec("float", None) for alias in ("a", "b")})
    question = BoundRequest(Choice("m"), "s", {}, Metadata("m", 1, {"s": both}), ("b", "a"))
    reply = message("PredictResponse")
    for alias in ("a", "b"):
        write_tensor(reply.outputs[alias], np.zeros(1, np.float32), "float")
    assert list(GrpcCodec().predict(question).read(reply.SerializeToString()).outputs) == ["b", "a"]
    every = replace(question, outputs=())
    assert list(GrpcCodec().predict(every).read(reply.SerializeToString()).outputs) == ["a", "b"]
    with pytest.raises(InternalError, match="no output 'b'"):
        GrpcCodec().predict(question).read(b"")


def test_threads_share_a_client() -> None:
    with answering(predicting) as stub, Client(stub.address) as client:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda number: client.predict("m", number), range(40)))
        assert [answer.tolist() for answer in answers] == [[number] for number in range(40)]


def test_choices_on_the_wire() -> None:
    seen = []

    def note(method: str, request: bytes, context: Any) -> bytes:
        seen.append(message("GetModelMetadataRequest").FromString(request).model_spec)
        return predicting(method, request, context)

    with answering(note) as stub, Client(stub.address) as client:
        client.metadata("m")
        client.metadata("m", version=0)
        client.metadata("m", label="")
    assert [one.WhichOneof("version_choice") for one in seen] == [None, "version", "version_label"]


# ---- the argument of reload


def parsed(content: bytes) -> list[tuple[str, str, str]]:
    config = message("ModelServerConfig").FromString(content).model_config_list.config
    return [(one.name, one.base_path, one.model_platform) for one in config]


def test_configurations(tmp_path: Path) -> None:
    text = 'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" } }'
    file = tmp_path / "models.config"
    file.write_text(text)
    expected = [("a", "/a", "tensorflow")]
    assert parsed(serialized_config({"a": "/a"})) == expected
    assert parsed(serialized_config({"a": Path("/a")})) == expected
    assert parsed(serialized_config(text)) == expected
    assert parsed(serialized_config(file)) == expected
    assert parsed(serialized_config(message("ModelServerConfig"))) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("models.config", "not a ModelServerConfig"),
        (Path("/nowhere/models.config"), "cannot be read"),
        (Path("a\0b"), "cannot be read"),
        ({"a": 1}, "got a mapping with 'a': 1"),
        ({"\ud800": "/a"}, "half a character"),
        ({"a": "/\ud800"}, "half a character"),
        (7, "got int"),
    ],
)
def test_configurations_that_are_none(config: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        serialized_config(config)


def test_a_task_that_does_not_exist() -> None:
    with Client("grpc://localhost") as client, pytest.raises(InvalidArgumentError, match="got 'predict'"):
        client.multi_inference("m", {"x": 1}, {"s": "predict"})


def test_a_certificate_that_is_not_there() -> None:
    with pytest.raises(InvalidArgumentError, match="ca_file /nowhere cannot be read"):
        Client("grpcs://localhost", ca_file="/nowhere")
    with pytest.raises(InvalidArgumentError, match="ca_file /nowhere cannot be read"):
        Client("https://localhost", ca_file="/nowhere")
    for address in ("grpcs://localhost", "https://localhost"):
        with pytest.raises(InvalidArgumentError, match="cannot be read: embedded null byte"):
            Client(address, ca_file="a\0b")


def test_a_reply_with_a_code_that_there_is_not(ask: Ask) -> None:
    def odd(method: str, request: bytes, context: Any) -> bytes:
        reply = message("GetModelStatusResponse")
        reply.model_version_status.add(version=1).status.error_code = 99
        return bytes(reply.SerializeToString())

    with answering(odd) as stub, pytest.raises(InternalError, match="the reply is no GetModelStatusResponse"):
        ask(stub.address, "status", "m")
