"""OpenAPI documents of running servers: how they are read, and what replies have to be by them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from conftest import Served
from jsonschema import Draft202012Validator
from wire import Reply, ask

Document = dict[str, Any]


def read(served: Served, of: str = "", **headers: str) -> Document:
    """Returns the document of the server, or ``of`` a model: ``NAME[/versions/V|/labels/L]``."""
    path = f"/v1/models/{of}/openapi.json" if of else "/openapi.json"
    reply = ask(served, "GET", path, **headers)
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "application/json"
    document = json.loads(reply.body)
    assert isinstance(document, dict)
    return document


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Yields path, method and operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def examples(operation: Document) -> dict[str, Any]:
    """Returns the examples of a request in JSON, by name."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {name: one["value"] for name, one in content.get("examples", {}).items()}


def faults(document: Document, operation: Document, reply: Reply) -> list[str]:
    """Returns what of a reply is not as ``operation`` says."""
    said = operation["responses"].get(str(reply.status))
    if said is None:
        return [f"status {reply.status} is not there: {reply.body[:200]!r}"]
    if "$ref" in said:
        said = document["components"]["responses"][said["$ref"].rpartition("/")[2]]
    media_type = reply.headers["content-type"].partition(";")[0]
    if media_type not in said["content"]:
        return [f"content type {media_type} is not there"]
    schema = said["content"][media_type].get("schema")
    if schema is None or media_type != "application/json":
        return []
    return schema_faults(document, schema, json.loads(reply.body))


def schema_faults(document: Document, schema: Document, value: Any) -> list[str]:
    """Returns why ``value`` does not have a schema of the document."""
    validator = Draft202012Validator({**schema, "components": document["components"]})
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]
