"""Hints for failed loads, from the error text and the files on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from servable.savedmodel import doctor

NO_SAVED_MODEL = "Specified file path does not appear to contain a SavedModel bundle"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Could not find meta graph def matching supplied tags: { x }", "--saved_model_tags"),
        (
            "Op type not registered 'SentencepieceOp' in binary running on host",
            "SentencepieceOp is not part of",
        ),
        ("No OpKernel was registered to support Op 'FooBar' used by node", "FooBar is not part of"),
        ("Could not find variable dense/kernel. This could mean", "model.export(folder)"),
        ("Error while reading resource variable _AnonymousVar0", "model.export(folder)"),
        ("Can't parse /m/1/saved_model.pb as binary proto", "half copied"),
        ("/m/1/saved_model.pb; Permission denied", "may not read it"),
        ("/m/1/saved_model.pb may not be read by this user: give it read permission", "chmod -R a+rX"),
        ("corrupted record at 0. Please verify your warmup data is in TFRecord format.", "not the model"),
        ("/m/1/assets/words.txt; No such file or directory", "assets/words.txt is missing"),
        (
            "Unsuccessful TensorSliceReader constructor: Failed to find any matching files",
            "variables are incomplete",
        ),
    ],
)
def test_hints_from_the_message(tmp_path: Path, message: str, words: str) -> None:
    assert words in doctor.load_hint(str(tmp_path), message)


def test_an_error_that_says_it_all_gets_no_hint(tmp_path: Path) -> None:
    assert doctor.load_hint(str(tmp_path), "something else") == ""


HALF_COPIED = (
    "/m/1 has no variables/variables.index: the folder may be half-copied. Copy it under another name"
)


def test_what_may_not_be_read_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the system's answer is faked."""
    variables = tmp_path / "variables"
    variables.mkdir()
    (variables / "variables.index").touch()
    assert "chmod" not in doctor.load_hint(str(tmp_path), HALF_COPIED)
    for denied in (variables, variables / "variables.index"):
        monkeypatch.setattr(os, "access", lambda path, _, denied=denied: path != str(denied))
        for message in (HALF_COPIED, NO_SAVED_MODEL):
            hint = doctor.load_hint(str(tmp_path), message)
            assert hint.endswith(f"may not read {denied}: chmod -R a+rX {tmp_path}")
    assert "chmod" not in doctor.load_hint(str(tmp_path), "Op type not registered 'FooBar' in binary")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "the folder is empty"),
        (["m.keras"], "rename it to model.keras, or serve the file itself"),
        (["net.tflite"], "rename it to model.tflite, or serve the file itself"),
        (["net/model.onnx"], "the model is one folder deeper, in net/"),
        (["export/saved_model.pb"], "one folder deeper, in export/"),
        (
            ["weights.bin"],
            "holds weights.bin; expected saved_model.pb (a SavedModel), model.onnx, model.tflite, model.xml",
        ),
    ],
)
def test_a_version_without_a_saved_model(tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert words in doctor.load_hint(str(tmp_path), NO_SAVED_MODEL)


def test_a_version_that_has_vanished(tmp_path: Path) -> None:
    assert "has vanished" in doctor.load_hint(str(tmp_path / "1"), NO_SAVED_MODEL)


def test_a_versions_folder_that_holds_models(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "saved_model.pb").touch()
    assert "rename it to 1" in doctor.no_versions("m", str(tmp_path), ["export"])


# ---- other formats


def test_a_base_path_with_a_model_of_another_format(tmp_path: Path) -> None:
    path = str(tmp_path)
    assert (
        f"it holds model.tflite itself, and numbered folders were looked for: move the model to {path}/1"
        in (doctor.no_versions("m", path, ["model.tflite"]))
    )
    assert f"net.onnx is served by itself from {path}/net.onnx" in doctor.no_versions("m", path, ["net.onnx"])
    assert "or model.onnx, model.tflite or model.xml" in doctor.no_versions("m", path, [])
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "model.xml").touch()
    assert "v1/ holds model.xml, but versions are named by numbers" in doctor.no_versions("m", path, ["v1"])


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net.onnx"
    file.touch()
    assert doctor.denied(str(file)) == ""
    monkeypatch.setattr(os, "access", lambda *_: False)
    hint = doctor.load_hint(str(file), "net.onnx may not be read")
    assert hint.endswith(f"may not read {file}: chmod -R a+rX {file}")


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"half")
    assert "(net.onnx 4 bytes)" in doctor.load_hint(str(file), "net.onnx: it is truncated")
    assert "(model.onnx 4 bytes)" in doctor.load_hint(
        str(file.rename(tmp_path / "model.onnx").parent), "model.onnx cannot be parsed: truncated"
    )


def test_a_version_that_holds_no_model_where_there_is_no_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "readme").touch()
    assert "holds readme; expected saved_model.pb" in doctor.load_hint(
        str(tmp_path), f"There is no model in {tmp_path}: expected one of saved_model.pb"
    )
