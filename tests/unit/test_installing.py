"""The advice where an engine is missing: pip in an environment, another build of the image in a container."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from servable import installing
from servable.engines import libraries

ROOT = Path(__file__).parents[2]
ENGINES = ("tensorflow", *(package.engine for package in libraries.PACKAGES))


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "entrypoint").touch()
    monkeypatch.setattr(installing, "IMAGE_MARK", str(tmp_path / "entrypoint"))


def test_the_advice_for_an_environment() -> None:
    assert installing.engine("tensorflow") == 'pip install "servable[cpu]"'
    assert installing.engine("onnx", "tflite") == 'pip install "servable[onnx]" or "servable[tflite]"'


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_has_an_extra(engine: str) -> None:
    (extra,) = re.findall(r"\[(\w+)\]", installing.engine(engine))
    assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


@pytest.mark.usefixtures("image")
def test_the_advice_in_an_image() -> None:
    assert installing.engine("onnx") == "build the image with --build-arg ENGINES=onnx"
    assert installing.engine("onnx", "tflite") == "build the image with --build-arg ENGINES=onnx or tflite"


@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("engine", (*ENGINES, "keras"))
def test_each_engine_can_be_built_into_an_image(engine: str) -> None:
    name = installing.engine(engine).partition("ENGINES=")[2]
    assert re.search(rf"^ +{name}\)", (ROOT / "deploy/install.sh").read_text(), re.MULTILINE)


@pytest.mark.usefixtures("image")
def test_a_missing_library_in_an_image_is_not_for_pip(tmp_path: Path) -> None:
    found = libraries.find_all("", {}, [str(tmp_path)])
    assert set(found.missing) == set(ENGINES)
    for engine, why in found.missing.items():
        assert f"--build-arg ENGINES={engine}" in why and "pip" not in why
    assert "pip" not in str(libraries.no_engine(found))


def test_the_advice_for_a_store() -> None:
    assert installing.store("http", "") == "pip install 'servable[remote]'"
    assert installing.store("s3", "s3fs").endswith(", and s3fs for s3://: pip install s3fs")


@pytest.mark.usefixtures("image")
def test_the_advice_for_a_store_in_an_image() -> None:
    assert installing.store("s3", "s3fs") == "build the image with --build-arg STORES=s3"
    assert installing.store("gs", "gcsfs").endswith("pip install gcsfs")  # no image has it


def test_the_image_has_its_mark() -> None:
    assert f" {installing.IMAGE_MARK}\n" in (ROOT / "Dockerfile").read_text()
