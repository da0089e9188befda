"""Finding the engines' libraries in installed packages, without importing any."""

from __future__ import annotations

import fnmatch
import importlib.util
import sys
from pathlib import Path

import pytest

from servable.engines.libraries import PACKAGES, Libraries, Package, find_all, no_engine, versions
from servable.engines.tensorflow_library import NAMES
from servable.errors import TensorFlowNotFoundError

INSTALLED = {
    "onnx": "onnxruntime/capi/libonnxruntime.so.1.32.0",
    "openvino": "openvino/libs/libopenvino_c.so.2641",
    "tflite": "ai_edge_litert/libLiteRt.so",
}


def installed(site: Path, *engines: str) -> str:
    """Makes what the wheels of these engines install; returns the folder."""
    for engine in engines:
        file = site / ("tensorflow/" + NAMES[0] if engine == "tensorflow" else INSTALLED[engine])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return str(site)


def test_every_engine_is_found_in_its_package(tmp_path: Path) -> None:
    site = installed(tmp_path / "[site]", "tensorflow", *INSTALLED)
    found = find_all("", {}, [str(tmp_path / "none"), site])
    expected = {"tensorflow": "tensorflow/" + NAMES[0], **INSTALLED}
    assert found == Libraries({engine: f"{site}/{file}" for engine, file in expected.items()})


def test_the_first_package_that_has_the_library_counts(tmp_path: Path) -> None:
    (tmp_path / "a" / "onnxruntime").mkdir(parents=True)
    folders = [
        installed(tmp_path / "a"),
        installed(tmp_path / "b", "onnx"),
        installed(tmp_path / "c", "onnx"),
    ]
    assert find_all("", {}, folders).found == {"onnx": f"{folders[1]}/{INSTALLED['onnx']}"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.engine)
def test_what_is_missing_says_how_to_install_it(package: Package) -> None:
    why = find_all("", {}, []).missing[package.engine]
    assert f'pip install "servable[{package.engine}]"' in why and f"${package.variable}" in why
    assert "\n" not in why


def test_a_package_without_its_library_is_told_from_none(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    missing = find_all("", {}, [str(tmp_path)]).missing
    pattern = PACKAGES[0].library
    assert f"package in {tmp_path}/onnxruntime, but no {pattern} in it; pip install" in missing["onnx"]
    assert "no package in " in missing["openvino"]


@pytest.mark.parametrize(
    "file", ["capi/libonnxruntime.1.32.0.dylib", "libs/libopenvino_c.2641.dylib", "libLiteRt.dylib"]
)
def test_libraries_of_macos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    from servable.engines import libraries

    monkeypatch.setattr("sys.platform", "darwin")
    spec = importlib.util.spec_from_file_location("libraries_of_macos", libraries.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "libraries_of_macos", module)
    spec.loader.exec_module(module)
    assert any(fnmatch.fnmatch(file, package.library) for package in module.PACKAGES)


def test_the_environment_names_a_library(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", "onnx")
    mine = tmp_path / "mine.so"
    mine.touch()
    assert find_all("", {"SERVABLE_ONNX_LIBRARY": str(mine)}, [site]).found["onnx"] == str(mine)
    gone = find_all("", {"SERVABLE_ONNX_LIBRARY": "/no/such.so"}, [site])
    assert "no such file: /no/such.so (from $SERVABLE_ONNX_LIBRARY)" in gone.missing["onnx"]
    assert "onnx" not in gone.found


def test_without_tensorflow_the_others_are_found(tmp_path: Path) -> None:
    found = find_all("", {}, [installed(tmp_path, "tflite")])
    assert list(found.found) == ["tflite"]
    assert 'pip install "servable[cpu]"' in found.missing["tensorflow"]
    assert "\n" not in found.missing["tensorflow"]


def test_a_stated_tensorflow_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(TensorFlowNotFoundError, match="no such file"):
        find_all("/no/such/libtensorflow.so", {}, [installed(tmp_path, "onnx")])


def test_no_engine_at_all_names_every_extra() -> None:
    head, _, hint = str(no_engine(find_all("", {}, []))).partition("\n")
    assert head.startswith("TensorFlow not found: no tensorflow package in ")
    for extra in ("cpu", "onnx", "openvino", "tflite"):
        assert f'"servable[{extra}]"' in hint


def test_versions_are_those_of_the_packages(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", "onnx", "tflite")
    metadata = tmp_path / "site" / "onnxruntime_gpu-1.30.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.30.1\n")
    found = find_all("", {}, [site])
    assert versions(found) == {"ONNX Runtime": "1.30.1", "LiteRT": f"{site}/{INSTALLED['tflite']}"}
