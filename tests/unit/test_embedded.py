"""What surrounds an embedded server: its flags, what is to be served, how it looks whatever is named."""

from __future__ import annotations

import logging
import os
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from servable.config.values import ModelConfig
from servable.embedded.configuration import Flag, _written, check_library, parsed
from servable.embedded.display import VersionStatus, line, table
from servable.embedded.exporting import ExportFolder, export
from servable.embedded.last_thread import LastThread
from servable.embedded.models import model_configs
from servable.engines import tensorflow_library
from servable.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", 0, ["--port=0"]),
        ("port", None, ["--port=off"]),
        ("engine", None, []),
        ("batching", "auto", ["--batching=auto"]),
        ("enable_batching", True, ["--enable_batching=true"]),
        ("drain_delay_seconds", 0.5, ["--drain_delay_seconds=0.5"]),
        ("auth_file", Path("/a b"), ["--auth_file=/a b"]),
        ("op_library", ["a.so", "b.so"], ["--op_library=a.so", "--op_library=b.so"]),
    ],
)
def test_flags_are_written_as_on_the_command_line(name: str, value: Flag, expected: list[str]) -> None:
    assert list(_written(name, value)) == expected


def test_none_is_what_an_embedded_server_has_without_the_flag() -> None:
    given = parsed({"host": None, "engine": None, "max_num_load_retries": None, "port": None})
    assert given.text("host") == "127.0.0.1"
    assert given.text("engine") == "tensorflow"
    assert given.integer("max_num_load_retries") == 0
    assert given.port("port") is None


class _Exported:
    """Stands for a Keras model: prints, and lets another thread go on in the midst of its export."""

    def __init__(self, midst: Callable[[], object]) -> None:
        self._midst = midst

    def export(self, folder: str) -> None:
        print("exported", folder)
        self._midst()
        logging.getLogger("absl").warning("of the export")


Model = type("Model", (_Exported,), {"__module__": "keras.src.models.model"})


def test_other_threads_print_and_log_while_a_model_is_exported(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))

    def tell() -> None:
        print("of another thread")
        logging.getLogger("absl").warning("of another thread")

    def beside() -> None:
        other = threading.Thread(target=tell)
        other.start()
        other.join()

    export(Model(beside), "folder")
    assert capsys.readouterr().out == "of another thread\n"
    assert [one.getMessage() for one in caplog.records] == ["of another thread"]


def test_standard_output_is_there_again_after_exports_at_once() -> None:
    before, level = sys.stdout, logging.getLogger("absl").level
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first() -> None:
        first_is_in.set()
        # As long as the second needs where both are let in; where it has to wait, no longer than this.
        second_is_in.wait(0.2)

    def second() -> None:
        second_is_in.set()
        threads[0].join(0.2)

    threads = [
        threading.Thread(target=export, args=(Model(first), "1")),
        threading.Thread(target=export, args=(Model(second), "2")),
    ]
    threads[0].start()
    first_is_in.wait()
    threads[1].start()
    for one in threads:
        one.join()
    assert sys.stdout is before
    assert logging.getLogger("absl").level == level


def test_there_is_one_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / name / "tensorflow" for name in ("one", "other")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / tensorflow_library.NAMES[0]).touch()
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    check_library(str(folders[1]))
    monkeypatch.setattr(sys.modules["tensorflow"], "__file__", str(folders[0] / "__init__.py"), raising=False)
    check_library(str(folders[0]))
    with pytest.raises(FailedPreconditionError, match="a process can hold one TensorFlow"):
        check_library(str(folders[1]))


def test_no_text_is_not_the_current_folder() -> None:
    with pytest.raises(NotFoundError, match="is a variable not set"):
        model_configs("", "", ExportFolder())


def test_paths_and_names(tmp_path: Path) -> None:
    base = tmp_path / "a=b"
    (base / "1").mkdir(parents=True)
    folder = ExportFolder()
    (by_path,) = model_configs(str(base), "", folder)
    assert (by_path.name, by_path.base_path) == ("a=b", str(base))
    assert model_configs(base, "m", folder) == (replace(by_path, name="m"),)
    both = model_configs({"x/y": base, "z": base}, "", folder)
    assert [one.name for one in both] == ["x/y", "z"]
    stated = ModelConfig("s", "/s")
    assert model_configs(stated, "", folder) == (stated,)
    assert model_configs("s3://bucket/m", "", folder)[0].base_path == "s3://bucket/m"
    with pytest.raises(InvalidArgumentError, match="leave out name="):
        model_configs({"x": base}, "y", folder)
    assert folder._path == ""


def test_an_export_folder_is_made_when_needed_and_goes() -> None:
    folder = ExportFolder()
    folder.remove()
    path = folder.model(0)
    above = os.path.dirname(path)
    assert os.path.isdir(above)
    folder.remove()
    folder.remove()
    assert not os.path.exists(above)


class _Reader(HTMLParser):
    """Collects tags, and the text of each cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert {name for name, _ in attributes} <= {"style"}
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@given(st.text(max_size=100), st.text(max_size=100))
def test_whatever_is_named_a_table_is_a_table_and_a_line_a_line(name: str, message: str) -> None:
    models = {name: [VersionStatus(7, "END", "UNKNOWN", message), VersionStatus(3, "AVAILABLE")]}
    read = _Reader(table(models, {"REST": "http://127.0.0.1:1"}))
    assert read.tags == {"div", "b", "code", "table", "thead", "tr", "th", "tbody", "td", "bdi"}
    assert len(read.cells) == 6 and read.cells[4:] == ["3", "AVAILABLE"]
    assert all(one.isprintable() for one in read.cells)
    if name.isprintable():
        assert read.cells[0] == name
    assert line(models, {}).isprintable()


def test_many_models_are_not_all_shown() -> None:
    models = {f"m{number}": [VersionStatus(1, "AVAILABLE")] for number in range(1000)}
    assert len(table(models, {})) < 30_000
    assert "and 900 more models" in table(models, {})
    assert line(models, {}) == (
        "<servable.Server of m0 (1 AVAILABLE), m1 (1 AVAILABLE), m2 (1 AVAILABLE), m3 (1 AVAILABLE), 996 more"
        "; no ports>"
    )


def test_the_last_thread_does_what_it_is_given(caplog: pytest.LogCaptureFixture) -> None:
    last, done, names = LastThread(), threading.Event(), []
    assert last.do(done.set) is False
    last.begin()
    last.begin()
    assert last.do(lambda: 1 / 0)
    assert last.do(lambda: names.append(threading.current_thread().name))
    assert last.do(done.set) and done.wait(10)
    assert names == ["servable-end"]
    assert "ZeroDivisionError" in caplog.text


def test_a_forked_process_has_no_last_thread_until_it_starts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    last, done = LastThread(), threading.Event()
    last.begin()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    last.forget()
    assert last.do(done.set) is False
    last.begin()
    assert last.do(done.set) and done.wait(10)
