"""Requests that schemathesis makes up by the OpenAPI documents: no reply is a 5xx, and each is as described.

OPENAPI_EXAMPLES: how many for each operation (``make test-openapi`` sends more).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served
from servers import MODELS, serving

pytestmark = pytest.mark.needs_tensorflow

EXAMPLES = os.environ.get("OPENAPI_EXAMPLES", "")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
"""Not those that TensorFlow Serving fails on purpose: it accepts bodies that a schema refuses, say."""


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    models = (MODELS / name for name in ("half_plus_two", "pair", "echo", "narrow", "add_two"))
    with serving(*models, "--base64_non_utf8") as served:
        yield served


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", ["", *(f"/v1/models/{model}" for model in ("pair", "echo", "narrow"))])
def test_made_up_requests_are_answered_as_described(server: Served, path: str, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.rest}{path}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", EXAMPLES or "5", "--seed", "1", "--generation-deterministic"),
        *("--suppress-health-check", "all", "--no-color", "--workers", "1", "--generation-database", "none"),
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert server.process.poll() is None
