"""Archives behind a URL: content, limits, and storing it on disk once."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from servable.errors import StatusError
from servable.sources import archive
from servable.sources.archive import ArchiveStore
from servable.sources.cache import Cache
from servable.sources.store import open_store

GRAPH = b"a graph"
MIB = 1 << 20


def tar_of(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class Reply(io.BytesIO):
    """The result of urlopen."""

    headers: dict[str, str]


def serve_bytes(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    def urlopen(request: object, timeout: float) -> Reply:
        reply = Reply(content)
        reply.headers = {"ETag": hashlib.md5(content).hexdigest()}
        return reply

    monkeypatch.setattr("urllib.request.urlopen", urlopen)


def zip_of(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(("suffix", "pack"), [("tar.gz", tar_of), ("zip", zip_of)])
@pytest.mark.parametrize(
    ("names", "versions"),
    [
        (["saved_model.pb"], [1]),
        (["wrapped/saved_model.pb", "wrapped/variables/variables.index"], [1]),
        (["m/3/saved_model.pb", "m/12/saved_model.pb"], [3, 12]),
    ],
)
def test_archives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    pack: object,
    names: list[str],
    versions: list[int],
) -> None:
    assert callable(pack)
    serve_bytes(monkeypatch, pack(**dict.fromkeys(names, GRAPH)))
    store = open_store(f"https://example.com/m.{suffix}", str(tmp_path), MIB)
    assert isinstance(store, ArchiveStore)
    found = store.versions()
    assert sorted(found) == versions
    (one,) = [file for file in store.files(found[versions[0]]) if file.path == "saved_model.pb"]
    assert b"".join(store.read(found[versions[0]], one)) == GRAPH


def test_a_models_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_bytes(monkeypatch, GRAPH)
    store = open_store("https://example.com/net.ONNX?signed=1", str(tmp_path), MIB)
    (place,) = store.versions().values()
    (file,) = store.files(place)
    assert (file.path, file.size, file.tag) == ("model.onnx", len(GRAPH), hashlib.md5(GRAPH).hexdigest())
    assert b"".join(store.read(place, file)) == GRAPH
    with pytest.raises(OSError, match="more than 3 bytes"):
        open_store("https://example.com/net.onnx", str(tmp_path), 3).versions()


def test_the_weights_of_a_models_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def urlopen(request: object, timeout: float) -> Reply:
        asked.append(getattr(request, "full_url", request))
        reply = Reply(b"weights" if len(asked) == 2 else GRAPH)
        reply.headers = {}
        return reply

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    store = open_store("https://example.com/a/net.xml?signed=1", str(tmp_path), MIB)
    (place,) = store.versions().values()
    assert asked == ["https://example.com/a/net.xml?signed=1", "https://example.com/a/net.bin?signed=1"]
    assert {one.path: b"".join(store.read(place, one)) for one in store.files(place)} == {
        "model.xml": GRAPH,
        "model.bin": b"weights",
    }


class Site:
    """Serves files by their paths, with tags, and not again to who knows the tag."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tagged: bool = True, **files: bytes) -> None:
        self.files = files
        self.tagged = tagged
        self.sent: list[str] = []
        monkeypatch.setattr("urllib.request.urlopen", self._open)

    def _open(self, request: urllib.request.Request, timeout: float) -> Reply:
        name = request.selector.partition("?")[0].rpartition("/")[2]
        if name not in self.files:
            raise urllib.error.HTTPError(request.full_url, 404, "Not Found", Message(), None)
        content = self.files[name]
        tag = hashlib.md5(content).hexdigest()
        if request.get_header("If-none-match") == tag:
            raise urllib.error.HTTPError(request.full_url, 304, "Not Modified", Message(), None)
        self.sent.append(name)
        reply = Reply(content)
        reply.headers = {"ETag": tag} if self.tagged else {}
        return reply


def test_new_weights_beside_an_unchanged_graph_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(monkeypatch, **{"net.xml": GRAPH, "net.bin": b"one"})
    store = open_store("https://example.com/net.xml", str(tmp_path), MIB)
    before = store.files(*store.versions().values())
    assert store.files(*store.versions().values()) == before and site.sent == ["net.xml", "net.bin"]
    site.files["net.bin"] = b"two"
    (place,) = store.versions().values()
    after = store.files(place)
    assert site.sent == ["net.xml", "net.bin", "net.bin"]
    assert [one.path for one in after] == ["model.bin", "model.xml"]
    assert after[0] != before[0] and after[1] == before[1]
    assert [b"".join(store.read(place, one)) for one in after] == [b"two", GRAPH]
    # What cannot be fetched changes nothing, and is fetched once it is there.
    for bad, reason in ((None, "404"), (b"w" * MIB, "more than")):
        site.files.pop("net.bin")
        site.files.update({"net.bin": bad} if bad else {})
        with pytest.raises(OSError, match=reason):
            store.versions()
        site.files["net.bin"] = b"two"
        assert store.files(*store.versions().values()) == after
    site.files["net.xml"] = b"another graph"
    (place,) = store.versions().values()
    assert [b"".join(store.read(place, one)) for one in store.files(place)] == [b"two", b"another graph"]
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside-of-it"])
def test_archives_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    serve_bytes(monkeypatch, tar_of(**{"saved_model.pb": GRAPH, name: b"x"}))
    with pytest.raises(OSError, match="leads out of its folder"):
        open_store("https://example.com/m.tar.gz", str(tmp_path / "scratch"), MIB).versions()
    assert os.listdir(tmp_path / "scratch") == []


