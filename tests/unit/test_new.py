"""``servable new``: the starter project's files; that it works: tests/e2e/test_conversions.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from servable.cli import main
from servable.cli.new import FILES
from servable.config.config_files import read_model_config_file


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    return main(["new", *arguments])


def test_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(tmp_path, monkeypatch, "price") == 0
    said = capsys.readouterr().out
    assert "cd price" in said and "servable serve models/price" in said
    found = {
        str(one.relative_to(tmp_path / "price")) for one in (tmp_path / "price").rglob("*") if one.is_file()
    }
    assert found == set(FILES)
    for name in FILES:
        text = (tmp_path / "price" / name).read_text()
        assert "@" not in text.replace("@ np", "").replace("@pytest", "")
        if name.endswith(".py"):
            assert ast.get_docstring(ast.parse(text))
    (model,) = read_model_config_file(str(tmp_path / "price" / "models" / "models.config"))
    assert (model.name, model.base_path) == ("price", "/models/price")


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "price").mkdir()
    (tmp_path / "price" / "export.py").write_text("mine")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("price", "file", "link"):
        assert made(tmp_path, monkeypatch, name) == 1
        assert "is there already, and nothing in it is overwritten" in capsys.readouterr().err
    assert [one.name for one in (tmp_path / "price").iterdir()] == ["export.py"]
    assert (tmp_path / "price" / "export.py").read_text() == "mine"


def test_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert made(tmp_path, monkeypatch, "price", "--folder", "empty") == 0
    assert (tmp_path / "empty" / "export.py").exists()


@pytest.mark.parametrize("name", ["", "../price", "a/b", "1st", "a b", "é", "x" * 65, '"'])
def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(SystemExit) as end:
        made(tmp_path, monkeypatch, name)
    assert end.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_half_a_project_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FILES, "new/last.py", "no-such-file")
    (tmp_path / "empty").mkdir()
    assert made(tmp_path, monkeypatch, "price") == 1
    assert made(tmp_path, monkeypatch, "price", "--folder=empty") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []
