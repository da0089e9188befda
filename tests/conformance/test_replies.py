"""Replays 1,003 recorded requests; every reply must equal TensorFlow Serving's, or be a better one.

The recording and the rules of the comparison are ``../shared/conformance/replies.{jsonl,py}``.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import pytest
from conftest import SHARED, Serve

MODELS = """model_config_list {{
  config {{
    name: "half_plus_two" model_platform: "tensorflow"
    base_path: "{0}/tensorflow_serving/saved_model_half_plus_two_2_versions"
    model_version_policy {{ all {{}} }}
  }}
  config {{
    name: "half_plus_three" model_platform: "tensorflow"
    base_path: "{0}/tensorflow_serving/saved_model_half_plus_three"
  }}
  config {{ name: "ident" base_path: "{0}/ident" model_platform: "tensorflow" }}
  config {{ name: "multi" base_path: "{0}/multi" model_platform: "tensorflow" }}
}}
"""
RECORDED = 1003
SHOWN = 10
NARROW = ("half", "bfloat16")
"""TensorFlow Serving converts no JSON value to these, and says so; here they are numbers: users have asked
for that since 2020, and nobody can depend on a refusal. Such requests fare as those of float32."""
NARROW_RECORDED = 47


def test_shared_is_there_where_it_is_required() -> None:
    """With SERVABLE_REQUIRE_SHARED set, no test that needs ../shared may be skipped silently."""
    required = os.environ.get("SERVABLE_REQUIRE_SHARED", "") not in ("", "0")
    assert SHARED.is_dir() or not required, f"SERVABLE_REQUIRE_SHARED is set, and {SHARED} is not there"


@pytest.mark.needs_tensorflow
@pytest.mark.needs_shared
def test_every_recorded_reply_is_given_again(serve: Serve, shared: Path, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(MODELS.format(shared.resolve() / "testdata"))
    served = serve(f"--model_config_file={config}")
    assert "ready: 4 of 4 models available" in served.log
    assert served.rest_port is not None
    replies = _replies(shared / "conformance" / "replies.py")
    lines = (shared / "conformance" / "replies.jsonl").read_text().splitlines()
    narrow = [line for line in lines if _is_refusal_of_narrow(json.loads(line)["reply"])]
    others = [line for line in lines if line not in narrow]
    differing = [text for line in others if (text := _difference(replies, served.rest_port, line))]
    differing += [text for line in narrow if (text := _unlike_float(replies, served.rest_port, line))]
    assert (len(lines), len(narrow)) == (RECORDED, NARROW_RECORDED)
    assert not differing, f"{len(differing)} of {RECORDED} differ:\n" + "\n".join(differing[:SHOWN])


def _replies(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("replies", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _is_refusal_of_narrow(reply: dict[str, str]) -> bool:
    ends = tuple(f' to type: {dtype}"\n}}' for dtype in NARROW)
    body = reply.get("body", "")
    return "Conversion of JSON Value: " in body and body.endswith(ends)


def _unlike_float(replies: ModuleType, port: int, line: str) -> str:
    """Returns the fault in the reply to a request that TensorFlow Serving refuses for its dtype, or "".

    It has to be answered, or refused, as the same request to the model's float32 is.
    """
    asked = json.loads(line)["request"]
    body = asked["body"]
    as_float = body.replace('"id_bfloat16"', '"id_float32"').replace('"id_float16"', '"id_float32"')
    assert as_float != body
    (status, _, got), (expected, _, floats) = (
        replies.call(port, asked["method"], asked["path"], sent) for sent in (body, as_float)
    )
    for dtype in NARROW:
        got = got.replace(f"expected type: {dtype}".encode(), b"expected type: float")
    if status == expected and (status == 200 or got == floats):
        return ""
    return f"{body}\n  float32 {expected} {floats!r}\n  got  {status} {got!r}"


def _difference(replies: ModuleType, port: int, line: str) -> str:
    """Returns the fault in the reply to a recorded request, or "" if it is equal or better."""
    recorded = json.loads(line)
    asked, want = recorded["request"], recorded["reply"]
    body = want["body"].encode() if "body" in want else base64.b64decode(want["body_b64"])
    status, content_type, got = replies.call(port, asked["method"], asked["path"], asked["body"])
    if status == want["status"] and (got == body or replies.unordered(got) == replies.unordered(body)):
        return ""
    if replies.better(asked, want["status"], body, status, content_type, got):
        return ""
    request = f"{asked['method']} {asked['path']} {asked['body'] or ''}"
    return f"{request}\n  want {want['status']} {body!r}\n  got  {status} {got!r}"
