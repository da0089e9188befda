"""``servable inspect`` and ``servable warmup``: their output for intact and damaged models."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, strategies as st

from servable import _core, messages
from servable._core import crc32c
from servable.cli import main
from servable.cli.table import table
from servable.cli.warmup import flattened, make, prediction_log
from servable.errors import StatusError
from servable.savedmodel import tfrecord
from servable.savedmodel.saved_model import read
from servable.savedmodel.signature import Signature
from servable.savedmodel.tfrecord import masked, read_records, write_records
from servable.sizes import size_text

pytestmark = pytest.mark.usefixtures("descriptors")

MODELS = ROOT / "tests" / "models"
PAIR = {
    "serving_default": Signature(
        "serving_default", [("a", "float", "[-1]"), ("b", "int32", "[-1]")], [("sum", "float", "[-1]")]
    ),
    "text": Signature("text", [("x", "string", "[-1]")], [("y", "string", "[-1]")]),
    "halves": Signature("halves", [("x", "half", "[-1]")], [("y", "half", "[-1]")]),
    "brains": Signature("brains", [("x", "bfloat16", "[-1]")], [("y", "bfloat16", "[-1]")]),
    "bytes": Signature("bytes", [("x", "uint8", "[-1]")], [("y", "float", "[-1]")]),
    "complex": Signature("complex", [("x", "complex64", "[-1]")], [("y", "float", "[-1]")]),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of ``half_plus_two``, version 1, that a test may damage."""
    shutil.copytree(MODELS / "half_plus_two", tmp_path / "half_plus_two")
    return tmp_path / "half_plus_two" / "1"


# ---- inspect


def test_a_whole_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(MODELS / "pair")]) == 0
    out = capsys.readouterr().out
    for expected in (
        "tags      serve",
        "serving_default  in   a      float  [-1]   tensorflow/serving/predict",
        "                 out  twice  int32  [-1]",
        'curl -d \'{"instances": [{"a": 1.0, "b": 1}]}\' http://localhost:8501/v1/models/pair:predict',
        "nothing is wrong with it",
    ):
        assert expected in out


def test_the_same_for_programs(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    (graph,) = fields["graphs"]
    assert graph["tags"] == ["serve"]
    assert graph["signatures"]["serving_default"]["inputs"] == {"x": {"dtype": "float", "shape": "[-1]"}}
    assert graph["ops"]["VarHandleOp"] >= 2
    assert (fields["warmup_records"], fields["problems"]) == (None, [])


def test_the_newest_version_is_taken(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(model, model.parent / "10")
    assert main(["inspect", str(model.parent)]) == 0
    assert capsys.readouterr().out.startswith(f"{model.parent / '10'}\n")


@pytest.mark.parametrize(
    ("remove", "problem"),
    [
        ("variables", "has no files: the copy is incomplete"),
        ("variables/variables.index", "variables.index is missing or empty"),
        ("variables/variables.data-00000-of-00001", "lacks shard 0 of 1"),
    ],
)
def test_an_incomplete_copy(
    model: Path, capsys: pytest.CaptureFixture[str], remove: str, problem: str
) -> None:
    gone = model / remove
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    assert main(["inspect", str(model)]) == 1
    assert problem in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("variables/variables.data-00000-of-00001", "has 251 bytes of 252: the copy is incomplete"),
        ("variables/variables.index", "is damaged (it does not end as an index does): copy it again"),
    ],
)
def test_a_cut_file(model: Path, capsys: pytest.CaptureFixture[str], file: str, problem: str) -> None:
    (model / file).write_bytes((model / file).read_bytes()[:-1])
    assert main(["inspect", str(model)]) == 1
    assert problem in capsys.readouterr().out


@pytest.mark.parametrize("name", ["lookup", "tf1_lookup"])
def test_assets_that_are_not_there(tmp_path: Path, name: str) -> None:
    copy = tmp_path / "1"
    shutil.copytree(MODELS / name / "1", copy)
    assert read(str(copy)).problems == ()
    shutil.rmtree(copy / "assets")
    (problem,) = read(str(copy)).problems
    assert "names assets/words.txt, which is not there" in problem


