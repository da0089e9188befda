"""Every end-to-end case of the specification's ``http.json``, over real sockets.

For errors that TensorFlow Serving answers with its HTTP library's page or with nothing, the specification
requires better: the JSON error object with the same status (README.md of the specification, table "Better").
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARED, Served
from prometheus import monitoring
from servers import serving
from wire import Reply, Wire, message

pytestmark = [pytest.mark.needs_tensorflow, pytest.mark.needs_shared]

MODELS = """model_config_list {{
  config {{ name: "default" base_path: "{0}_cpu" model_platform: "tensorflow" }}
  config {{ name: "half_plus_two" base_path: "{0}_cpu" model_platform: "tensorflow" }}
  config {{ name: "half_plus_three" base_path: "{1}" model_platform: "tensorflow" }}
  config {{
    name: "two_versions" base_path: "{0}_2_versions" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 123 }}
    version_labels {{ key: "canary" value: 124 }}
  }}
  config {{
    name: "saved_model_half_plus_two_2_versions" base_path: "{0}_2_versions" model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 123 }} }}
    version_labels {{ key: "Version_Label" value: 123 }}
  }}
}}
"""
FLAGS = {"main": [], "cors": ["--rest_api_enable_cors_support"]}
CORS_HEADERS = ("access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers")


def _cases() -> list[Any]:
    file = SHARED / "spec" / "vectors" / "http.json"
    if not file.is_file():
        return [pytest.param({}, id="none")]
    cases = json.loads(file.read_text())["cases"]
    return [pytest.param(case, id=case["name"].replace(" ", "_")) for case in cases]


CASES = _cases()


def _started(flags: list[str], folder: Path) -> Iterator[Served]:
    models = SHARED.resolve() / "testdata" / "tensorflow_serving"
    config = folder / "models.config"
    config.write_text(
        MODELS.format(models / "saved_model_half_plus_two", models / "saved_model_half_plus_three")
    )
    labels = "--allow_version_labels_for_unavailable_models"
    # TensorFlow Serving has nothing at /.
    with serving(f"--model_config_file={config}", labels, "--no-console", *flags) as served:
        assert "ready: 5 of 5 models available" in served.log
        yield served


@pytest.fixture(scope="module")
def main_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from _started(FLAGS["main"], tmp_path_factory.mktemp("main"))


@pytest.fixture(scope="module")
def cors_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from _started(FLAGS["cors"], tmp_path_factory.mktemp("cors"))


@pytest.fixture(scope="module")
def batching_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("batching")
    parameters = folder / "batching.config"
    parameters.write_text("max_batch_size { value: 4 } batch_timeout_micros { value: 0 }")
    yield from _started(["--enable_batching", f"--batching_parameters_file={parameters}"], folder)


@pytest.fixture(scope="module")
def prometheus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("prometheus")
    yield from _started([monitoring(folder)], folder)


@pytest.mark.parametrize("case", CASES)
def test_case(case: dict[str, Any], request: pytest.FixtureRequest) -> None:
    served: Served = request.getfixturevalue(f"{case.get('server', 'main')}_server")
    if "request_raw" in case:
        _check_raw(served, case)
        return
    asked = case["request"]
    body = base64.b64decode(asked["body_base64"]) if "body_base64" in asked else asked.get("body")
    sent = message(asked["method"], asked["path"], body, **asked.get("headers", {}))
    with Wire(served) as wire:
        got = wire.send(sent).reply()
    if asked["method"] == "OPTIONS" and got.body == b"":
        assert case["response"]["body"] == ""
        _check_headers(got, case["response"]["headers"])
    else:
        _check(got, case["response"])
    assert got.status == case["response"]["status"], got


def _check(got: Reply, want: dict[str, Any]) -> None:
    if _is_unusable(want):
        assert got.error
        _check_headers(got, {n: value for n, value in want["headers"].items() if n.lower() in CORS_HEADERS})
        return
    _check_headers(got, want["headers"])
    if want["compare"] == "json":
        assert json.loads(got.body) == want["body_json"]
    elif want["compare"] == "contains":
        assert want["body_contains"] in got.text
    else:
        assert got.text == want["body"]


def _check_headers(got: Reply, expected: dict[str, str]) -> None:
    """Checks that the expected headers are present, and those of CORS absent unless expected."""
    wanted = {name.lower(): value for name, value in expected.items()}
    for name in {*wanted, *CORS_HEADERS}:
        assert got.headers.get(name) == wanted.get(name), (name, got)


def _is_unusable(want: dict[str, Any]) -> bool:
    """Returns whether ``want`` is an error without a message: a page of HTML, or nothing."""
    return want["status"] >= 400 and (not want.get("body", "x") or want.get("body", "").startswith("<HTML>"))


def _check_raw(served: Served, case: dict[str, Any]) -> None:
    want = case["response"]
    head = case["request_raw"].startswith("HEAD ")
    version, status, _ = want["status_line"].split(" ", 2)
    with Wire(served) as wire:
        got = wire.send(case["request_raw"]).reply(head_only=head)
        assert got.version == version, got
        if head and status == "400":
            # Better than the recording: a HEAD is answered like its GET, without the body.
            assert got.status == 200 and int(got.headers["content-length"]) > 0, got
            return
        if case["name"] == "raw/no Host header is fine":
            # Better than TensorFlow Serving: no intermediary has to guess (RFC 9112, 3.2).
            assert got.status == 400 and "Host" in got.error, got
            return
        assert got.status == int(status), got
        page = want["body"].startswith("<HTML>")
        assert head or (got.error if page else got.text == want["body"]), got
        for line in want["header_lines_without_date"]:
            name, value = line.lower().split(": ", 1)
            left_to_us = page and (name.startswith("content-") or head)
            if not left_to_us:
                assert got.headers.get(name, "").lower() == value, (line, got)
        if case["name"] == "raw/Expect 100-continue":
            assert wire.send('{"instances":[1]}').reply().text == '{\n    "predictions": [2.5\n    ]\n}'
        if case["name"] == "raw/pipelined GETs":
            again = wire.send(case["request_raw"] * 2)
            assert [again.reply().body, again.reply().body] == [got.body] * 2
        _check_end(wire, got, want["connection_closed_by_server"], head)


def _check_end(wire: Wire, got: Reply, closes: bool, head: bool) -> None:
    if closes and not head:  # after a HEAD the connection is in a defined state: it may stay open
        assert got.closed or wire.closed(), got
    elif not closes:
        wire.send(message("GET", "/v1/models/half_plus_two"))
        assert not got.closed and wire.reply().status == 200
