"""What a Keras file says of itself, and what ``servable inspect`` makes of it."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from servable.cli import main
from servable.engines import export_process
from servable.savedmodel import keras_file

DENSE = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {"name": "dense"},
    "registered_name": None,
}
ADD = {
    "module": "keras.src.ops.numpy",
    "class_name": "Add",
    "config": {"name": "add"},
    "registered_name": "Add",
}
LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {
        "name": "twice",
        "function": {"class_name": "__lambda__", "config": {"code": "4wEA", "defaults": None}},
    },
}
OLD_LAMBDA = {"class_name": "Lambda", "config": {"name": "old", "function": ["4wEA", None, None]}}
NAMED_LAMBDA = {
    "class_name": "Lambda",
    "config": {"name": "fine", "function": "relu", "function_type": "function"},
}
SHAPED_LAMBDA = {"class_name": "Wrapped", "config": {"name": "shaped", "output_shape_type": "lambda"}}
MASKED_LAMBDA = {"class_name": "Wrapped", "config": {"name": "masked", "mask_type": "lambda"}}
RELU = {
    "module": "keras.layers",
    "class_name": "Activation",
    "config": {
        "name": "relu",
        "activation": {"module": "builtins", "class_name": "function", "config": "relu"},
    },
}
OWN = {"module": None, "class_name": "Own", "config": {"name": "own"}, "registered_name": "Own"}
PACKAGED = {"module": "my_layers", "class_name": "Other", "config": {}, "registered_name": "my>Other"}


def function(name: str, module: str) -> dict[str, Any]:
    named = {"class_name": "function", "config": name, "module": module, "registered_name": "function"}
    return {
        "module": "keras.layers",
        "class_name": "Activation",
        "config": {"name": "a", "activation": named},
    }


def model(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    config = {"name": "net", "layers": list(layers)}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None, **more}


def write(path: Path, config: Any, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-02@03:04:05"})
        )
        archive.writestr("config.json", config if isinstance(config, bytes) else json.dumps(config))
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found = {"keras": "3.15.1", "tensorflow": "2.21.0"}
    monkeypatch.setattr(export_process, "versions", lambda: found)
    return found


def test_a_whole_file(tmp_path: Path) -> None:
    found = keras_file.read(str(write(tmp_path / "m.keras", model(DENSE, ADD, RELU))))
    assert found == keras_file.KerasFile("3.15.1", "2026-01-02@03:04:05", "Sequential", "net", 3)


@pytest.mark.parametrize(
    ("layers", "lambdas", "custom"),
    [
        ([LAMBDA], ["twice", "lambda"], []),
        ([OLD_LAMBDA, DENSE], ["old"], []),
        ([NAMED_LAMBDA], ["fine"], []),
        ([{"class_name": "keras>Lambda", "config": "any"}], ["lambda"], []),
        ([SHAPED_LAMBDA], ["shaped"], []),
        ([MASKED_LAMBDA], ["masked"], []),
        ([function("system", "os")], [], ["system"]),
        ([function("eval", "builtins")], [], ["eval"]),
        ([function("write_file", "tensorflow.io")], [], ["write_file"]),
        ([function("relu", "keras.activations"), function("relu", "builtins")], [], []),
        ([{"module": "os", "class_name": "system", "config": None}], [], ["system"]),
        ([OWN, DENSE, PACKAGED], [], ["Own", "Other"]),
        ([model(model(OWN))], [], ["Own"]),
    ],
)
def test_what_needs_code(layers: list[dict[str, Any]], lambdas: list[str], custom: list[str]) -> None:
    found = keras_file.of_config(model(*layers), "3.15.1")
    assert set(found.lambdas) <= set(lambdas) and bool(found.lambdas) == bool(lambdas)
    assert set(found.custom) == set(custom)


def test_how_it_was_trained_does_not_matter() -> None:
    loss = {"module": "my_losses", "class_name": "Loss", "config": {}, "registered_name": "my>Loss"}
    assert keras_file.of_config(model(DENSE, compile_config={"loss": loss}), "").custom == ()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (b"[]", "not an object"),
        (b"{", "Expecting"),
        (b"[" * 200_000, "nested too deeply"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_file_whose_configuration_is_broken(tmp_path: Path, config: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        keras_file.read(str(write(tmp_path / "m.keras", config)))


def test_a_file_that_is_cut_or_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "m.keras", model(DENSE), weights=b"w" * 5000)
    whole = path.read_bytes()
    for content in (whole[:1000], b"", b"no zip", whole.replace(b"w" * 5000, b"v" * 5000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"whole zip|damaged"):
            keras_file.read(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(ValueError, match=r"without config\.json"):
        keras_file.read(str(path))


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(model(DENSE)))
        archive.writestr("model.weights.h5", b"\0" * 1_000_000)
    assert keras_file.read(str(path)).kind == "Sequential"
    monkeypatch.setattr(keras_file, "ALWAYS_UNPACKED", 500_000)
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("it was unpacked"))
    with pytest.raises(ValueError, match=r"unpacked to 1\.0 MB, \d+ times its size; at most 100 times"):
        keras_file.read(str(path))


def test_parts_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.keras", model(DENSE), weights=b"w" * 500)
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    with pytest.raises(ValueError, match="parts overlap"):
        keras_file._check_sizes(parts * 3, path.stat().st_size)


def test_a_part_larger_than_it_declares_is_not_read_on(tmp_path: Path) -> None:
    path = write(tmp_path / "m.keras", model(DENSE), weights=b"w" * 5000)
    path.write_bytes(
        path.read_bytes().replace(
            (5000).to_bytes(4, "little") * 2, (5000).to_bytes(4, "little") + b"\1\0\0\0"
        )
    )
    with pytest.raises(ValueError, match="damaged"):
        keras_file.read(str(path))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        keras_file.read(str(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["class_name", "config", "module", "layers", "function", "name"]), inner
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_configuration_is_read_or_refused(config: Any) -> None:
    try:
        keras_file.of_config(config, "3.0.0")
    except ValueError:
        assert not isinstance(config, dict)


# ---- servable inspect


def test_inspect_says_that_serving_converts_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "m.keras", model(DENSE))
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "a Keras model" in out and "Sequential net, 1 layers" in out
    assert "made by   Keras 3.15.1, 2026-01-02 03:04:05" in out
    assert f"`servable serve {path}` converts it to a SavedModel" in out
    assert main(["inspect", str(path), "--json"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert (fields["format"], fields["kind"], fields["problems"]) == ("keras", "Sequential", [])


def test_inspect_of_a_version_with_a_keras_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    write(tmp_path / "m" / "1" / "model.keras", model(DENSE))
    assert main(["inspect", str(tmp_path / "m")]) == 0
    assert str(tmp_path / "m" / "1" / "model.keras") in capsys.readouterr().out


def test_a_warmup_file_takes_signatures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    write(tmp_path / "m" / "1" / "model.keras", model(DENSE))
    assert main(["warmup", "make", str(tmp_path / "m")]) == 1
    said = capsys.readouterr().err
    assert "is a Keras file" in said and "servable warmup record" in said


def test_inspect_of_hdf5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(keras_file.HDF5_HEAD + b"rest")
    assert main(["inspect", str(path)]) == 0
    assert "in HDF5" in capsys.readouterr().out


def test_inspect_names_what_is_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], installed: dict[str, str]
) -> None:
    installed.clear()
    path = write(tmp_path / "m.keras", model(LAMBDA, OWN))
    assert main(["inspect", str(path)]) == 1
    out = capsys.readouterr().out
    assert "problem: Lambda layers (" in out and "problem: the code of Own is not in the file" in out
    assert 'pip install "servable[cpu]"' in out
    path.write_bytes(b"PK\3\4")
    assert main(["inspect", str(path)]) == 1
    assert "cannot be read as a Keras file" in capsys.readouterr().err


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packed_file_that_is_damaged(tmp_path: Path, packing: int) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("config.json", json.dumps(model(*[DENSE] * 50)))
    whole = path.read_bytes()
    start = whole.index(b"config.json") + len("config.json")
    for at in range(start, start + 40):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        with suppress(ValueError):
            keras_file.read(str(path))