def test_a_damaged_warm_up_file_is_no_damaged_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "assets.extra").mkdir()
    (model / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no records at all")
    assert main(["inspect", str(model)]) == 1
    said = capsys.readouterr()
    assert f"problem: the warm-up file {model}/assets.extra/tf_serving_warmup_requests is damaged" in said.out
    assert (said.out.count("problem: "), said.err) == (1, "")


def test_what_may_not_be_read_is_not_called_missing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the system's answer is faked."""
    monkeypatch.setattr(os, "access", lambda path, _: path != str(model / "variables"))
    shutil.rmtree(model / "variables")
    (model / "variables").mkdir()
    (problem,) = read(str(model)).problems
    assert problem.endswith(f"may not read {model}/variables: chmod -R a+rX {model}")


def test_the_hint_is_about_the_version(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "saved_model.pb").write_bytes(b"\xff")
    assert main(["inspect", str(model.parent)]) == 1
    assert "half copied (saved_model.pb 1 bytes)" in capsys.readouterr().err
    (model / "saved_model.pb").unlink()
    assert main(["inspect", str(model.parent)]) == 1
    assert f"hint: {model} holds fingerprint.pb, variables" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "DATA_LOSS"), (b"\xff\xff\xff", "DATA_LOSS"), (None, "NOT_FOUND")]
)
def test_what_is_no_model(
    model: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, code: str
) -> None:
    file = model / "saved_model.pb"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    assert main(["inspect", str(model)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"servable: {code}: ")
    assert "\nhint: " in err


def test_a_file_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    assert main(["inspect", str(tmp_path / "notes.txt")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("servable: NOT_FOUND: ") and "notes.txt is a file; a SavedModel is a folder" in err


def test_a_folder_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(MODELS)]) == 1
    assert "kind      a folder of models" in capsys.readouterr().out


def test_tags_that_no_server_asks_for(model: Path) -> None:
    saved = messages.message_class("tensorflow.SavedModel").FromString(
        (model / "saved_model.pb").read_bytes()
    )
    del saved.meta_graphs[0].meta_info_def.tags[:]
    saved.meta_graphs[0].meta_info_def.tags.extend(["train", "gpu"])
    (model / "saved_model.pb").write_bytes(saved.SerializeToString())
    assert read(str(model)).problems == (
        "no graph has the tag serve: start the server with --saved_model_tags=gpu,train",
    )


# ---- other formats, with what an engine says of them

OTHER = [("serving_default", [("x", "float", "[-1,2]")], [("y", "float", "[-1]")])]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's file, which an engine reads."""
    monkeypatch.setenv("SERVABLE_ONNX_LIBRARY", str(tmp_path / "library.so"))
    (tmp_path / "library.so").touch()
    monkeypatch.setattr(_core, "describe", lambda *_: OTHER, raising=False)
    path = tmp_path / "net.onnx"
    path.write_bytes(b"graph")
    (tmp_path / "net.onnx.data").write_bytes(b"weights")
    return path


def test_a_models_own_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(file)]) == 0
    out = capsys.readouterr().out
    for expected in (
        f"{file}\n  format    ONNX\n  engine    ONNX Runtime {file.parent / 'library.so'}\n",
        f"  size      {size_text(len(b'graph') + len(b'weights'))}\n",
        "serving_default  in   x     float  [-1,2]",
        "http://localhost:8501/v1/models/net:predict",
        "nothing is wrong with it: its engine loads it",
    ):
        assert expected in out


