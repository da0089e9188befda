"""What files and folders of other formats are recognised as, and that hostile ones do no harm."""

from __future__ import annotations

import ast
import bz2
import gzip
import json
import lzma
import os
import re
import shlex
import struct
import zipfile
import zlib
from pathlib import Path

import artifact_files as made
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings, strategies as st

from servable.cli import main
from servable.errors import StatusError
from servable.savedmodel.artifacts import archives, graphs, pickles, recognisers
from servable.savedmodel.artifacts.artifact import Artifact, name_of, quoted
from servable.savedmodel.artifacts.look import Look
from servable.savedmodel.artifacts.recognisers import looked_at, recognise
from servable.savedmodel.doctor import base_path_unreadable, load_hint, no_versions

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + bytes(24)


def hdf5(content: bytes, end: int | None = None) -> bytes:
    """Returns the beginning of an HDF5 file that states its end."""
    size = 96 + len(content) if end is None else end
    return HDF5 + struct.pack("<Q", size) + bytes(48) + content


FILES = [
    ("m.keras", made.KERAS, "keras", "servable serve"),
    ("m.bin", made.KERAS, "keras", ".keras"),
    ("m.h5", hdf5(b"model_config"), "keras-hdf5", "servable serve"),
    ("m.hdf5", hdf5(b"model_config"), "keras-hdf5", "mv "),
    ("w.h5", hdf5(b"layer_names"), "keras-weights", "load_weights"),
    ("m.weights.h5", hdf5(b"vars"), "keras-weights", "models/m/1"),
    ("data.h5", hdf5(b"pandas"), "hdf5", "export the model"),
    ("m.onnx", made.ONNX, "onnx", "servable serve"),
    ("m.model", made.ONNX, "onnx", "m.onnx"),
    ("m.lite", made.TFLITE, "tflite", "m.tflite"),
    ("m.xml", made.OPENVINO, "openvino", "m.bin"),
    ("frozen.pb", made.GRAPH, "tensorflow-graph", "'x': tensor('x:0')"),
    ("saved_model.pb", made.SAVED_MODEL, "saved-model-file", "give the folder"),
    ("saved_model.pbtxt", b"saved_model_schema_version: 1", "saved-model-file", "give the folder"),
    ("model.pb", made.SAVED_MODEL, "saved-model-file", "saved_model.pb"),
    ("m.ckpt.meta", made.META, "tensorflow-checkpoint", "copy all files"),
    ("m.mlmodel", made.CORE_ML, "core-ml", "ONNX"),
    ("script.pt", made.TORCH_SCRIPT, "pytorch-torchscript", "torch.jit.load"),
    ("weights.pt", made.torch_zip(made.WEIGHTS_PICKLE), "pytorch-weights", "load_state_dict"),
    (
        "module.pth",
        made.torch_zip(made.pickled("torchvision.models.resnet", "ResNet")),
        "pytorch-module",
        "ResNet",
    ),
    ("old.pt", made.TORCH_LEGACY, "pytorch-weights", "torch.onnx.export"),
    (
        "e.pt2",
        made.zipped({"serialized_exported_program.json": "{}", "version": "5"}),
        "pytorch-exported",
        "dynamo",
    ),
    ("m.mar", made.zipped({"MAR-INF/MANIFEST.json": "{}", "m.pt": b""}), "torchserve-archive", "unpack"),
    ("m.safetensors", made.safetensors(), "safetensors", "load_file"),
    ("m.gguf", made.GGUF, "gguf", "llama"),
    ("svc.pkl", made.pickled("sklearn.svm._classes", "SVC"), "scikit-learn", "to_onnx"),
    ("svc2.pkl", made.pickled("sklearn.svm._classes", "SVC", 2), "scikit-learn", "only if you trust it"),
    ("svc.joblib", made.GZIPPED_PICKLE, "scikit-learn", "skl2onnx"),
    ("svc.z", zlib.compress(made.pickled("sklearn.svm._classes", "SVC")), "scikit-learn", "SVC"),
    ("xgb.pkl", made.pickled("xgboost.sklearn", "XGBRegressor"), "xgboost-pickle", "save_model"),
    ("state.pkl", made.STATE, "pickle", "is a program"),
    ("x.json", b'{"learner":{"attributes":{}},"version":[2,1,1]}', "xgboost", "convert_xgboost"),
    ("x.ubj", b"{L\0\0\0\0\0\0\0\7learner{", "xgboost", "convert_xgboost"),
    ("l.txt", b"tree\nversion=v4\nnum_class=1\n", "lightgbm", "convert_lightgbm"),
    ("c.cbm", b"CBM1\0\0\0\0", "catboost", 'format="onnx"'),
    ("m.pmml", b'<?xml version="1.0"?>\n<PMML version="4.4">', "pmml", "ONNX"),
    ("model.json", b'{"format":"graph-model","modelTopology":{}}', "tensorflow-js", "tfjs_graph_converter"),
    ("model2.json", b'{"modelTopology":{"keras_version":"2.15"}}', "tensorflow-js", "tensorflowjs_converter"),
    ("m.npz", made.zipped({"a.npy": b"", "b.npy": b""}), "numpy", "arrays"),
    ("a.npy", b"\x93NUMPY\1\0", "numpy", "weights without a model"),
    ("f.msgpack", b"\x82\xa6params\x80", "flax", "jax2tf"),
    ("m.plan", b"ptrt\0\0\0\0", "tensorrt", "ONNX model that it was built from"),
    ("m.pte", b"\x1c\0\0\0ET12" + bytes(8), "executorch", "ONNX"),
    ("z.zip", made.zipped({"m/1/saved_model.pb": b"", "m/1/variables/x": b""}), "archive", "z-unpacked/m/1"),
    ("t.tar", made.tarred({"saved_model.pb": b"x" * 9}), "archive", "serve t=t-unpacked"),
    ("t.tar.gz", made.tarred({"a/m.onnx": b"x"}, "w:gz"), "archive", "serve t-unpacked/a/m.onnx"),
    ("t.tar.xz", made.tarred({"a/m.pt": b"x"}, "w:xz"), "archive", "inspect t-unpacked/a/m.pt"),
    ("t.tar.bz2", made.tarred({"notes": b"x"}, "w:bz2"), "archive", "unpack it"),
    ("m.onnx.gz", gzip.compress(made.ONNX, mtime=0), "compressed", "gunzip"),
    ("m.onnx.bz2", bz2.compress(made.ONNX), "compressed", "bunzip2"),
    ("m.onnx.xz", lzma.compress(made.ONNX), "compressed", "unxz"),
    ("notes.txt", b"some notes\n", "", ""),
    ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(100), "", ""),
]


