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
from servable.sources.discovery import FolderDiscovery, may_be_model, models_among


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


def test_names_that_are_no_text_are_left_out(folder: Path) -> None:
    strange = os.path.join(os.fsencode(folder), b"\xff")
    try:
        os.makedirs(os.path.join(strange, b"1"))
    except OSError:
        pytest.skip("the file system takes no such name")
    assert len(FolderDiscovery(str(folder)).look()) == 3


def test_a_bucket_s_models_follow_from_its_files() -> None:
    files = [
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
    found = models_among("s3://bucket/models", files)
    assert found == {
        "a": ModelConfig("a", "s3://bucket/models/a"),
        "b": ModelConfig("b", "s3://bucket/models/b"),
    }


@given(st.lists(st.text("ab1/.", max_size=12)))
def test_any_files_are_looked_through(files: list[str]) -> None:
    for name, model in models_among("s3://b", files).items():
        assert may_be_model(name)
        assert model == ModelConfig(name, f"s3://b/{name}")


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
    assert caplog.text.count("the models in /models cannot be followed: no model is there\n") == 1
    place.has("a", "b")
    assert served() == {"a", "b"}
    place.has()
    assert served() == served() == {"a", "b"}, "a disk that is not mounted looks like that"
    assert caplog.text.count("no model is there any more; what was found before stays") == 1
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


def test_the_flag_names_a_folder_or_a_uri(tmp_path: Path) -> None:
    from servable.config.model_paths import folder_of_models

    assert folder_of_models(str(tmp_path)) == str(tmp_path)
    assert folder_of_models("s3://bucket/models/") == "s3://bucket/models"
    with pytest.raises(UsageError, match="--models_dir expects a folder"):
        folder_of_models(str(tmp_path / "missing"))
    with pytest.raises(UsageError, match="such as s3://bucket/models, got https://host/models"):
        folder_of_models("https://host/models")
