"""Whether a model is there, in a folder, a store, behind a URL, or in what was fetched before."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from http_stub import answering

from servable.config.values import ModelConfig, Specific
from servable.errors import NotFoundError, UnavailableError
from servable.ray.finding import find
from servable.sources.cache import Cache, RemoteFile
from servable.sources.store import FsspecStore

fsspec = pytest.importorskip("fsspec")


def test_a_folder_has_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "m" / "2").mkdir(parents=True)
    find(ModelConfig("m", str(tmp_path / "m")), "")
    find(ModelConfig("m", (tmp_path / "m").as_uri()), "")
    for path, policy in (("m", Specific((3,))), ("none", Specific((2,)))):
        with pytest.raises(NotFoundError):
            find(ModelConfig("m", str(tmp_path / path), policy=policy), "")


def test_each_version_that_is_listed_has_to_be_there(tmp_path: Path) -> None:
    bucket = f"memory://bucket-{uuid.uuid4().hex}"
    for number in (1, 2):
        (tmp_path / "m" / str(number)).mkdir(parents=True)
        fsspec.filesystem("memory").pipe(f"{bucket}/m/{number}/saved_model.pb", b"x")
    for place in (str(tmp_path / "m"), f"{bucket}/m"):
        find(ModelConfig("m", place, policy=Specific((1, 2))), "")
        with pytest.raises(NotFoundError, match="Version 99 of servable m is not among those found: 1, 2"):
            find(ModelConfig("m", place, policy=Specific((1, 99))), "")


def test_a_store_has_what_is_wanted(tmp_path: Path) -> None:
    bucket = f"memory://bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe(f"{bucket}/m/2/saved_model.pb", b"x")
    find(ModelConfig("m", f"{bucket}/m"), str(tmp_path))
    for path, policy in (("m", Specific((3,))), ("none", Specific((2,)))):
        with pytest.raises(NotFoundError, match="no version was found"):
            find(ModelConfig("m", f"{bucket}/{path}", policy=policy), str(tmp_path))


def test_of_a_store_that_is_away_the_cache_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def versions(self: FsspecStore) -> dict[int, str]:
        raise TimeoutError("no answer")

    monkeypatch.setattr(FsspecStore, "versions", versions)
    model = ModelConfig("m", "memory://away/m")
    with pytest.raises(UnavailableError, match="cannot be read: no answer"):
        find(model, str(tmp_path))
    cache = Cache(str(tmp_path), model.base_path)
    cache.prepare()
    cache.fetch(1, (RemoteFile("saved_model.pb", 1),), lambda _: iter([b"x"]), threading.Event())
    cache.close(clear=False)
    find(model, str(tmp_path))
    find(replace(model, policy=Specific((1,))), str(tmp_path))
    with pytest.raises(UnavailableError):
        find(replace(model, policy=Specific((1, 2))), str(tmp_path))


@pytest.mark.parametrize(("status", "expected"), [(200, None), (404, NotFoundError), (500, UnavailableError)])
def test_an_archive_is_asked_for_and_not_fetched(
    status: int, expected: type[Exception] | None, tmp_path: Path
) -> None:
    with answering((status, b"x")) as stub:
        model = ModelConfig("m", f"{stub.address}/m.zip")
        if expected is None:
            find(model, str(tmp_path))
        else:
            with pytest.raises(expected):
                find(model, str(tmp_path))
        assert [path for _, path, *_ in stub.requests] == ["/m.zip"]
    assert list(tmp_path.iterdir()) == []


def test_errors_show_no_secrets_of_a_store(tmp_path: Path) -> None:
    for status, expected in ((404, NotFoundError), (500, UnavailableError)):
        with answering((status, b"x")) as stub:
            host = stub.address.partition("://")[2]
            model = ModelConfig("m", f"http://me:secret@{host}/m.zip?signature=secret")
            with pytest.raises(expected, match=r"http://me:…@.*/m\.zip\?…") as raised:
                find(model, str(tmp_path))
            assert "secret" not in str(raised.value)
