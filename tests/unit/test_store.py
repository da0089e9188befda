"""Listings of remote stores: what cannot be listed is an error, and never an empty folder."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_core import FakeCore
from test_manager import Events, HandSource

from servable.config.values import LifecycleOptions
from servable.lifecycle.manager import Manager
from servable.serving.models_dir import ModelsDir
from servable.sources.discovery import BucketDiscovery
from servable.sources.remembered import Remembered
from servable.sources.store import FsspecStore, ModelFileStore, finds_all

fsspec = pytest.importorskip("fsspec")

from fsspec import AbstractFileSystem  # noqa: E402
from fsspec.asyn import AsyncFileSystem  # noqa: E402

FILES = (
    "models/a/1/saved_model.pb",
    "models/a/1/variables/variables.index",
    "models/b/2/saved_model.pb",
    "files/m.xml",
    "files/m.bin",
)


class Disk(AbstractFileSystem):  # type: ignore[misc]
    """A file server like those of SFTP, SMB or HDFS: its class lists folders, and all else is fsspec's."""

    protocol = "disk"
    cachable = False
    files: ClassVar[tuple[str, ...]] = FILES
    failing: ClassVar[dict[str, Exception]] = {}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if path in self.failing:
            raise self.failing[path]
        if path in self.files:
            return [{"name": path, "type": "file", "size": 5}]
        below = [file[len(path) + 1 :] for file in self.files if file.startswith(f"{path}/")]
        inside = sorted({file.partition("/")[0] for file in below})
        if not inside:
            raise FileNotFoundError(path)
        entries = []
        for name in inside:
            at = f"{path}/{name}"
            kind = {"type": "file", "size": 5} if at in self.files else {"type": "directory", "size": 0}
            entries.append({"name": at, **kind})
        return entries if detail else [entry["name"] for entry in entries]

    def info(self, path: str, **_: Any) -> Any:
        path = self._strip_protocol(path)
        if path in self.failing:
            raise self.failing[path]
        if path in self.files:
            return {"name": path, "type": "file", "size": 5}
        raise FileNotFoundError(path)


class AsyncDisk(AsyncFileSystem):  # type: ignore[misc]
    """The same for those that are asked by coroutines."""

    protocol = "adisk"
    cachable = False

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        return Disk().ls(self._strip_protocol(path), detail)

    async def _info(self, path: str, **_: Any) -> Any:
        return Disk().info(self._strip_protocol(path))


class Line(Disk):
    """One with a connection that is made once, as FTP's and SFTP's."""

    protocol = "line"
    cachable = True
    lost: ClassVar[int] = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._made = self.lost

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        if self._made != self.lost:
            raise OSError("Socket is closed")
        return super().ls(path, detail)


for kind in (Disk, AsyncDisk, Line):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)


@pytest.fixture(autouse=True)
def nothing_fails() -> Iterator[None]:
    Disk.failing, Disk.files = {}, FILES
    yield
    Disk.failing, Disk.files = {}, FILES


@pytest.mark.parametrize("scheme", ["disk", "adisk", "simplecache::disk"])
@pytest.mark.parametrize("folder", ["models", "models/a", "models/a/1/variables"])
@pytest.mark.parametrize("error", [ConnectionError("gone"), PermissionError("not for you"), RuntimeError()])
def test_a_folder_that_cannot_be_listed_is_an_error(scheme: str, folder: str, error: Exception) -> None:
    discovery = BucketDiscovery(f"{scheme}://models")
    assert set(discovery.look()) == {"a", "b"}
    Disk.failing = {folder: error}
    with pytest.raises(type(error)):
        discovery.look()


@pytest.mark.parametrize("scheme", ["disk", "adisk"])
def test_half_a_version_does_not_pass_for_a_version(scheme: str) -> None:
    store = FsspecStore(f"{scheme}://models/a")
    (place,) = store.versions().values()
    assert {file.path for file in store.files(place)} == {"saved_model.pb", "variables/variables.index"}
    Disk.failing = {"models/a/1/variables": ConnectionError("gone")}
    with pytest.raises(ConnectionError):
        store.files(place)


def test_weights_that_cannot_be_asked_for_are_not_missing() -> None:
    store = ModelFileStore("disk://files/m.xml")
    (place,) = store.versions().values()
    assert [file.path for file in store.files(place)] == ["model.xml", "model.bin"]
    Disk.failing = {"files/m.bin": ConnectionError("gone")}
    with pytest.raises(ConnectionError):
        store.files(place)
    Disk.failing, Disk.files = {}, ("files/m.xml",)
    assert [file.path for file in store.files(place)] == ["model.xml"]