def test_what_is_no_archive_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_bytes(monkeypatch, b"<html>")
    with pytest.raises(OSError, match="not an archive that can be read"):
        open_store("https://example.com/m.zip", str(tmp_path), MIB).versions()
    with pytest.raises(StatusError, match="is not an archive"):
        open_store("https://example.com/m", str(tmp_path), MIB)


# ---- limits


def bytes_below(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, suffix: str) -> str:
    """Returns the error for an archive that is not unpacked; nothing of it remains."""
    serve_bytes(monkeypatch, content)
    with pytest.raises(OSError) as error:
        open_store(f"https://example.com/m.{suffix}", str(tmp_path / "scratch"), MIB).versions()
    assert bytes_below(tmp_path) == 0
    return str(error.value)


@pytest.mark.parametrize(("suffix", "pack"), [("tar.gz", tar_of), ("zip", zip_of)])
def test_a_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, pack: object
) -> None:
    assert callable(pack)
    for files in ({"a": bytes(MIB + 1)}, {f"f{index}": bytes(MIB // 10) for index in range(11)}):
        why = refused(tmp_path, monkeypatch, pack(**files), suffix)
        assert f"more than {MIB} bytes" in why and "--max_archive_bytes" in why
    serve_bytes(monkeypatch, pack(**{"saved_model.pb": bytes(MIB - 1000)}))
    assert open_store(f"https://example.com/m.{suffix}", str(tmp_path), MIB).versions()


def test_an_archive_that_is_large_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--max_archive_bytes" in refused(tmp_path, monkeypatch, os.urandom(MIB + 1), "tar.gz")


def test_what_a_zip_says_of_sizes_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(2 * MIB))
    lying = packed.getvalue().replace(struct.pack("<I", 2 * MIB), struct.pack("<I", 10))
    refused(tmp_path, monkeypatch, lying, "zip")


def test_entries_that_share_their_bytes_count_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(MIB // 2))
        first = file.infolist()[0]
        for index in range(2):
            again = zipfile.ZipInfo(f"{index}")
            for name in ("header_offset", "compress_type", "CRC", "compress_size", "file_size"):
                setattr(again, name, getattr(first, name))
            file.filelist.append(again)
            file.NameToInfo[again.filename] = again
    refused(tmp_path, monkeypatch, packed.getvalue(), "zip")


@pytest.mark.parametrize(("suffix", "pack"), [("tar.gz", tar_of), ("zip", zip_of)])
def test_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, pack: object
) -> None:
    assert callable(pack)
    monkeypatch.setattr(archive, "MOST_FILES", 10)
    why = refused(tmp_path, monkeypatch, pack(**{f"f{index}": b"" for index in range(11)}), suffix)
    assert "more than 10 files and folders" in why


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        member = tarfile.TarInfo("saved_model.pb")
        member.type, member.linkname = kind, "/etc/passwd"
        file.addfile(member)
    assert "neither a plain file nor a folder" in refused(tmp_path, monkeypatch, packed.getvalue(), "tar")


def test_what_was_refused_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def urlopen(request: object, timeout: float) -> Reply:
        assert hasattr(request, "get_header")
        asked.append(request.get_header("If-none-match"))
        if asked[-1]:
            raise urllib.error.HTTPError("", 304, "", Message(), io.BytesIO())
        reply = Reply(tar_of(a=bytes(2 * MIB)))
        reply.headers = {"ETag": '"1"'}
        return reply

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    store = open_store("https://example.com/m.tar.gz", str(tmp_path), MIB)
    for _ in range(3):
        with pytest.raises(OSError, match="--max_archive_bytes"):
            store.versions()
    assert asked == [None, '"1"', '"1"']


def test_the_content_is_on_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_bytes(monkeypatch, tar_of(**{"1/saved_model.pb": GRAPH, "1/variables/data": bytes(MIB // 2)}))
    cache = Cache(str(tmp_path), "https://example.com/m.tar.gz")
    cache.prepare()
    store = open_store("https://example.com/m.tar.gz", cache.workplace(), MIB)
    lies_at = store.versions()[1]
    files = store.files(lies_at)

    def unread(_: object) -> None:
        raise AssertionError("what is here already is not read")

    place = cache.fetch(1, files, unread, threading.Event(), lambda one, path: store.link(lies_at, one, path))
    for one in files:
        assert os.path.samefile(os.path.join(place, one.path), os.path.join(lies_at, one.path))
    cache.close(clear=False)
    assert (Path(place) / "variables" / "data").stat().st_size == MIB // 2


def test_a_tar_file_may_end_with_a_zip_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        content = zip_of(**{"config.json": b"{}"})
        member = tarfile.TarInfo("1/model.keras")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert zipfile.is_zipfile(packed), "that is how zipfile sees it"
    serve_bytes(monkeypatch, packed.getvalue())
    store = open_store("https://example.com/m.tar", str(tmp_path), MIB)
    (place,) = store.versions().values()
    assert [(file.path, file.size) for file in store.files(place)] == [("model.keras", len(content))]


def test_a_zip_file_may_have_something_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_bytes(monkeypatch, b"#!/bin/sh\n" + zip_of(**{"1/model.onnx": GRAPH}))
    store = open_store("https://example.com/m.zip", str(tmp_path), MIB)
    (place,) = store.versions().values()
    assert [file.path for file in store.files(place)] == ["model.onnx"]


class Cut(Reply):
    """What urlopen returns where a connection ends early: read() says nothing of it."""


@pytest.mark.parametrize("url", ["https://example.com/m.tar", "https://example.com/m.onnx"])
def test_what_came_in_part_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("1/model.onnx", "2/model.onnx"):
            member = tarfile.TarInfo(name)
            member.size = len(GRAPH)
            archive.addfile(member, io.BytesIO(GRAPH))
    whole = packed.getvalue()
    asked: list[str | None] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> Reply:
        asked.append(request.get_header("If-none-match"))
        # At the end of the first file, where a tar file may end as well.
        reply = Reply(whole[:1024] if len(asked) == 1 else whole)
        reply.headers = {"ETag": "one", "Content-Length": str(len(whole))}
        return reply

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    store = open_store(url, str(tmp_path), MIB)
    with pytest.raises(OSError, match="the connection ended early"):
        store.versions()
    assert len(store.versions()) == (2 if url.endswith(".tar") else 1)
    assert asked == [None, None], "what came in part has no tag that is known"


def encrypted() -> bytes:
    content = bytearray(zip_of(**{"1/model.onnx": GRAPH}))
    content[6] |= 1
    content[content.find(b"PK\1\2") + 8] |= 1
    return bytes(content)


def strangely_packed() -> bytes:
    content = bytearray(zip_of(**{"1/model.onnx": GRAPH}))
    content[8] = content[content.find(b"PK\1\2") + 10] = 99
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        encrypted(),
        strangely_packed(),
        tar_of(**{"1": GRAPH, "1/model.onnx": GRAPH}),
        tar_of(**{"1/" + "n" * 300: GRAPH}),
        b"",
    ],
)
def test_what_cannot_be_unpacked_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    site = Site(monkeypatch, **{"m.zip": content})
    store = open_store("https://user:secret@example.com/m.zip?signature=secret", str(tmp_path), MIB)
    for _ in range(3):
        with pytest.raises(OSError, match="not an archive that can be read") as error:
            store.versions()
        assert "secret" not in str(error.value)
    assert site.sent == ["m.zip"]
    assert error.traceback[-1].path == Path(archive.__file__)
    assert len(error.traceback) < 5, "the traceback does not grow"
    assert os.listdir(tmp_path) == []


def test_a_name_may_have_spaces_and_letters_of_any_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> Reply:
        asked.append(request.full_url)
        reply = Reply(GRAPH)
        reply.headers = {}
        return reply

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    open_store("https://example.com/a%20b/größe 1.onnx?s=a/b%2F", str(tmp_path), MIB).versions()
    assert asked == ["https://example.com/a%20b/gr%C3%B6%C3%9Fe%201.onnx?s=a/b%2F"]


def test_a_url_may_have_a_name_and_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[urllib.request.Request] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> Reply:
        asked.append(request)
        reply = Reply(GRAPH)
        reply.headers = {}
        return reply

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    open_store("https://user:p%40ss@example.com:8000/m.onnx?a@b", str(tmp_path), MIB).versions()
    (request,) = asked
    assert request.full_url == "https://example.com:8000/m.onnx?a@b"
    assert request.unredirected_hdrs == {"Authorization": "Basic dXNlcjpwQHNz"}
    assert "Authorization" not in request.headers, "which would go where the site sends us"


def test_a_change_is_noticed_without_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(monkeypatch, tagged=False, **{"m.onnx": b"one"})
    store = open_store("https://example.com/m.onnx", str(tmp_path), MIB)
    before = store.files(*store.versions().values())
    assert store.files(*store.versions().values()) == before
    site.files["m.onnx"] = b"two"
    assert store.files(*store.versions().values()) != before


@pytest.mark.parametrize(
    ("base_path", "name"),
    [
        ("https://example.com/a/m.zip?token=secret", "m.zip"),
        ("ftp://user:secret@example.com", "user_example.com"),
        ("s3://bucket/models/m/", "m"),
    ],
)
def test_the_cache_is_named_without_secrets(tmp_path: Path, base_path: str, name: str) -> None:
    folder = Cache(str(tmp_path), base_path).folder
    assert os.path.basename(folder).rpartition("-")[0] == name