def everything(found: Artifact) -> str:
    """Returns all that is said of an artifact."""
    return "\n".join([found.short, found.program, *found.commands, *found.facts.values()])


@pytest.mark.parametrize(("name", "content", "kind", "words"), FILES, ids=[one[0] for one in FILES])
def test_files_are_known_by_their_content(
    tmp_path: Path, name: str, content: bytes, kind: str, words: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    found = looked_at(str(file))
    assert (found.kind if found else "") == kind
    if found is not None:
        assert words in everything(found)
        ast.parse(found.program)
        assert all(shlex.split(one) for one in found.commands)
        assert found == recognise(str(file))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("onnx_pair/1/model.onnx", "onnx"),
        ("tflite_pair/1/model.tflite", "tflite"),
        ("tflite_flex/1/model.tflite", "tflite"),
        ("openvino_pair/1/model.xml", "openvino"),
        ("openvino_pair/1/model.bin", "openvino-weights"),
        ("half_plus_two/1/saved_model.pb", "saved-model-file"),
        ("tf1_lookup/1/saved_model.pb", "saved-model-file"),
        ("half_plus_two/1/variables/variables.index", "inside-saved-model"),
        ("lookup/1/assets", "inside-saved-model"),
        ("", "folder-of-models"),
    ],
)
def test_real_models(path: str, kind: str) -> None:
    found = looked_at(str(ROOT / "tests" / "models" / path))
    assert found is not None and (found.kind, found.problem) == (kind, "")
    assert found.is_served


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (one[1], one[2])
        for one in FILES
        if one[2] in ("keras", "onnx", "tflite", "gguf", "safetensors", "scikit-learn")
    ],
)
def test_a_name_does_not_matter(tmp_path: Path, content: bytes, kind: str) -> None:
    file = tmp_path / "download"
    file.write_bytes(content)
    found = looked_at(str(file))
    assert found is not None and found.kind == kind


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.onnx", b"", "a model was expected"),
        ("m.keras", made.LFS_POINTER, "the file itself was not fetched"),
        ("m.onnx", b"\n<!DOCTYPE html><html>", "a model was expected"),
        ("m.onnx.part", b"x", "it is not finished"),
        ("m.keras", made.KERAS[:-30], "its end is missing"),
        ("m.onnx", made.ONNX[:-6], "its end is missing"),
        ("g.pb", made.GRAPH[:-6], "its end is missing"),
        ("saved_model.pb", made.SAVED_MODEL[:-20], "its end is missing"),
        ("m.safetensors", made.safetensors(4), "its end is missing"),
        ("m.safetensors", made.safetensors()[:40], "its end is missing"),
        ("m.h5", hdf5(b"model_config", 1 << 20), "its end is missing"),
        ("m.tflite", b"\xff\xff\0\0TFL3", "its end is missing"),
        ("m.tar", made.tarred({"saved_model.pb": bytes(5000)})[:2000], "its end is missing"),
        ("m.tar.gz", made.tarred({"saved_model.pb": os.urandom(5000)}, "w:gz")[:3000], "its end is missing"),
        ("m.zip", made.zipped({"../outside": b""}), "lead out of its folder"),
        ("m.tar", made.tarred({"/etc/model": b"x"}), "lead out of its folder"),
        ("m.data-00000-of-00001", b"x", "m.index is not beside it"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    found = looked_at(str(file))
    assert found is not None
    assert words in found.problem
    assert not found.is_served


def test_a_git_lfs_pointer_says_how_large_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(made.LFS_POINTER)
    found = looked_at(str(tmp_path / "m.onnx"))
    assert found is not None and "14.0 MB" in found.title
    assert found.commands[-1] == f"git -C {tmp_path} lfs pull"


# ---- folders


def put(folder: Path, *files: str, content: bytes = b"x") -> Path:
    for one in files:
        (folder / one).parent.mkdir(parents=True, exist_ok=True)
        (folder / one).write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


FOLDERS = [
    ([], {}, "empty-folder", "it is empty"),
    (["saved_model.pb", "tfhub_module.pb"], {}, "tensorflow-hub-module", "saved_model.load(session, []"),
    (["a/1/saved_model.pb", "b/2/model.onnx"], {}, "folder-of-models", "a, b"),
    (["export/saved_model.pb"], {}, "folder-of-models", "servable serve"),
    (["1/export/saved_model.pb"], {}, "nested-model", "1/export"),
    (["runs/7/export/model.onnx"], {}, "nested-model", "runs/7/export"),
    (["config.pbtxt", "1/model.savedmodel/saved_model.pb"], {}, "triton-model", "1/model.savedmodel"),
    (["config.pbtxt", "1/model.onnx"], {}, "triton-model", "servable serve"),
    (["MLmodel", "data/model/saved_model.pb"], {"MLmodel": "  data: data\n"}, "mlflow", "data/model"),
    (["MLmodel", "model.pkl"], {"MLmodel": "flavors:\n  sklearn:\n    a: b\n"}, "mlflow", "sklearn"),
    (["_CHECKPOINT_METADATA", "manifest.ocdbt", "d/1"], {}, "jax-checkpoint", "jax2tf"),
    (
        ["config.json", "model.safetensors"],
        {"config.json": '{"architectures": ["BertModel"]}'},
        "hugging-face",
        "optimum-cli export onnx",
    ),
    (["model.json"], {"model.json": '{"format": "layers-model"}'}, "tensorflow-js", "tfjs_layers_model"),
    (["Manifest.json", "Data/m"], {}, "core-ml", "ONNX"),
    (["notes.txt"], {}, "", ""),
    (["config.json", "model.safetensors"], {"config.json": "[" * 100_000}, "", ""),
    (["MLmodel", "x"], {"MLmodel": "  data: ../../..\n"}, "mlflow", "load it with mlflow"),
]


@pytest.mark.parametrize(("files", "texts", "kind", "words"), FOLDERS)
def test_folders(tmp_path: Path, files: list[str], texts: dict[str, str], kind: str, words: str) -> None:
    folder = put(tmp_path / "model", *files)
    for name, text in texts.items():
        (folder / name).write_text(text)
    found = looked_at(str(folder))
    assert (found.kind if found else "") == kind
    if found is not None:
        assert words in everything(found)
        ast.parse(found.program)


def test_the_parts_of_a_saved_model(tmp_path: Path) -> None:
    folder = put(tmp_path / "m" / "1", "saved_model.pb", "variables/variables.index")
    for path in (folder / "variables", folder / "variables" / "variables.index"):
        found = looked_at(str(path))
        assert found is not None and found.kind == "inside-saved-model"
        assert found.commands == (f"servable serve {folder}",)


def index(*keys: str) -> bytes:
    """Returns the index of a checkpoint: one block of keys, the block that lists it, and the footer."""
    from servable.savedmodel.tfrecord import masked

    def block(entries: list[tuple[bytes, bytes]]) -> bytes:
        body = b"".join(
            made.varint(0) + made.varint(len(k)) + made.varint(len(v)) + k + v for k, v in entries
        )
        body += struct.pack("<II", 0, 1) + b"\0"
        return body + struct.pack("<I", masked(body))

    first = block([(b"", made.field(1, 1)), *((key.encode(), made.field(3, 0)) for key in sorted(keys))])
    listing = block([(b"z", made.varint(0) + made.varint(len(first) - 5))])
    handles = made.varint(0) + made.varint(0) + made.varint(len(first)) + made.varint(len(listing) - 5)
    return first + listing + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["_CHECKPOINTABLE_OBJECT_GRAPH", "net/w/.ATTRIBUTES/VARIABLE_VALUE"], "Checkpoint(net=model)"),
        (["_CHECKPOINTABLE_OBJECT_GRAPH", "layer_with_weights-0/w"], "Checkpoint(model)"),
        (["dense/kernel", "dense/bias"], "Saver().restore"),
    ],
)
def test_checkpoints_without_a_graph(tmp_path: Path, keys: list[str], words: str) -> None:
    for prefix in ("ckpt-9", "ckpt-10"):
        (tmp_path / f"{prefix}.index").write_bytes(index(*keys))
        (tmp_path / f"{prefix}.data-00000-of-00001").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "ckpt-10.index", tmp_path / "ckpt-10.data-00000-of-00001"):
        found = looked_at(str(path))
        assert found is not None and found.kind == "tensorflow-checkpoint"
        assert words in found.program and repr(str(tmp_path / "ckpt-10")) in found.program
        ast.parse(found.program)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-9"\n')
    for path in (tmp_path, tmp_path / "checkpoint"):
        found = looked_at(str(path))
        assert found is not None and repr(str(tmp_path / "ckpt-9")) in found.program