@pytest.mark.parametrize("uri", ["memory://no-such-bucket/models", "disk://models/mistyped", "adisk://none"])
def test_a_prefix_that_has_nothing_is_an_error(uri: str) -> None:
    with pytest.raises(FileNotFoundError):
        BucketDiscovery(uri).look()


def test_an_empty_base_path_is_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FsspecStore("disk://models/a")
    assert list(store.versions()) == [1]
    monkeypatch.setattr(Disk, "ls", lambda *_, **__: [])
    with pytest.raises(FileNotFoundError, match="Nothing is there"):
        store.versions()


def test_an_outage_leaves_all_models_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager(FakeCore(), HandSource(), Events(), options=LifecycleOptions())
    models = ModelsDir("disk://models", BucketDiscovery("disk://models"), manager, 1.0)
    models.apply()
    for failing in ("models", "models/a", "models/b/2"):
        Disk.failing = {failing: ConnectionError(f"no way to {failing}")}
        models.apply()
        models.apply()
        assert {one.name for one in manager.configured()} == {"a", "b"}
        assert caplog.text.count(f"no way to {failing}") == 1


def test_a_start_during_an_outage_has_the_models_of_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def started() -> tuple[ModelsDir, Manager]:
        manager = Manager(FakeCore(), HandSource(), Events(), options=LifecycleOptions())
        discovery = Remembered("disk://models", BucketDiscovery("disk://models"), str(tmp_path / "cache"))
        models = ModelsDir("disk://models", discovery, manager, 1.0)
        models.apply()
        return models, manager

    Disk.failing = {"models": ConnectionError("gone")}
    assert started()[1].configured() == ()
    Disk.failing = {}
    before = started()[1].configured()
    assert {one.name: one.base_path for one in before} == {"a": "disk://models/a", "b": "disk://models/b"}
    assert [one.suffix for one in (tmp_path / "cache").iterdir()] == [".json"], "nothing is left half written"
    Disk.failing = {"models": ConnectionError("gone again")}
    models, manager = started()
    assert manager.configured() == before
    assert "its models are those that were found before: gone again" in caplog.text
    models.apply()
    assert manager.configured() == before
    Disk.failing, Disk.files = {}, FILES[:2]
    models.apply()
    assert [one.name for one in manager.configured()] == ["a"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"models": 3}', '{"models": [3, null]}', '{"models": ["../x"]}']
)
def test_what_cannot_be_understood_is_not_remembered(tmp_path: Path, text: str) -> None:
    discovery = BucketDiscovery("disk://models")
    Remembered("disk://models", discovery, str(tmp_path)).look()
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    Disk.failing = {"models": ConnectionError("gone")}
    with pytest.raises(ConnectionError):
        Remembered("disk://models", discovery, str(tmp_path)).look()


def test_a_lost_connection_is_made_again() -> None:
    store, discovery = FsspecStore("line://models/a"), BucketDiscovery("line://models")
    assert (list(store.versions()), set(discovery.look())) == ([1], {"a", "b"})
    Line.lost += 1
    with pytest.raises(OSError, match="Socket is closed"):
        discovery.look()
    assert set(discovery.look()) == {"a", "b"}
    with pytest.raises(OSError, match="Socket is closed"):
        store.versions()
    assert list(store.versions()) == [1]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("s3fs.S3FileSystem", True),
        ("gcsfs.GCSFileSystem", True),
        ("adlfs.AzureBlobFileSystem", True),
        ("huggingface_hub.HfFileSystem", True),
        ("fsspec.implementations.arrow.HadoopFileSystem", False),
        ("fsspec.implementations.dbfs.DatabricksFileSystem", False),
        ("fsspec.implementations.ftp.FTPFileSystem", False),
        ("fsspec.implementations.http.HTTPFileSystem", False),
        ("fsspec.implementations.local.LocalFileSystem", False),
        ("fsspec.implementations.sftp.SFTPFileSystem", False),
        ("fsspec.implementations.smb.SMBFileSystem", False),
        ("fsspec.implementations.webhdfs.WebHDFS", False),
        ("webdav4.fsspec.WebdavFileSystem", False),
    ],
)
def test_whose_listings_are_their_own(name: str, own: bool) -> None:
    module, _, kind = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), kind)
    except ImportError as error:
        pytest.skip(str(error))
    unmade = type(found.__name__, (found,), {"__del__": lambda _: None})
    assert finds_all(object.__new__(unmade)) is own
