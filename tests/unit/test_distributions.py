"""What `make wheel` checks of a wheel and an sdist, on small ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import check_distributions
import pytest

EXPECTED = {"servable/__init__.py", "servable/console/assets/index.html"}


def wheel(folder: Path, *names: str) -> Path:
    path = folder / "servable-1.2.3-cp310-abi3-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def sdist(folder: Path, *names: str) -> Path:
    path = folder / "servable-1.2.3.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"servable-1.2.3/{name}"), io.BytesIO())
    return path


def said(path: Path) -> list[str]:
    return check_distributions.complaints(path, check_distributions.names_in(path), EXPECTED)


WHEEL = (*EXPECTED, "servable/_core.abi3.so", "servable-1.2.3.dist-info/METADATA")
SDIST = (*(f"python/{name}" for name in EXPECTED), *check_distributions.NEEDED_TO_BUILD, "PKG-INFO")


def test_whole_ones_are_accepted(tmp_path: Path) -> None:
    assert said(wheel(tmp_path, *WHEEL)) == []
    assert said(sdist(tmp_path, *SDIST)) == []


@pytest.mark.parametrize("left_out", ["servable/console/assets/index.html", "servable/_core.abi3.so"])
def test_a_file_that_the_wheel_lacks_is_named(tmp_path: Path, left_out: str) -> None:
    assert said(wheel(tmp_path, *(name for name in WHEEL if name != left_out))) == [f"{left_out} is missing"]


def test_a_file_that_the_sdist_lacks_is_named(tmp_path: Path) -> None:
    without = [name for name in SDIST if name != "Cargo.lock"]
    assert said(sdist(tmp_path, *without)) == ["Cargo.lock is missing"]


def test_what_does_not_belong_there_is_named(tmp_path: Path) -> None:
    assert said(wheel(tmp_path, *WHEEL, "tests/test_x.py")) == ["tests/test_x.py does not belong there"]
    built = "python/servable/_core.abi3.so"
    assert said(sdist(tmp_path, *SDIST, built)) == [f"{built} does not belong there"]


def test_one_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_distributions, "MOST_BYTES", {".whl": 10, ".gz": 10})
    (complaint,) = said(wheel(tmp_path, *WHEEL))
    assert complaint.endswith("bytes are more than 10")


def test_the_files_of_the_package_are_found_without_what_was_built() -> None:
    files = check_distributions.package_files()
    assert "servable/cli/dispatch.py" in files and "servable/_core.pyi" in files
    assert not [name for name in files if name.endswith((".so", ".pyc"))]