def test_a_version_of_another_format_for_programs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = file.parent / "m" / "3"
    version.mkdir(parents=True)
    file.rename(version / "model.onnx")
    assert make(str(version), []) == 1
    assert main(["inspect", str(version.parent), "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert (fields["path"], fields["format"]) == (str(version), "ONNX")
    assert (fields["warmup_records"], fields["problems"]) == (1, [])
    assert fields["signatures"]["serving_default"]["outputs"] == {"y": {"dtype": "float", "shape": "[-1]"}}
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"damaged")
    assert main(["inspect", str(version)]) == 1
    assert "problem: the warm-up file" in capsys.readouterr().out


def test_a_file_has_no_warm_up_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup", "make", str(file)]) == 1
    assert "hint: move the model to net/1/model.onnx" in capsys.readouterr().err


def test_what_its_engine_cannot_load(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        error = _core.CoreError("INVALID_ARGUMENT", f"{file} is truncated")
        error.code, error.message = error.args
        raise error

    monkeypatch.setattr(_core, "describe", refuse, raising=False)
    assert main(["inspect", str(file)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"servable: INVALID_ARGUMENT: {file} is truncated\n")
    assert "hint: the model on the disk is damaged or was only half copied (net.onnx 5 bytes)" in err


# ---- TFRecord


def test_checksums_are_those_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert masked(b"") == 0xA282EAD8


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_records_are_read_as_written(tmp_path_factory: pytest.TempPathFactory, records: list[bytes]) -> None:
    path = str(tmp_path_factory.mktemp("records") / "file")
    write_records(path, records)
    assert list(read_records(path)) == records


@pytest.mark.parametrize("at", [0, 9, 12, -1])
def test_damage_is_noticed(tmp_path: Path, at: int) -> None:
    path = tmp_path / "file"
    write_records(str(path), [b"a record"])
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(StatusError, match="corrupted record"):
        list(read_records(str(path)))


# ---- warmup make


def test_a_warm_up_file_from_requests(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "requests.jsonl"
    lines.write_text('{"instances": [1.0, 2.0]}\n\n{"inputs": {"x": [3]}}\n')
    command = ["warmup", "make", str(model.parent)]
    assert main([*command, f"--request=@{lines}"]) == 0
    assert main([*command, "--append", "--request", '{"instances": [{"x": 4.5}]}']) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("tf_serving_warmup_requests: 3 requests")
    assert main(["warmup", "show", str(model)]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    inputs = [one["predict_log"]["request"]["inputs"]["x"] for one in shown]
    assert [one["float_val"] for one in inputs] == [[1.0, 2.0], [3.0], [4.5]]
    assert inputs[0]["tensor_shape"] == {"dim": [{"size": "2"}]}
    assert read(str(model)).warmup_records == 3


def test_lines_of_requests_end_where_json_lines_do(model: Path, tmp_path: Path) -> None:
    lines = tmp_path / "requests.jsonl"
    lines.write_text('{"signature_name": "serving_default", "note": "a\u2028b\x85", "instances": [1.0]}\r\n')
    assert make(str(model), [f"@{lines}"]) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", b"\xff\xd8"), ("a.json", b'{"instances": [' + b"9" * 5000 + b"]}"), ("a.jsonl", b"{")],
)
def test_files_of_requests_that_are_none(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["warmup", "make", str(model), f"--request=@{tmp_path / name}"]) == 1
    assert "is not JSON" in capsys.readouterr().err


def test_records_of_something_else(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_records(str(tmp_path / "other"), [b"\xff"])
    for argv in (["show", str(tmp_path / "other")], ["make", str(model), f"--log={tmp_path / 'other'}"]):
        assert main(["warmup", *argv]) == 1
        assert "record 1 of" in capsys.readouterr().err


def test_a_disk_that_is_full_leaves_no_half_of_a_file(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: str, records: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tfrecord, "write_records", full)
    assert main(["warmup", "make", str(model)]) == 1
    assert "No space left" in capsys.readouterr().err
    assert not list((model / "assets.extra").iterdir())


def test_requests_are_made_up_where_none_is_given(model: Path) -> None:
    assert make(str(model), []) == 1


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "either instances or inputs"),
        ({"instances": [], "inputs": []}, "either instances or inputs"),
        ({"instances": 1}, "instances expects a list"),
        ({"instances": [{"a": 1.0}]}, "expected the inputs"),
        ({"inputs": [1.0]}, "several inputs need their names"),
        ({"signature_name": "none", "inputs": 1}, "there is no signature none"),
        ({"signature_name": ["none"], "inputs": 1}, "there is no signature"),
        ({"signature_name": "halves", "inputs": [1e9]}, "input . has dtype half"),
        ({"signature_name": "brains", "inputs": [1e300]}, "input . has dtype bfloat16"),
        ({"signature_name": "bytes", "inputs": [300]}, "x has dtype uint8: 300 is outside"),
        ({"inputs": {"a": [1.0], "b": [1.5]}}, "input b has dtype int32"),
        ({"inputs": {"a": [[1.0], [1.0, 2.0]], "b": [1]}}, "lists of different lengths"),
        ({"signature_name": "text", "inputs": [1]}, "expected text"),
        ({"signature_name": "complex", "inputs": [1]}, "JSON has no values of dtype complex64"),
    ],
)
def test_requests_that_do_not_fit(body: dict[str, object], complaint: str) -> None:
    with pytest.raises(StatusError, match=complaint):
        prediction_log("m", PAIR, body)


def test_values_of_every_kind() -> None:
    log = messages.message_class("tensorflow.serving.PredictionLog")()
    log.ParseFromString(
        prediction_log("m", PAIR, {"signature_name": "text", "instances": ["é", {"b64": "/w=="}]})
    )
    assert list(log.predict_log.request.inputs["x"].string_val) == ["é".encode(), b"\xff"]
    log.ParseFromString(prediction_log("m", PAIR, {"signature_name": "halves", "inputs": [1.0]}))
    assert list(log.predict_log.request.inputs["x"].half_val) == [0x3C00]
    log.ParseFromString(prediction_log("m", PAIR, {"signature_name": "brains", "inputs": [1.0, 0.1]}))
    assert list(log.predict_log.request.inputs["x"].half_val) == [0x3F80, 0x3DCD]


def test_nested_lists() -> None:
    assert flattened([[1, 2], [3, 4], [5, 6]], "x") == ([3, 2], [1, 2, 3, 4, 5, 6])
    assert flattened(7, "x") == ([], [7])
    assert flattened([], "x") == ([0], [])


# ---- tables


def test_tables() -> None:
    assert table(("A", "B", "C"), [("1", "", "long one"), ("22", "", "x")]) == "A   C\n1   long one\n22  x\n"
    assert [size_text(one) for one in (0, 999, 1000, 17_300_000, 2e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "17.3 MB",
        "2.0 TB",
    ]


def test_a_model_does_not_speak_to_the_terminal(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = messages.message_class("tensorflow.SavedModel")()
    message.ParseFromString((model / "saved_model.pb").read_bytes())
    message.meta_graphs[0].meta_info_def.tags.append("\x1b]0;title\x07")
    (model / "saved_model.pb").write_bytes(message.SerializeToString())
    main(["inspect", str(model)])
    told = capsys.readouterr().out
    assert "\x1b" not in told and "\\x1b]0;title\\x07" in told
    assert table(("A", "B"), [("one\x1b[2J\ntwo", "b")]) == "A                B\none\\x1b[2J\\ntwo  b\n"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"meta_graphs { " * 2000])
def test_a_text_that_is_none(model: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "saved_model.pb").unlink()
    (model / "saved_model.pbtxt").write_bytes(content)
    assert main(["inspect", str(model)]) == 1
    assert "as a SavedModel" in capsys.readouterr().err