def test_a_checkpoint_with_its_graph(tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(index("w"))
    (tmp_path / "m.data-00000-of-00002").write_bytes(b"x")
    (tmp_path / "m.data-00001-of-00002").write_bytes(b"x")
    (tmp_path / "m.meta").write_bytes(made.META)
    for path in (tmp_path, tmp_path / "m.meta", tmp_path / "m.index"):
        found = looked_at(str(path))
        assert found is not None and "import_meta_graph" in found.program
        assert "inputs={'x': tensor('x:0')}" in found.program
        assert "outputs={'y': tensor('y:0')}" in found.program
    (tmp_path / "m.data-00001-of-00002").unlink()
    found = looked_at(str(tmp_path / "m.index"))
    assert found is not None and "m.data-00001-of-00002 is not there" in found.problem


def test_a_graph_too_large_to_be_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ends are better than wrong ones."""
    monkeypatch.setattr(graphs, "MOST_NODES", 2)
    (tmp_path / "large.pb").write_bytes(made.GRAPH)
    found = looked_at(str(tmp_path / "large.pb"))
    assert found is not None and found.facts == {} and found.program.count("tensor('NAME:0')") == 2


# ---- where it is told


def test_inspect_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "frozen.pb").write_bytes(made.GRAPH)
    assert main(["inspect", str(tmp_path / "frozen.pb")]) == 1
    said = capsys.readouterr()
    assert "kind      a frozen graph of TensorFlow 1, without signatures" in said.out
    assert "  pip install tensorflow\n" in said.out and "  import tensorflow as tf\n" in said.out
    assert said.out.endswith("  servable serve models/frozen\n")
    assert (said.err, "\x1b" in said.out) == ("", False)
    assert main(["inspect", str(tmp_path / "frozen.pb"), "--json"]) == 1
    fields = json.loads(capsys.readouterr().out)
    assert (fields["kind"], fields["problem"], fields["served"]) == ("tensorflow-graph", "", False)
    assert fields["facts"] == {"inputs": "x", "outputs": "y"}
    assert "simple_save" in fields["program"] and fields["packages"] == ["tensorflow"]


def test_inspect_of_a_model_that_is_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its engine says of it, there is more to say."""

    def refused(path: str, *_: object) -> None:
        raise StatusError("DATA_LOSS", f"{path}: it is no ONNX model")

    monkeypatch.setattr("servable.cli.inspect.describe", refused)
    file = tmp_path / "m.onnx"
    file.write_bytes(made.LFS_POINTER)
    assert main(["inspect", str(file)]) == 1
    said = capsys.readouterr()
    assert said.err == f"servable: DATA_LOSS: {file}: it is no ONNX model\n"
    assert "problem: the file itself was not fetched" in said.out and "lfs pull" in said.out


def test_inspect_of_what_is_not_known_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").write_text("notes")
    assert main(["inspect", str(tmp_path / "notes"), "--json"]) == 1
    said = capsys.readouterr()
    fields = json.loads(said.out)
    assert fields["kind"] == "unknown" and fields["problem"] and not fields["program"]
    assert "is a file; a SavedModel is a folder" in said.err


def test_serve_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.pt").write_bytes(made.torch_zip(made.WEIGHTS_PICKLE))
    assert main(["serve", str(tmp_path / "m.pt")]) == 2
    said = capsys.readouterr().err
    assert "is the weights of a PyTorch model, without the model: export it to ONNX with PyTorch" in said
    assert f"(`servable inspect {tmp_path / 'm.pt'}` shows how)" in said


def test_the_log_says_it(tmp_path: Path) -> None:
    """TensorFlow Serving's text comes first, as it is."""
    (tmp_path / "net.pt").write_bytes(made.torch_zip(made.WEIGHTS_PICKLE))
    said = no_versions("m", str(tmp_path), ["net.pt"])
    head, _, hint = said.partition("\n")
    assert head == f"No versions of servable m found under base path {tmp_path}"
    assert "net.pt is the weights of a PyTorch model" in hint
    file = tmp_path / "net.pt"
    said = base_path_unreadable("m", str(file), NotADirectoryError(20, "Not a directory"))
    assert said.startswith(f"Could not find base path {file} for servable m with error Not a directory\n")
    assert "it is the weights of a PyTorch model" in said


def test_a_load_that_failed_because_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(made.TFLITE)
    assert "its file is a TensorFlow Lite model" in load_hint(str(tmp_path), "cannot be parsed")
    (tmp_path / "model.onnx").write_bytes(made.LFS_POINTER)
    assert "git lfs pull" in load_hint(str(tmp_path), "cannot be parsed")
    (tmp_path / "model.onnx").write_bytes(made.ONNX)
    assert "its file is" not in load_hint(str(tmp_path), "cannot be parsed")
    (tmp_path / "model.onnx").unlink()
    put(tmp_path, "saved_model.pb", "variables/variables.data-00000-of-00001", content=made.LFS_POINTER)
    (tmp_path / "saved_model.pb").write_bytes(made.SAVED_MODEL)
    assert "git lfs pull" in load_hint(str(tmp_path), "data loss")


# ---- hostile files


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    data = b"\x80\2cos\nmkdir\nX" + struct.pack("<I", len(str(trap))) + str(trap).encode() + b"\x85R."
    for content in (data, made.torch_zip(data), gzip.compress(data)):
        (tmp_path / "m.pkl").write_bytes(content)
        found = looked_at(str(tmp_path / "m.pkl"))
        assert found is not None and found.kind in ("pickle", "pytorch-module")
        assert "os.mkdir" in found.facts["classes"]
    assert not trap.exists()
    assert pickles.named(data) == ("os.mkdir",)


def test_bombs_are_small_work(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    block = made.tarred({"a": b""})[:512]
    compress = zlib.compressobj(9, wbits=31)
    bomb.write_bytes(compress.compress(block + bytes(archives.MOST_UNPACKED * 2)) + compress.flush())
    assert bomb.stat().st_size < 1 << 20
    assert looked_at(str(bomb)) is not None
    # Nothing but headers of long names, and a directory that claims to be larger than the file.
    header = bytearray(block)
    header[156:157], header[124:136] = b"L", b"00000000000\0"
    (tmp_path / "long.tar").write_bytes(bytes(header) * 30_000)
    found = looked_at(str(tmp_path / "long.tar"))
    assert found is not None and found.facts["holds"].startswith("0 or more files")
    content = bytearray(made.zipped({f"{number}": b"" for number in range(20)}))
    content[-10:-6] = struct.pack("<I", 0xFFFFFFF0)
    (tmp_path / "z.zip").write_bytes(content)
    found = looked_at(str(tmp_path / "z.zip"))
    assert found is not None and found.problem


def test_parts_of_zip_files_are_read_as_far_as_python_bounds_it(tmp_path: Path) -> None:
    for way, is_read in ((zipfile.ZIP_DEFLATED, True), (zipfile.ZIP_BZIP2, False), (zipfile.ZIP_LZMA, False)):
        path = tmp_path / f"{way}.zip"
        with zipfile.ZipFile(path, "w", way) as archive:
            archive.writestr("part", b"x" * 100_000)
        look = Look(str(path))
        assert archives.zip_part(look, "part", 10) == (b"x" * 10 if is_read else b"")
        look.close()


def test_the_end_of_large_zip_files_may_stand_in_small_ones(tmp_path: Path) -> None:
    """PyTorch writes it always."""
    content = made.zipped({"part": b"abc"})
    at = content.rindex(b"PK\5\6")
    count, size, start = struct.unpack_from("<10xHII", content, at)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    path = tmp_path / "torch.zip"
    path.write_bytes(content[:at] + record + locator + content[at:])
    found = looked_at(str(path))
    assert found is not None and not found.problem
    look = Look(str(path))
    assert archives.zip_part(look, "part", 10) == b"abc"
    look.close()


def test_long_names_in_pickles_are_not_kept() -> None:
    long = "a" * 10_000
    text = b"X" + struct.pack("<I", len(long)) + long.encode()
    assert pickles.named(b"\x80\x04" + text + b"\x94" + b"\x8c\x01b" + b"\x93.") == ()


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert recognise(str(tmp_path / "pipe")) is None
    assert recognise("/dev/zero") is None
    assert recognise(str(tmp_path / "nothing")) is None
    assert recognise("a\0b") is None


def test_names_are_quoted(tmp_path: Path) -> None:
    name = "a'; rm -rf $(x)\n\x1b[31m \u202e.pt"
    file = tmp_path / name
    file.write_bytes(made.torch_zip(made.WEIGHTS_PICKLE))
    found = looked_at(str(file))
    assert found is not None
    ast.parse(found.program)
    assert "\n" not in name_of(str(file)) and "\x1b" not in found.program
    assert quoted("plain/path") == "plain/path"
    assert quoted("-e") == "./-e"
    assert quoted("a b") == "'a b'"
    assert quoted("a\nb'") == r"$'a\x0ab\''"


SEEDS = [one[1] for one in FILES] + [made.SAVED_MODEL, made.META, index("a", "b"), made.LFS_POINTER]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_in_a_file_nothing_is_raised(tmp_path: Path, data: st.DataObject) -> None:
    """Examples with some bytes changed or cut; ``looked_at`` would raise what a recogniser raises."""
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(0, 6))):
        if content:
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    endings = st.sampled_from(
        ["", ".onnx", ".pt", ".h5", ".pb", ".index", ".meta", ".tar.gz", ".json", ".pkl"]
    )
    file = tmp_path / f"file{data.draw(endings)}"
    file.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    found = looked_at(str(file))
    if found is not None:
        ast.parse(found.program)
        assert found.short.isprintable()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_as_a_pickle(data: bytes) -> None:
    assert all("\n" not in one for one in pickles.named(b"\x80\4" + data))


def test_names_in_an_archive_are_shown_as_they_can_be_printed(tmp_path: Path) -> None:
    file = tmp_path / "m.tar"
    file.write_bytes(made.tarred({"a/\x01m\n.onnx": b"x"}))
    found = looked_at(str(file))
    assert found is not None
    assert found.title.endswith("of ?m?.onnx") and found.facts["first"] == "a/?m?.onnx"


def test_every_kind_is_tested() -> None:
    kinds = {one[2] for one in (*FILES, *FOLDERS)}
    source = "".join(
        path.read_text()
        for path in Path(recognisers.__file__).parent.glob("*.py")
        if path.name != "artifact.py"
    )
    known = set(
        re.findall(r'(?:Artifact|damaged|cut|convertible|_to_onnx)\(\s*(?:look,\s*)?"([a-z0-9-]+)"', source)
    )
    known -= {"git-lfs-pointer", "web-page", "unfinished-download", "empty-file", "inside-saved-model"}
    known -= {"openvino-weights"}
    assert len(known) > 25
    assert known - kinds == set()
