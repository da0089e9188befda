"""Other files in place of a SavedModel, in a line; what all of them are recognised as: test_artifacts.py."""

from __future__ import annotations

import os
from pathlib import Path

import artifact_files as made
import pytest

from servable.cli.inspect import inspect
from servable.savedmodel.foreign import A_SAVED_MODEL, found_instead, kind_of_file


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("model.keras", made.KERAS, "a Keras model"),
        ("model.bin", made.TFLITE, "a TensorFlow Lite model"),
        ("model.pt", made.torch_zip(made.WEIGHTS_PICKLE), "the weights of a PyTorch model"),
        ("frozen.pb", made.GRAPH, "a frozen graph of TensorFlow 1"),
        ("notes.txt", b"notes", ""),
    ],
)
def test_files_are_described(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    kind = kind_of_file(str(file))
    assert kind.startswith(expected) and bool(kind) == bool(expected)
    said = found_instead(str(file))
    assert f"{file} is {expected or 'a file'}" in said and A_SAVED_MODEL in said


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert inspect([str(path)]) == 1
    said = capsys.readouterr()
    assert "vanished" not in said.err
    return said.out + said.err


def test_inspect_says_what_is_there_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "problem: it is empty" in inspected(tmp_path, capsys)
    nothing = tmp_path / "nothing"
    assert f"{nothing} does not exist" in inspected(nothing, capsys)
    link = tmp_path / "link"
    link.symlink_to(nothing)
    assert f"is a link to {nothing}, which does not exist" in inspected(link, capsys)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").touch()
    said = inspected(tmp_path / "data", capsys)
    assert f"{tmp_path / 'data'} holds a.csv" in said and A_SAVED_MODEL in said
    (tmp_path / "data" / "b.keras").write_bytes(made.KERAS)
    assert "of which b.keras is a Keras model" in inspected(tmp_path / "data", capsys)
    file = tmp_path / "model.lite"
    file.write_bytes(made.TFLITE)
    assert "kind      a TensorFlow Lite model" in inspected(file, capsys)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert f"{pipe} is neither a folder nor a file" in inspected(pipe, capsys)
    versions = tmp_path / "versions"
    for version in ("1", "2"):
        (versions / version).mkdir(parents=True)
    assert f"{versions / '2'}\n" in inspected(versions, capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    assert "cannot be listed (Permission denied)" in found_instead(str(tmp_path))
