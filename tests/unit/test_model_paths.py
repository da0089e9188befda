"""From a typed path to a model."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from servable.config.model_paths import cache_dir, model_from_path, patience, shown_uri
from servable.config.values import Folder, Latest, ModelConfig
from servable.engines.formats import fingerprint
from servable.errors import UsageError


def saved_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    return folder


def test_a_base_folder(tmp_path: Path) -> None:
    saved_model(tmp_path / "half_plus_two" / "00000123")
    path = tmp_path / "half_plus_two"
    expected = ModelConfig("half_plus_two", str(path), policy=Latest())
    assert model_from_path(str(path)) == expected
    assert model_from_path(f"{path}/") == expected


def test_an_empty_folder_is_a_base_folder_too(tmp_path: Path) -> None:
    assert model_from_path(str(tmp_path)) == ModelConfig(tmp_path.name, str(tmp_path))


@pytest.mark.parametrize(("folder", "version"), [("7", 7), ("007", 7), ("0", 0)])
def test_a_versions_own_folder_is_named_by_its_base(tmp_path: Path, folder: str, version: int) -> None:
    path = saved_model(tmp_path / "m" / folder)
    assert model_from_path(str(path)) == ModelConfig("m", str(path), policy=Folder(version))


def test_a_saved_model_outside_of_a_numbered_folder_is_version_1(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "exported")
    assert model_from_path(str(path)) == ModelConfig("exported", str(path), policy=Folder(1))


def test_a_name_before_the_path(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "m" / "1")
    assert model_from_path(f"other={path}").name == "other"
    assert model_from_path(f"other={path.parent}").name == "other"


def test_an_equals_sign_in_a_path_that_exists_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_model(tmp_path / "lr=0.1" / "1")
    monkeypatch.chdir(tmp_path)
    assert model_from_path("lr=0.1").name == "lr=0.1"
    assert model_from_path(str(tmp_path / "lr=0.1")).name == "lr=0.1"


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_model(tmp_path / "m" / "1")
    monkeypatch.chdir(tmp_path / "m")
    assert model_from_path(".") == ModelConfig("m", str(tmp_path / "m"))
    assert model_from_path("1") == ModelConfig("m", str(tmp_path / "m" / "1"), policy=Folder(1))


def test_no_such_folder_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "half_plus_two").mkdir()
    with pytest.raises(UsageError) as error:
        model_from_path(str(tmp_path / "half_plus_too" / "deeper"))
    assert (
        str(error.value)
        == f"no such folder: {tmp_path}/half_plus_too/deeper ({tmp_path} holds half_plus_two)"
    )


def test_a_file_is_answered_with_its_folder(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "1")
    with pytest.raises(UsageError, match=f"give the folder it is in: {path}"):
        model_from_path(str(path / "saved_model.pb"))


@pytest.mark.parametrize("argument", ["", "=path", "name="])
def test_half_a_pair(argument: str) -> None:
    with pytest.raises(UsageError, match="expected PATH or NAME=PATH"):
        model_from_path(argument)


@pytest.mark.parametrize(
    "file",
    [
        "saved_model.pb",
        "variables/variables.index",
        "assets/words.txt",
        "assets.extra/tf_serving_warmup_requests",
        "batching_params.pbtxt",
    ],
)
def test_a_fingerprint_tells_every_file_that_a_load_reads(tmp_path: Path, file: str) -> None:
    saved_model(tmp_path / "1")
    path = tmp_path / "1" / file
    states = [fingerprint(str(tmp_path / "1"))]

    def changed() -> bool:
        states.append(fingerprint(str(tmp_path / "1")))
        return states[-1] != states[-2]

    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"half")
    assert changed()
    path.write_bytes(b"the whole")
    assert changed()
    path.chmod(0o600)
    assert changed()
    path.unlink()
    assert changed()


def test_a_fingerprint_of_the_same_files_is_the_same(tmp_path: Path) -> None:
    saved_model(tmp_path / "1")
    (tmp_path / "1" / "a note that no load reads").touch()
    before = fingerprint(str(tmp_path / "1"))
    (tmp_path / "1" / "a note that no load reads").write_text("more")
    assert (before != "", fingerprint(str(tmp_path / "1"))) == (True, before)
    (tmp_path / "1" / "saved_model.pb").unlink()
    assert fingerprint(str(tmp_path / "1")) == ""


# ---- models of other formats


@pytest.mark.parametrize(
    ("file", "name", "version"),
    [
        ("resnet.onnx", "resnet", 1),
        ("resnet/model.tflite", "resnet", 1),
        ("resnet/12/model.XML", "resnet", 12),
        ("7/net.onnx", "net", 7),
    ],
)
def test_a_file_that_is_a_model(tmp_path: Path, file: str, name: str, version: int) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert model_from_path(str(path)) == ModelConfig(name, str(path), policy=Folder(version))
    assert model_from_path(f"mine={path}") == ModelConfig("mine", str(path), policy=Folder(version))


def test_a_versions_own_folder_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "m" / "4"
    path.mkdir(parents=True)
    (path / "model.onnx").touch()
    assert model_from_path(str(path)) == ModelConfig("m", str(path), policy=Folder(4))


def test_a_folder_with_one_file_that_is_a_model(tmp_path: Path) -> None:
    path = tmp_path / "photos"
    path.mkdir()
    (path / "resnet.onnx").touch()
    (path / "README.md").touch()
    (path / "7.onnx.data").mkdir()
    expected = ModelConfig("photos", str(path / "resnet.onnx"), policy=Folder(1))
    assert model_from_path(str(path)) == expected
    assert model_from_path(f"mine={path}").name == "mine"


@pytest.mark.parametrize("further", ["another.tflite", "7/"])
def test_several_files_or_versions_beside_one_make_a_base_folder(tmp_path: Path, further: str) -> None:
    path = tmp_path / "m"
    path.mkdir()
    (path / "resnet.onnx").touch()
    if further.endswith("/"):
        (path / further).mkdir()
    else:
        (path / further).touch()
    assert model_from_path(str(path)) == ModelConfig("m", str(path))


def test_a_path_that_appears_later(tmp_path: Path) -> None:
    """As in KServe: a link that another container makes."""
    image = saved_model(tmp_path / "image" / "models")
    link = tmp_path / "mnt" / "models"
    link.parent.mkdir()
    waited = patience({"MODEL_INIT_MODE": "async"})
    assert waited > 60
    maker = threading.Timer(0.1, lambda: link.symlink_to(image))
    maker.start()
    try:
        assert model_from_path(f"m={link}", waited) == ModelConfig("m", str(link), policy=Folder(1))
    finally:
        maker.join()


@pytest.mark.parametrize("environment", [{}, {"MODEL_INIT_MODE": "sync"}])
def test_other_paths_are_not_waited_for(tmp_path: Path, environment: dict[str, str]) -> None:
    assert patience(environment) == 0
    with pytest.raises(UsageError, match="no such folder"):
        model_from_path(str(tmp_path / "m"), patience(environment))
    with pytest.raises(UsageError, match="no such folder"):
        model_from_path(str(tmp_path / "m"), 0.01)


def test_a_file_that_is_no_model_and_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "net.onnx").touch()
    with pytest.raises(UsageError, match=r"or a file that ends in \.onnx, \.tflite, \.xml"):
        model_from_path(str(tmp_path / "notes.txt"))
    with pytest.raises(UsageError, match=r"no such file: .*net.tflite \(.* holds net.onnx\)"):
        model_from_path(str(tmp_path / "net.tflite"))


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://host/models/resnet.onnx", "resnet"),
        ("https://host:80/resnet/model.onnx?signed=a/b", "resnet"),
        ("https://host:80/model.onnx", "model"),
        ("s3://bucket/model.tflite", "bucket"),
        ("s3://bucket/m%20n/3/model.xml", "m n"),
        ("https://host/m.tar.gz", "m"),
        ("https://[host/m.onnx", "m"),
        ("s3://bucket/models/m/", "m"),
        ("s3://bucket/models/bert.v1", "bert.v1"),
        ("s3://bucket/models/m/3", "m"),
        ("s3://bucket", "bucket"),
        ("file:///models/m/3", "m"),
        ("ftp://user:secret@host/model.onnx", "host"),
        ("https://host/my%20m.zip?signature=a/b.c", "my m"),
    ],
)
def test_names_of_uris(uri: str, name: str) -> None:
    assert model_from_path(uri) == ModelConfig(name, uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("/models/a:b@c?d", "/models/a:b@c?d"),
        ("s3://bucket/models/a@b", "s3://bucket/models/a@b"),
        ("ftp://user@host/m", "ftp://user@host/m"),
        ("ftp://user:secret@host:21/m", "ftp://user:…@host:21/m"),
        ("ftp://user:se@cret@host", "ftp://user:…@host"),
        ("https://host/m.zip?sig=secret/@", "https://host/m.zip?…"),
        ("https://host?secret", "https://host?…"),
    ],
)
def test_no_secret_of_a_uri_is_shown(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


def test_the_cache_of_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir("", {"XDG_CACHE_HOME": "/caches"}) == "/caches/servable"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    environment = {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": "relative"}
    folder = cache_dir("", environment, make=False)
    assert not os.path.exists(folder)
    assert folder == str(tmp_path / f"servable-{os.geteuid()}") == cache_dir("", environment)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    os.chmod(folder, 0o777)
    with pytest.raises(UsageError, match="open to others"):
        cache_dir("", environment)
    os.rmdir(folder)
    os.symlink(tmp_path, folder)
    with pytest.raises(UsageError, match="open to others"):
        cache_dir("", environment)
    assert cache_dir("/stated", environment) == "/stated"
    assert cache_dir("", {"TMPDIR": str(tmp_path / "none")}) == str(
        tmp_path / "none" / f"servable-{os.geteuid()}"
    )
