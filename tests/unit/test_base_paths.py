"""Base paths that may be served, by origin of the request: prefixes, links, and tricky URIs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from servable.config import base_paths
from servable.config.base_paths import AllowedPaths, Way
from servable.config.model_paths import shown_uri
from servable.config.values import ModelConfig
from servable.errors import StatusError, UsageError


def allows(prefixes: str, base_path: str, way: Way = Way.RPC) -> bool:
    try:
        AllowedPaths.read([prefixes]).check([ModelConfig("m", base_path)], (), way)
    except StatusError as error:
        assert error.code == "PERMISSION_DENIED"
        assert shown_uri(base_path) in str(error) and "--allowed_base_paths" in str(error)
        return False
    return True


@pytest.mark.parametrize(
    ("prefix", "path", "expected"),
    [
        ("/models", "/models", True),
        ("/models", "/models/a", True),
        ("/models/", "/models/a/", True),
        ("/models", "/models//a/./b", True),
        ("/models", "file:///models/a", True),
        ("file:///models", "/models/a", True),
        ("/models", "/models2", False),
        ("/models", "/models/../etc", False),
        ("/models", "file:///models/%2e%2e/etc", False),
        ("/models", "/etc", False),
        ("/models", "s3://models/a", False),
        ("/", "/etc", True),
        ("/a,/b", "/b/c", True),
        ("s3://bucket/models", "s3://bucket/models/a", True),
        ("s3://bucket/models", "S3://bucket//models/a/", True),
        ("s3://bucket", "s3://bucket/models", True),
        ("s3://bucket/models", "s3://bucket/models2", False),
        ("s3://bucket/models", "s3://bucket/models/../secret", False),
        ("s3://bucket/models", "s3://bucket/models/%2E%2e/secret", False),
        ("s3://bucket/models", "s3://bucket/models/a%2f..%2f..%2fsecret", False),
        ("s3://bucket/models", "s3://bucket/models/x::http://evil/", False),
        ("s3://bucket/models", "s3://bucket/models/x%3A%3Ahttp://evil/", False),
        ("s3://bucket/models", "zip://bucket/models", False),
        ("sftp://host/models", "sftp://host/models/?/../../secret", False),
        ("sftp://host/models", "sftp://host/models#/../../secret", False),
        ("http://host/models", "http://host/models/a.zip?signature=a/b#c", True),
        ("http://host/models", "http://host@evil/models/a", False),
        ("http://host/models", "http://host:8080/models/a", False),
        ("http://host/models", "http://HOST/models/a", True),
        ("http://host/models", "https://host/models/a", False),
        ("http://host/models", "http://host/models\\..\\a", False),
        ("http://host/models", "http://[host/models", False),
    ],
)
@pytest.mark.parametrize("way", list(Way))
def test_prefixes_are_compared_by_components(prefix: str, path: str, expected: bool, way: Way) -> None:
    assert allows(prefix, path, way) is expected


def test_links_count_as_where_they_lead(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    os.symlink(inside, tmp_path / "alias")
    assert not allows(str(inside), str(inside / "link"))
    assert allows(str(inside), str(tmp_path / "alias" / "m"))
    assert allows(str(tmp_path / "alias"), str(inside / "m"))


@pytest.mark.parametrize(
    ("path", "way", "expected"),
    [
        ("/anywhere", Way.RPC, True),
        ("file:///anywhere", Way.RPC, True),
        ("http://evil/model.tar.gz", Way.RPC, False),
        ("s3://bucket/model", Way.RPC, False),
        ("FILE:///anywhere", Way.RPC, False),
        ("s3://bucket/model", Way.ADMINISTRATION, True),
        ("s3://bucket/model", Way.START, True),
    ],
)
def test_without_prefixes_only_rpc_is_kept_to_local_paths(path: str, way: Way, expected: bool) -> None:
    assert allows("", path, way) is expected


def test_what_is_served_already_may_be_named_again() -> None:
    known = ModelConfig("m", "s3://bucket/model")
    AllowedPaths().check([known], [known], Way.RPC)
    with pytest.raises(StatusError):
        AllowedPaths().check([ModelConfig("other", "s3://bucket/model")], [known], Way.RPC)


@pytest.mark.parametrize("text", ["models", "/a,b", "s3://bucket/../x", "zip://a::http://b"])
def test_prefixes_are_absolute(text: str) -> None:
    with pytest.raises(UsageError, match="--allowed_base_paths"):
        AllowedPaths.read([text])


def test_a_file_system_that_does_not_answer_holds_up_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are made one at a time: one that waits for a dead mount would block all others."""
    answers = threading.Event()

    def never(_: str) -> str:
        assert answers.wait(30)
        return "/"

    monkeypatch.setattr(os.path, "realpath", never)
    monkeypatch.setattr(base_paths, "ANSWER_SECONDS", 0.01)
    try:
        with pytest.raises(StatusError, match="does not answer") as raised:
            AllowedPaths(("/models",)).check([ModelConfig("m", "/models/dead")], (), Way.ADMINISTRATION)
        assert raised.value.code == "UNAVAILABLE"
    finally:
        answers.set()


def test_a_path_that_no_file_can_have_lies_nowhere() -> None:
    assert not allows("/models", "/models/a\0b")
