"""What lies in a version's folder decides its format; the files that a load reads make its fingerprint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from servable.engines.formats import (
    CONVERTED,
    FORMATS,
    beside,
    fingerprint,
    format_of,
    may_hold_saved_model,
    model_bytes,
)
from servable.savedmodel.layout import ENDINGS, KERAS_FILES, OTHER_FILES, held_by, model_file_in, model_name


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")
    return folder


def engine(path: Path, prefer_tflite: bool = False) -> str | None:
    found = format_of(str(path), prefer_tflite)
    return None if found is None else found.engine


@pytest.mark.parametrize(
    ("files", "expected", "preferring"),
    [
        (["saved_model.pb"], "tensorflow", "tensorflow"),
        (["model.xml", "model.bin", "model.onnx"], "onnx", "onnx"),
        (["model.tflite", "saved_model.pbtxt"], "tensorflow", "tflite"),
        (["model.xml", "model.tflite"], "tflite", "tflite"),
        (["model.xml"], "openvino", "openvino"),
        (["net.onnx", "readme"], None, None),
    ],
)
def test_the_first_file_found_decides(
    tmp_path: Path, files: list[str], expected: str | None, preferring: str | None
) -> None:
    put(tmp_path, *files)
    assert (engine(tmp_path), engine(tmp_path, prefer_tflite=True)) == (expected, preferring)
    assert bool(held_by(str(tmp_path))) == bool(expected)


def test_a_file_is_known_by_its_ending(tmp_path: Path) -> None:
    put(tmp_path, "a.onnx", "A.TFLITE", "b.xml", "b.bin", "c.keras", "c.h5")
    names = ("a.onnx", "A.TFLITE", "b.xml", "b.bin", "none.onnx", "c.keras", "c.h5")
    expected = ["onnx", "tflite", "openvino", None, None, "tensorflow", "tensorflow"]
    assert [engine(tmp_path / name) for name in names] == expected
    (tmp_path / "folder.onnx").mkdir()
    assert engine(tmp_path / "folder.onnx") is None


def test_the_lists_of_names_agree() -> None:
    others = [one for one in FORMATS if one.ending]
    assert tuple(name for one in others for name in one.files) == OTHER_FILES
    assert tuple(name for one in CONVERTED for name in one.files) == KERAS_FILES
    assert tuple(one.ending for one in (*others, *CONVERTED)) == ENDINGS


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["1/model.onnx", "2/model.tflite"], False),
        (["1/model.onnx", "2/saved_model.pb"], True),
        (["1/model.onnx", "2/unknown"], True),
        (["model.onnx"], False),
        (["saved_model.pb"], True),
        (["readme"], True),
    ],
)
def test_tensorflow_is_needed_unless_everything_is_of_another_format(
    tmp_path: Path, files: list[str], expected: bool
) -> None:
    assert may_hold_saved_model(str(put(tmp_path, *files))) == expected


def test_whether_tensorflow_is_needed_of_a_file_and_of_nothing(tmp_path: Path) -> None:
    put(tmp_path, "m.onnx", "2/model.tflite", "2/saved_model.pb")
    assert not may_hold_saved_model(str(tmp_path / "m.onnx"))
    assert may_hold_saved_model(str(tmp_path / "none"))
    assert may_hold_saved_model("/a\0b")
    assert may_hold_saved_model(str(tmp_path))
    assert not may_hold_saved_model(str(tmp_path), prefer_tflite=True)


@pytest.mark.parametrize(
    ("first", "file"),
    [
        ("model.onnx", "model.onnx"),
        ("model.onnx", "weights of any name"),
        ("model.onnx", "assets.extra/tf_serving_warmup_requests"),
        ("model.onnx", "batching_params.pbtxt"),
        ("model.tflite", "model.tflite"),
        ("model.xml", "model.bin"),
        ("m.onnx", "m.onnx"),
        ("m.onnx", "m.onnx.data"),
        ("m.onnx", "m_weights.bin"),
        ("m.xml", "m.bin"),
        ("m.tflite", "m.tflite"),
    ],
)
def test_a_fingerprint_tells_every_file_that_a_load_reads(tmp_path: Path, first: str, file: str) -> None:
    put(tmp_path, first)
    path = str(tmp_path / first) if first.startswith("m.") else str(tmp_path)
    before = fingerprint(path)
    put(tmp_path, file)
    (tmp_path / file).write_bytes(b"other content")
    after = fingerprint(path)
    assert before and after and before != after
    (tmp_path / "other").write_bytes(b"other content")
    os.replace(tmp_path / "other", tmp_path / file)
    assert fingerprint(path) != after


def test_a_fingerprint_of_a_file_leaves_its_neighbours_out(tmp_path: Path) -> None:
    put(tmp_path, "m.onnx", "m.tflite", "m.xml")
    before = [fingerprint(str(tmp_path / name)) for name in ("m.onnx", "m.tflite", "m.xml")]
    put(
        tmp_path,
        "n.onnx",
        "readme",
        "n.bin",
        "m_train.log",
        "m.onnx.new",
        "m2.onnx",
        "m.json",
        "m.onnx.data.tmp",
    )
    assert [fingerprint(str(tmp_path / name)) for name in ("m.onnx", "m.tflite", "m.xml")] == before


def test_what_belongs_to_a_file(tmp_path: Path) -> None:
    put(tmp_path, "m.onnx", "m.onnx.data", "m.bin", "n.bin", "m.d/inner", "m.xml")
    names = [os.path.basename(one) for one in beside(str(tmp_path / "m.onnx"))]
    assert names == ["m.bin", "m.onnx.data"]
    assert beside(str(tmp_path / "m.xml")) == [str(tmp_path / "m.bin")]
    assert beside(str(tmp_path / "m.tflite")) == []
    assert model_bytes(str(tmp_path / "m.xml")) == 2 * len(b"content")
    assert model_bytes(str(tmp_path)) == 6 * len(b"content")
    assert model_bytes(str(tmp_path / "none")) == 0


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("resnet.onnx.data", True),
        ("resnet.onnx.data.1", True),
        ("resnet.onnx_data", True),
        ("resnet.onnx_data_1", True),
        ("resnet.ONNX.data", False),
        ("resnet.data", True),
        ("resnet.bin", True),
        ("resnet.weights", True),
        ("resnet_weights.bin", True),
        ("resnet-data-2", True),
        ("resnet50.onnx", False),
        ("resnet50.bin", False),
        ("resnet_head.bin", False),
        ("resnet_train.log", False),
        ("resnet.data.onnx", False),
        ("resnet.onnx.data.json", False),
        ("resnet.onnx.data.new", False),
        ("resnet.onnx.new", False),
        ("resnet.onnx.tmp", False),
        ("resnet.tflite", False),
        ("resnet.weights.h5", False),
        ("resnet", False),
    ],
)
def test_which_neighbours_are_weights_of_an_onnx_file(tmp_path: Path, name: str, belongs: bool) -> None:
    put(tmp_path, "resnet.onnx", name)
    assert beside(str(tmp_path / "resnet.onnx")) == [str(tmp_path / name)] * belongs


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/m/resnet.onnx", "resnet"),
        ("/m/resnet.v2.onnx", "resnet.v2"),
        ("/exports/resnet/model.onnx", "resnet"),
        ("/exports/resnet/3/model.TFLITE", "resnet"),
        ("/model.xml", "model"),
        ("/3/model.xml", "3"),
        ("/m/7", "m"),
        ("/m/exported", "exported"),
        ("/7", "7"),
    ],
)
def test_names(path: str, name: str) -> None:
    assert model_name(path) == name


def test_the_file_of_a_version(tmp_path: Path) -> None:
    assert model_file_in(str(put(tmp_path, "model.xml", "model.onnx"))) == "model.onnx"
    assert held_by(str(put(tmp_path, "saved_model.pbtxt"))) == "a SavedModel"
    assert model_file_in(str(tmp_path / "none")) == ""
