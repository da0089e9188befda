"""Finding TensorFlow's library without importing it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from servable.engines import tensorflow_library
from servable.engines.tensorflow_library import NAMES, Opening, find
from servable.errors import TensorFlowNotFoundError


def library(folder: Path, name: str = NAMES[0]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    return folder / name


def test_in_the_first_package_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "tensorflow").mkdir(parents=True)
    expected = library(tmp_path / "b" / "tensorflow")
    assert find("", [str(tmp_path / part) for part in ("none", "a", "b")]) == str(expected)


def test_a_stated_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = library(tmp_path, "libmine.so")
    assert find(str(path), []) == str(path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("below", [".", "lib", "tensorflow"])
def test_a_stated_folder_is_searched(tmp_path: Path, below: str, name: str) -> None:
    path = library(tmp_path / below, name)
    assert Path(find(str(tmp_path), [])) == path


def test_not_installed_gives_the_pip_line() -> None:
    with pytest.raises(TensorFlowNotFoundError) as error:
        find("", [])
    assert "no tensorflow package" in str(error.value)
    assert 'pip install "servable[cpu]"' in str(error.value)


def test_a_package_without_the_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "tensorflow").mkdir()
    with pytest.raises(TensorFlowNotFoundError, match=f"{tmp_path}/tensorflow has none of"):
        find("", [str(tmp_path)])


def test_stated_and_not_there(tmp_path: Path) -> None:
    with pytest.raises(TensorFlowNotFoundError, match="no such file"):
        find(str(tmp_path / "none"))
    with pytest.raises(TensorFlowNotFoundError, match="none of"):
        find(str(tmp_path))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Opens nothing, and lists what would have been opened."""
    from servable import _core

    paths: list[str] = []
    monkeypatch.setattr(_core, "preload", lambda path, _: paths.append(path) or "2")
    monkeypatch.setattr(_core, "init_logging", lambda *_: None)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    return paths


@pytest.mark.parametrize(
    ("path", "needed", "expected"), [("/tf.so", True, ["/tf.so"]), ("/tf.so", False, []), ("", True, [])]
)
def test_it_is_opened_ahead_where_it_may_be_needed(
    opened: list[str], path: str, needed: bool, expected: list[str]
) -> None:
    Opening(path, (), is_needed=lambda: needed).wait()
    assert opened == expected


def test_it_is_opened_where_nobody_answers_what_is_needed(
    opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorflow_library, "LOOK_SECONDS", 0.01)
    answers = threading.Event()
    Opening("/tf.so", (), is_needed=lambda: answers.wait(10)).wait()
    assert opened == ["/tf.so"]
    answers.set()
