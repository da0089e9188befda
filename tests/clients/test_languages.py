"""Clients in Go, Java and Node: stubs of the protos, and the published libraries of gRPC and gRPC-Web."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Served
from programs import printed
from stubs import floats_request, own_message

pytestmark = pytest.mark.needs_tensorflow

HERE = Path(__file__).resolve().parent
PROTOS = ROOT / "proto"
EXPECTED = {"ready": True, "inputs": ["x"], "y": [2.5, 3.0, 4.5], "missing": "NOT_FOUND"}
"""What each program prints: of half_plus_two for 1, 2 and 5, and of a model that is not there."""


def test_go(served: Served, installed: Path) -> None:
    program = installed / "go" / "client"
    assert printed(program, program, served.grpc) == EXPECTED


def test_java(served: Served, installed: Path) -> None:
    jar = installed / "java" / "target" / "client.jar"
    assert printed(jar, shutil.which("java") or "java", "-jar", jar, served.grpc) == EXPECTED


def node(installed: Path, script: str, *arguments: str | Path) -> Any:
    folder = installed / "node"
    return printed(
        folder / script,
        shutil.which("node") or "node",
        folder / script,
        *arguments,
        needs=folder / "node_modules",
    )


def test_node(served: Served, installed: Path) -> None:
    assert node(installed, "grpc.mjs", served.grpc, PROTOS) == EXPECTED


def test_node_over_rest_with_binary_tensors(served: Served, installed: Path) -> None:
    assert node(installed, "rest.mjs", served.rest) == {"y": [2.5, 3.0, 4.5]}


# ---- gRPC-Web, as in a browser


@pytest.mark.parametrize("form", ["text", "binary"])
def test_grpc_web_by_googles_library(served: Served, installed: Path, form: str) -> None:
    request = base64.b64encode(floats_request("half_plus_two", 1.0, 2.0).SerializeToString()).decode()
    other = base64.b64encode(floats_request("none", 1.0).SerializeToString()).decode()
    got = node(installed, "web.mjs", served.rest, form, request, other)
    answer = own_message("PredictResponse").FromString(base64.b64decode(got["answer"]))
    assert list(answer.outputs["y"].float_val) == [2.5, 3.0]
    assert got["code"] == 5 and "Servable not found" in got["text"]


def test_grpc_web_by_connect(served: Served, installed: Path, tmp_path: Path) -> None:
    from servable import messages

    (tmp_path / "descriptors").write_bytes(messages.descriptors())
    got = node(installed, "connect.mjs", served.rest, tmp_path / "descriptors")
    assert got == {"y": [2.5, 3.0], "code": 5, "state": "AVAILABLE"}
