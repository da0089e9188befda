"""``servable openapi``: which document is asked for, and what is said where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from http_stub import answering

from servable.cli.openapi import openapi, place
from servable.errors import UsageError

DOCUMENT = {"openapi": "3.1.0", "info": {"title": "ü"}, "servers": [{"url": "/"}], "paths": {}}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h:1", "/openapi.json"),
        ("https://h/behind/a/proxy/", "/behind/a/proxy/openapi.json"),
        ("http://h:1/v1/models/a%2Fb", "/v1/models/a%2Fb/openapi.json"),
        ("http://h:1/v1/models/m/versions/3", "/v1/models/m/versions/3/openapi.json"),
        ("http://h:1/v1/models/m/labels/a%20b/openapi.json", "/v1/models/m/labels/a%20b/openapi.json"),
        ("http://h:1/x/v1/models/m:predict", "/x/v1/models/m/openapi.json"),
        ("http://h:1/openapi.json", "/openapi.json"),
    ],
)
def test_urls_are_those_of_servers_and_models(url: str, path: str) -> None:
    assert place(url)[1] == path


def test_what_is_no_url_of_rest_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for url, words in [
        (str(tmp_path / "none"), "neither a URL nor a path that is there"),
        ("grpc://h:8500", "gRPC"),
        ("http://h:1/v1/models", "is neither"),
        ("http://h:1/v1/models/m:classify", "is neither"),
        ("ftp://h:1/", "is neither"),
    ]:
        with pytest.raises(UsageError, match=words):
            place(url)
        assert openapi([url]) == 2
    assert "servable openapi --help" in capsys.readouterr().err


def test_the_document_has_the_address_of_its_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVABLE_TOKEN", "secret")
    with answering((200, DOCUMENT)) as stub:
        assert openapi([f"{stub.address}/v1/models/m"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed == {**DOCUMENT, "servers": [{"url": stub.address}]}
        assert list(printed) == list(DOCUMENT)
    method, path, headers, _ = stub.requests[0]
    assert (method, path) == ("GET", "/v1/models/m/openapi.json")
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "Bearer secret"


def test_a_server_without_documents_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for reply, words in [
        ((404, {"error": "Not Found: /openapi.json. The API is below /v1/models/"}), "only with --openapi"),
        ((400, {"error": "Malformed request: GET /v1/models/m/openapi.json"}), "only with --openapi"),
        ((404, {"error": "Servable not found for request: Latest(m)"}), "Servable not found"),
        ((200, b"[]"), "is no OpenAPI document"),
        ((200, b"<html>"), "is no OpenAPI document"),
    ]:
        with answering(reply) as stub:
            assert openapi([stub.address]) == 1
        assert words in capsys.readouterr().err
    assert openapi(["--nothing"]) == 2
