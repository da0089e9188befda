"""Other files in place of a SavedModel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from servable.cli.inspect import inspect
from servable.savedmodel.foreign import A_SAVED_MODEL, found_instead, kind_of_file


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("model.keras", b"PK\3\4", "a Keras file"),
        ("weights", b"\x89HDF\r\n\x1a\n", "a Keras file"),
        ("model.bin", b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
        ("model.onnx", b"", "an ONNX model"),
        ("model.xml", b"", "an OpenVINO model"),
        ("model.pt", b"PK\3\4", "a PyTorch file"),
        ("model.ckpt.index", b"", "a checkpoint"),
        ("model.dat", b"\x1f\x8b\x08", "an archive"),
        ("frozen.pb", b"", "a graph without signatures"),
        ("notes.txt", b"", ""),
    ],
)
def test_files_are_known_by_content_or_ending(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    kind = kind_of_file(str(file))
    assert kind.startswith(expected) and bool(kind) == bool(expected)
    said = found_instead(str(file))
    assert f"{file} is {expected or 'a file'}" in said and A_SAVED_MODEL in said


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert inspect([str(path)]) == 1
    said = capsys.readouterr().err
    assert "vanished" not in said
    assert A_SAVED_MODEL in said
    return said


def test_inspect_says_what_is_there_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{tmp_path} is empty" in inspected(tmp_path, capsys)
    nothing = tmp_path / "nothing"
    assert f"{nothing} does not exist" in inspected(nothing, capsys)
    link = tmp_path / "link"
    link.symlink_to(nothing)
    assert f"is a link to {nothing}, which does not exist" in inspected(link, capsys)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").touch()
    assert f"{tmp_path / 'data'} holds a.csv" in inspected(tmp_path / "data", capsys)
    (tmp_path / "data" / "b.keras").touch()
    assert "of which b.keras is a Keras file" in inspected(tmp_path / "data", capsys)
    file = tmp_path / "model.lite"
    file.write_bytes(b"\x1c\0\0\0TFL3")
    assert f"{file} is a TensorFlow Lite model" in inspected(file, capsys)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert f"{pipe} is neither a folder nor a file" in inspected(pipe, capsys)
    versions = tmp_path / "versions"
    for version in ("1", "2"):
        (versions / version).mkdir(parents=True)
    assert f"{versions / '2'} is empty" in inspected(versions, capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    assert "cannot be listed (Permission denied)" in found_instead(str(tmp_path))
