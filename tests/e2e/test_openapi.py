"""OpenAPI documents: valid, true and complete. Every example in them is answered, and as they say."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from clients import await_versions
from conftest import ROOT, Served
from model_configs import config_file, entry
from openapi_documents import Document, examples, faults, operations, read, schema_faults
from openapi_spec_validator import OpenAPIV31SpecValidator
from servers import DROP_IN, MODELS, put_version, serving
from tokens import TokenFile, get
from wire import ask

from servable.cli.openapi import WITHOUT_SERVER

pytestmark = pytest.mark.needs_tensorflow

NOT_RUN = {"hidden_variables", "tflite_counter"}
"""Models that load, and cannot run: without variables, or with outputs that LiteRT cannot return."""


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    models = sorted(path.parent for path in MODELS.glob("*/1"))
    with serving(
        *models, "--base64_non_utf8", ready=r"ready: \d+ of \d+ models|could not be loaded"
    ) as served:
        yield served


def served_models(served: Served) -> list[str]:
    """Returns the test models that are served: not those that do not load, or whose engine is not here."""
    index = json.loads(ask(served, "GET", "/v2/repository/index").body)
    return [one["name"] for one in index if one["state"] == "READY" and one["name"] not in NOT_RUN]


# ---- every test model


def test_documents_are_valid_and_examples_are_answered(server: Served) -> None:
    wrong: list[str] = []
    answered = 0
    for model in served_models(server):
        document = read(server, model)
        wrong += [f"{model}: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
        for path, method, operation in operations(document):
            bodies = examples(operation)
            requests = [("", None)] if method == "GET" else list(bodies.items())
            for name, body in requests:
                reply = ask(server, method, path, None if body is None else json.dumps(body))
                answered += 1
                # Of a model without a default signature, only the others can be asked for.
                is_good = reply.status == 200 or "serving_default" in reply.text.partition("not found")[0]
                found = [] if is_good else [f"{reply.status} {reply.body[:200]!r}"]
                found += faults(document, operation, reply) + _request_faults(document, operation, body)
                wrong += [f"{model} {path} {name}: {fault}" for fault in found]
        assert answered > 0
    assert not wrong, "\n".join(wrong)


def _request_faults(document: Document, operation: Document, body: Any) -> list[str]:
    if body is None:
        return []
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema_faults(document, schema, body)


def test_most_models_have_examples(server: Served) -> None:
    without = []
    for model in served_models(server):
        document = read(server, model)
        predict = document["paths"][f"/v1/models/{model}:predict"]["post"]
        if not examples(predict):
            without.append(model)
    assert set(without) <= {"openvino_types", "tflite_types", "openvino_wide"}, without


def test_the_document_of_the_server_is_valid_and_true(server: Served) -> None:
    document = read(server)
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    places = {"model": "half_plus_two", "version": "1"}
    told = 0
    for path, method, operation in operations(document):
        if method != "GET" or "{label}" in path:
            continue
        reply = ask(server, "GET", path.format(**places))
        assert reply.status == 200, (path, reply)
        assert faults(document, operation, reply) == [], path
        told += 1
    assert told > 20
    assert read(server) == document


def test_each_status_is_described(server: Served) -> None:
    document = read(server, "pair")
    predict = document["paths"]["/v1/models/pair:predict"]["post"]
    for path, body, status in [
        ("pair:predict", "{", 400),
        ("pair:predict", '{"instances": [1]}', 400),
        ("no_model:predict", '{"instances": [1]}', 404),
        ("pair:predict?x", "{}", 400),
    ]:
        reply = ask(server, "POST", f"/v1/models/{path}", body)
        assert (reply.status, faults(document, predict, reply)) == (status, []), path


def test_a_request_that_is_wrong_is_wrong_by_the_document(server: Served) -> None:
    document = read(server, "pair")
    schema = document["paths"]["/v1/models/pair:predict"]["post"]["requestBody"]["content"][
        "application/json"
    ]["schema"]
    for body, is_right in [
        ({"instances": [{"a": 1.5, "b": 2}]}, True),
        ({"inputs": {"a": [1], "b": [2]}, "outputs": ["sum"]}, True),
        ({"instances": []}, False),
        ({"instances": [{"a": 1.5}]}, False),
        ({"instances": [{"a": 1.5, "b": 2.5}]}, False),
        ({"instances": [{"a": 1.5, "b": 2**31}]}, False),
        ({"inputs": {"a": [1]}}, False),
        ({"inputs": {"a": [1], "b": [2]}, "outputs": ["other"]}, False),
        ({"inputs": {"a": [1], "b": [2]}, "signature_name": "other"}, False),
    ]:
        assert (schema_faults(document, schema, body) == []) == is_right, body
        reply = ask(server, "POST", "/v1/models/pair:predict", json.dumps(body))
        assert (reply.status == 200) == is_right, (body, reply)


# ---- how documents are asked for


def test_methods_and_paths_are_answered_as_elsewhere(server: Served) -> None:
    whole = ask(server, "GET", "/v1/models/pair/openapi.json")
    head = ask(server, "HEAD", "/v1/models/pair/openapi.json")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    for method, path, status, words in [
        ("POST", "/v1/models/pair/openapi.json", 400, "Malformed request: POST"),
        ("PUT", "/v1/models/pair/openapi.json", 400, "Malformed request: PUT"),
        ("GET", "/v1/models/pair/openapi.json?x", 400, "Malformed request: GET"),
        ("GET", "/v1/models/versions/1/openapi.json", 400, "Missing model name"),
        ("GET", "/v1/models/none/openapi.json", 404, "Servable not found for request: Latest(none)"),
        ("GET", "/v1/models/pair/versions/9/openapi.json", 404, "Specific(pair, 9)"),
        ("GET", "/v1/models/pair/labels/x/openapi.json", 400, "Unrecognized servable version label: x"),
        ("POST", "/openapi.json", 404, "Not Found: /openapi.json"),
        ("GET", "/openapi.json?x", 404, "Not Found: /openapi.json?x"),
        ("GET", "/v1/openapi.json", 400, "Malformed request"),
        ("GET", "/v1/models/openapi.json", 404, "Could not find any versions of model openapi.json"),
    ]:
        reply = ask(server, method, path)
        assert reply.status == status and words in reply.error, (method, path, reply)


def test_they_are_packed_for_clients_that_accept_it(server: Served) -> None:
    reply = ask(server, "GET", "/openapi.json", Accept_Encoding="gzip")
    assert reply.headers["content-encoding"] == "gzip"


def test_versions_and_labels_have_documents(tmp_path: Path) -> None:
    base = tmp_path / "a b"
    for version in (1, 2):
        put_version("half_plus_two", base, version)
    config = config_file(
        tmp_path,
        entry(
            "a b",
            base,
            modelVersionPolicy={"all": {}},
            versionLabels={"stable": 1},
        ),
    )
    with serving(f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models") as served:
        # It serves as soon as one of them is loaded.
        await_versions(served, "a%20b", 1, 2)
        for of, version in [("a%20b", "2"), ("a%20b/versions/1", "1"), ("a%20b/labels/stable", "1")]:
            document = read(served, of)
            assert document["info"]["version"] == version
            path = f"/v1/models/{of}:predict"
            operation = document["paths"][path]["post"]
            for body in examples(operation).values():
                reply = ask(served, "POST", path, json.dumps(body))
                assert reply.status == 200 and faults(document, operation, reply) == []
            infer = document["paths"][f"/v2/models/{of}/infer"]["post"]
            for body in examples(infer).values():
                reply = ask(served, "POST", f"/v2/models/{of}/infer", json.dumps(body))
                assert reply.status == 200 and faults(document, infer, reply) == []


def test_the_drop_in_has_none_unless_a_flag_opens_them(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    model = [
        *("--model_name=m", f"--model_base_path={MODELS / 'half_plus_two'}"),
        *("--port=0", f"--rest_api_port={port}", f"--grpc_socket_path={tmp_path / 's'}"),
    ]
    with serving(*model, command=DROP_IN) as served:
        assert ask(served, "GET", "/openapi.json").status == 404
        reply = ask(served, "GET", "/v1/models/m/openapi.json")
        assert (reply.status, reply.error) == (400, "Malformed request: GET /v1/models/m/openapi.json")
        large = "/v1/models/m/versions/99999999999999999999/openapi.json"
        assert ask(served, "GET", large).error == f"Malformed request: GET {large}"
    with serving(*model, "--openapi", command=DROP_IN) as served:
        document = read(served)
        assert not any(path.startswith(("/v2", "/livez")) for path in document["paths"])
        assert "/v2/models/m" not in read(served, "m")["paths"]


def test_a_token_is_needed_where_tokens_are(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    tokens.add("one", "predict", "pair")
    tokens.add("two", "read", "half_plus_two")
    tokens.add("three", "manage")
    paths = ("/openapi.json", "/v1/models/pair/openapi.json", "/v1/models/half_plus_two/openapi.json")
    with serving(MODELS / "half_plus_two", MODELS / "pair", tokens.flag) as served:
        statuses = {
            name: [get(served, path, token).status for path in paths]
            for name, token in {"none": "", **tokens.tokens}.items()
        }
        assert statuses == {
            "none": [401, 401, 401],
            "one": [200, 200, 403],
            "two": [200, 403, 200],
            "three": [403, 403, 403],
        }
        document = read(served, Authorization=tokens.bearer("one"))
        assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
        assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
        assert "half_plus" not in json.dumps(document), "who may read one model learns no other's name"
        operation = document["paths"]["/v1/models/{model}/openapi.json"]["get"]
        assert faults(document, operation, get(served, paths[1])) == []


# ---- the command, and the example of the documentation


def test_the_command_prints_what_the_server_says(server: Served) -> None:
    def run(url: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "servable", "openapi", url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    for url, of in [(server.rest, ""), (f"{server.rest}/v1/models/pair/versions/1", "pair/versions/1")]:
        ended = run(url)
        assert ended.returncode == 0, ended.stderr
        printed = json.loads(ended.stdout)
        assert printed["servers"] == [{"url": server.rest}]
        assert printed == {**read(server, of), "servers": printed["servers"]}
    ended = run(f"{server.rest}/v1/models/none")
    assert ended.returncode == 1 and "Servable not found" in ended.stderr


def test_the_command_needs_no_server_for_files() -> None:
    models = [MODELS / "pair", *([MODELS / "onnx_pair"] if find_spec("onnxruntime") else [])]
    with serving(*models) as served:
        for model in models:
            command = [sys.executable, "-m", "servable", "openapi", str(model)]
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            assert (ended.returncode, ended.stderr) == (0, "")
            expected = {**read(served, model.name), "servers": [{"url": WITHOUT_SERVER}]}
            assert json.loads(ended.stdout) == expected
    command = [sys.executable, "-m", "servable", "openapi", str(MODELS / "unknown_op")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "Op type not registered" in ended.stderr and "hint: " in ended.stderr


def test_the_example_of_the_documentation_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_openapi_example.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert ended.returncode == 0, ended.stderr
