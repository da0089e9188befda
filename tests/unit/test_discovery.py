"""Models found in a folder and in a bucket, and a manager that follows them."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_core import FakeCore
from hypothesis import given, strategies as st
from test_manager import Events, HandSource

from servable.config.base_paths import AllowedPaths
from servable.config.values import Folder, LifecycleOptions, ModelConfig
from servable.errors import StatusError, UsageError
from servable.lifecycle.manager import Manager
from servable.serving.models_dir import ModelsDir
from servable.sources.cache import RemoteFile
from servable.sources.discovery import FolderDiscovery, may_be_model, versions_among


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "versions" / "1").mkdir(parents=True)
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "saved_model.pb").touch()
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").touch()
    (tmp_path / "nothing" / "v1").mkdir(parents=True)
    (tmp_path / ".hidden" / "1").mkdir(parents=True)
    (tmp_path / "README.md").touch()
    return tmp_path


def test_every_folder_with_versions_or_a_model_is_one(folder: Path) -> None:
    discovery = FolderDiscovery(str(folder))
    found = discovery.look()
    assert {name: model.policy for name, model in found.items()} == {
        "versions": ModelConfig("versions", "").policy,
        "version": Folder(1),
        "onnx": Folder(1),
    }
    assert all(model.base_path == str(folder / name) for name, model in found.items())
    (folder / "nothing" / "3").mkdir()
    shutil.rmtree(folder / "onnx")
    (folder / "linked").symlink_to(folder / "versions")
    assert set(discovery.look()) == {"versions", "version", "nothing", "linked"}
    shutil.rmtree(folder)
    with pytest.raises(OSError, match="No such file"):
        discovery.look()


def test_a_folder_in_the_place_of_another_is_looked_into_again(folder: Path) -> None:
    discovery = FolderDiscovery(str(folder))
    assert discovery.look()["versions"].policy == ModelConfig("versions", "").policy
    for name, other in (("versions", "onnx"), ("onnx", "versions")):
        shutil.copytree(folder / other, folder.parent / f"{folder.name}-{name}")
    shutil.rmtree(folder / "version")
    (folder / "version").touch()
    for name in ("versions", "onnx"):
        (folder / name).rename(folder.parent / f"{folder.name}-{name}-before")
        (folder.parent / f"{folder.name}-{name}").rename(folder / name)
    found = discovery.look()
    assert {name: model.policy for name, model in found.items()} == {
        "versions": Folder(1),
        "onnx": ModelConfig("onnx", "").policy,
    }


def test_every_known_folder_has_its_turn_to_be_looked_into_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servable.sources.discovery.AGAIN", 2)
    names = ("a", "b", "c", "d", "e")
    for name in names:
        (tmp_path / name / "1").mkdir(parents=True)
    discovery = FolderDiscovery(str(tmp_path))
    assert set(discovery.look()) == set(names)
    for name in names:
        (tmp_path / name / "1").rmdir()
        (tmp_path / name / "model.onnx").touch()
    changed = [
        {name for name, model in discovery.look().items() if model.policy == Folder(1)} for _ in range(3)
    ]
    assert changed == [{"a", "b"}, {"a", "b", "c", "d"}, set(names)]
    # One that is none for a while stays what it was.
    (tmp_path / "a" / "model.onnx").unlink()
    for _ in range(3):
        assert discovery.look()["a"].policy == Folder(1)


def test_known_folders_that_do_not_answer_any_more_are_asked_once_and_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, mounted, asking = os.scandir, threading.Event(), list[threading.Thread]()
    for name in ("a", "b", "c"):
        (tmp_path / name / "1").mkdir(parents=True)
    discovery = FolderDiscovery(str(tmp_path), answer_seconds=0.05)
    assert len(discovery.look()) == 3

    def dead(path: str) -> Any:
        if path != str(tmp_path):
            asking.append(threading.current_thread())
            mounted.wait()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", dead)
    try:
        for _ in range(3):
            assert len(discovery.look()) == 3
        assert len(asking) == 1
    finally:
        mounted.set()
    asking[0].join()


def test_names_that_are_no_text_are_left_out(folder: Path) -> None:
    strange = os.path.join(os.fsencode(folder), b"\xff")
    try:
        os.makedirs(os.path.join(strange, b"1"))
    except OSError:
        pytest.skip("the file system takes no such name")
    assert len(FolderDiscovery(str(folder)).look()) == 3


def test_a_bucket_s_models_follow_from_its_files() -> None:
    paths = [
        "a/1/saved_model.pb",
        "a/2/model.onnx",
        "b/model.tflite",
        "c/notes.txt",
        "c/v1/saved_model.pb",
        ".tmp/1/saved_model.pb",
        "d/saved_model.pb/1",
        "e/3",
        "top.onnx",
        "f/99999999999999999999/x",
    ]
    found = versions_among("bucket/models", [RemoteFile(path, 5) for path in paths])
    assert found == {
        "a": {
            1: ("bucket/models/a/1", (RemoteFile("saved_model.pb", 5),)),
            2: ("bucket/models/a/2", (RemoteFile("model.onnx", 5),)),
        },
        "b": {1: ("bucket/models/b", (RemoteFile("model.tflite", 5),))},
    }


@given(st.lists(st.text("ab1/.", max_size=12)))
def test_any_files_are_looked_through(files: list[str]) -> None:
    for name, versions in versions_among("b", [RemoteFile(file, 1) for file in files]).items():
        assert may_be_model(name)
        for place, inside in versions.values():
            assert place.startswith(f"b/{name}")
            assert {f"{place}/{file.path}" for file in inside} <= {f"b/{file}" for file in files}


class Place:
    """A discovery that finds what a test says, or fails."""

    def __init__(self) -> None:
        self.models: dict[str, ModelConfig] = {}
        self.error: Exception | None = None

    def look(self) -> dict[str, ModelConfig]:
        if self.error is not None:
            raise self.error
        return dict(self.models)

    def has(self, *names: str) -> None:
        self.models = {name: ModelConfig(name, f"/models/{name}") for name in names}


def test_a_bucket_is_listed_as_each_of_its_models_would_be(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    import fsspec

    from servable.sources.discovery import BucketDiscovery
    from servable.sources.listing import Listing
    from servable.sources.store import FsspecStore

    bucket = f"memory://{tmp_path.name}-{os.getpid()}/models"
    versions = ("a/1/saved_model.pb", "a/1/variables/variables.index", "a/2/saved_model.pb")
    for file in (*versions, "b/model.onnx", "c/x"):
        fsspec.filesystem("memory").pipe(f"{bucket}/{file}", file.encode())
    listing, changed = Listing(), list[str]()
    listing.followed_by(changed.extend)
    discovery = BucketDiscovery(bucket + "/", listing)
    assert discovery.look() == {name: ModelConfig(name, f"{bucket}/{name}") for name in "ab"}
    for name in "ab":
        store, listed = FsspecStore(f"{bucket}/{name}"), listing.of(f"{bucket}/{name}")
        assert listed is not None
        assert {version: place for version, (place, _) in listed.items()} == store.versions()
        assert all(files == store.files(place) for place, files in listed.values())
    assert (listing.of(f"{bucket}/c"), changed) == (None, [])
    fsspec.filesystem("memory").pipe(f"{bucket}/b/model.onnx", b"another")
    discovery.look()
    assert changed == [f"{bucket}/b"]


def test_what_is_new_is_added_and_what_is_gone_removed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "servable.models_dir")
    manager = Manager(FakeCore(), HandSource(), Events(), options=LifecycleOptions())
    place = Place()
    models = ModelsDir("/models", place, manager, 1.0)

    def served() -> set[str]:
        models.apply()
        return {one.name for one in manager.configured()}

    place.has("a", "b")
    assert served() == {"a", "b"}
    manager.change(lambda known: tuple(one for one in known if one.name != "b"))
    assert served() == {"a"}, "what an administrator has removed stays so"
    place.has("b", "c")
    assert served() == {"c"}
    place.error = StatusError("UNAVAILABLE", "no answer", "is it there?")
    assert served() == served() == {"c"}
    assert caplog.text.count("no answer") == 1
    place.error = None
    place.has("a", "b", "c")
    assert served() == {"a", "c"}
    assert "can be read again" in caplog.text


def test_a_place_without_any_model_takes_nothing_away(caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager(FakeCore(), HandSource(), Events(), options=LifecycleOptions())
    place = Place()
    models = ModelsDir("/models", place, manager, 1.0)

    def served() -> set[str]:
        models.apply()
        return {one.name for one in manager.configured()}

    assert served() == served() == set()
    assert caplog.text.count("there are no models in /models; expected are") == 1
    place.has("a", "b")
    assert served() == {"a", "b"}
    place.has()
    assert served() == served() == {"a", "b"}, "a disk that is not mounted looks like that"
    assert caplog.text.count("; what was found before stays") == 1
    place.has("b")
    assert served() == {"b"}


def test_what_leads_beyond_the_allowed_paths_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    for model in (folder / "a", elsewhere):
        (model / "1").mkdir(parents=True)
    (folder / "b").symlink_to(elsewhere)
    allowed = (str(folder),)
    manager = Manager(
        FakeCore(), HandSource(), Events(), options=LifecycleOptions(allowed_base_paths=allowed)
    )
    models = ModelsDir(str(folder), FolderDiscovery(str(folder)), manager, 1.0, AllowedPaths(allowed))

    def served() -> set[str]:
        models.apply()
        return {one.name for one in manager.configured()}

    assert served() == served() == {"a"}
    (folder / "c" / "1").mkdir(parents=True)
    assert served() == {"a", "c"}
    assert caplog.text.count("/models/b is left out: PERMISSION_DENIED: Model b may not be served from") == 1
    (folder / "b").unlink()
    (folder / "b").symlink_to(folder / "a")
    assert served() == {"a", "b", "c"}


def test_models_that_an_administrator_has_put_elsewhere_stay(caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager(FakeCore(), HandSource(), Events(), options=LifecycleOptions())
    place = Place()
    models = ModelsDir("/models", place, manager, 1.0)

    def served() -> dict[str, str]:
        models.apply()
        return {one.name: one.base_path for one in manager.configured()}

    place.has("a", "m")
    assert served() == {"a": "/models/a", "m": "/models/m"}
    manager.change(
        lambda known: (known[0], ModelConfig("m", "/other/m"), ModelConfig("new", "/other/new")),
    )
    theirs = {"a": "/models/a", "m": "/other/m", "new": "/other/new"}
    place.has("a")
    assert served() == theirs
    place.has("a", "m", "new")
    assert served() == served() == theirs
    assert caplog.text.count("/models/m is left out: m is served from /other/m") == 1
    assert caplog.text.count("/models/new is left out: new is served from /other/new") == 1
    place.has("a")
    assert served() == theirs


def test_a_folder_that_cannot_be_read_is_told_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if path == str(folder / "nothing"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    discovery = FolderDiscovery(str(folder))
    for _ in range(2):
        assert set(discovery.look()) == {"versions", "version", "onnx"}
    assert caplog.text.count("Permission denied") == 1
    assert f"{folder}/nothing is left out" in caplog.text


def test_a_folder_that_does_not_answer_holds_up_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scandir, mounted, asking = os.scandir, threading.Event(), list[threading.Thread]()

    def dead(path: str) -> Any:
        if path == str(folder / "onnx") and not mounted.is_set():
            asking.append(threading.current_thread())
            mounted.wait()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", dead)
    discovery = FolderDiscovery(str(folder), answer_seconds=2.0)
    try:
        for _ in range(2):
            assert set(discovery.look()) == {"versions", "version"}
        assert caplog.text.count("onnx is left out: its file system does not answer") == 1
        assert len(asking) == 1, "it is not asked again while it is silent"
    finally:
        mounted.set()
    asking[0].join()
    assert set(discovery.look()) == {"versions", "version", "onnx"}


def test_a_place_that_cannot_be_meant_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    models = ModelsDir("/models", place, Manager(FakeCore(), HandSource(), Events()), 1.0)
    for names, said in (((), "no models in /models"), (("1", "2"), "called 1, 2: is it a model by itself")):
        place.has(*names)
        models.apply()
        models.apply()
        assert caplog.text.count(said) == 1
    caplog.clear()
    place.has("1", "m")
    models.apply()
    assert caplog.text == ""


def test_the_flag_names_a_folder_or_a_uri(tmp_path: Path) -> None:
    from servable.config.model_paths import folder_of_models

    assert folder_of_models(str(tmp_path)) == str(tmp_path)
    assert folder_of_models("s3://bucket/models/") == "s3://bucket/models"
    for uri, said in (
        ("s3://", "a bucket, such as s3://bucket/models"),
        ("https://host/m", "a web server does not tell"),
    ):
        with pytest.raises(UsageError, match=said):
            folder_of_models(uri)
    with pytest.raises(UsageError, match="--models_dir expects a folder"):
        folder_of_models(str(tmp_path / "missing"))
