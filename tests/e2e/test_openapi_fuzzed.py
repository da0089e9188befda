"""Requests that schemathesis makes up by the OpenAPI documents: no reply is a 5xx, and each is as described.

OPENAPI_EXAMPLES: how many for each operation (``make test-openapi`` sends more).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served
from openapi_documents import read
from servers import MODELS, serving

pytestmark = pytest.mark.needs_tensorflow

EXAMPLES = os.environ.get("OPENAPI_EXAMPLES", "")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"
"""Not those that TensorFlow Serving fails on purpose: it accepts bodies that a schema refuses, say."""
WITH_SCHEMAS = f"{CHECKS},response_schema_conformance"
"""For requests by the schemas: of others, whose shapes nobody checks, the replies have other shapes, too."""
DOCUMENTS = ["pair", "echo", "narrow", "add_two", ""]
"""Those of models, and that of the server; one of them where it has to be quick."""


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    models = (MODELS / name for name in ("half_plus_two", "pair", "echo", "narrow", "add_two"))
    with serving(*models, "--base64_non_utf8") as served:
        yield served


def within(schema: Any, most: float) -> Any:
    """Bounds all floats: what overflows comes back as Infinity, which schemathesis does not take for JSON."""
    if isinstance(schema, list):
        return [within(one, most) for one in schema]
    if not isinstance(schema, dict):
        return schema
    bounds = {"minimum": -most, "maximum": most} if schema.get("type") == "number" else {}
    return {**{name: within(one, most) for name, one in schema.items()}, **bounds}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("of", DOCUMENTS if EXAMPLES else DOCUMENTS[:1])
def test_made_up_requests_are_answered_as_described(server: Served, of: str, tmp_path: Path) -> None:
    # TRACE is answered with 501, as in TensorFlow Serving.
    config = '[phases.coverage]\nunexpected-methods = ["PUT", "DELETE", "PATCH"]\n'
    (tmp_path / "schemathesis.toml").write_text(config)
    file = tmp_path / "openapi.json"
    document = read(server, of)
    schemas = document["components"]["schemas"]
    # Of requests: no reply of these models refers to lists of any depth.
    for name in schemas:
        if "Request" in name or name.startswith("Nested."):
            schemas[name] = within(schemas[name], 1000.0)
    file.write_text(json.dumps(document))
    runs = [("positive", WITH_SCHEMAS, "examples,fuzzing")]
    if EXAMPLES:
        phases = "examples,coverage,fuzzing"
        runs = [("positive", WITH_SCHEMAS, phases), ("negative", CHECKS, phases)]
    for mode, checks, phases in runs:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", server.rest),
            *("--mode", mode, "--checks", checks, "--phases", phases, "--generation-deterministic"),
            *("--max-examples", EXAMPLES or "5", "--no-shrink", "--suppress-health-check", "all"),
            *("--warnings", "off", "--no-color"),
        ]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert server.process.poll() is None
