"""Words, JSON and files for ``servable predict``, and the printing of outputs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servable.cli.predict_output import WIDEST_CELL, as_json, as_table, escaped
from servable.cli.predict_values import Inputs, read_inputs
from servable.errors import ServableError, UsageError


def read(*values: str, named: tuple[str, ...] = ()) -> Inputs:
    return read_inputs(values, named)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2.5", "-3e2"], [1, 2.5, -300.0]),
        (["1"], [1]),
        ([".5", "inf", "1."], [0.5, float("inf"), 1.0]),
        (["[[1, 2], [3, 4]]"], [[1, 2], [3, 4]]),
        (["[1, 2]", "[3, 4]"], [[1, 2], [3, 4]]),
        (["true", "false"], [True, False]),
        (["some words"], ["some words"]),
        ([" some words\n"], [" some words\n"]),
        ([" 5 ", " [1] "], [5, [1]]),
        (['"5"', "a"], ["5", "a"]),
        (['{"b64": "/w=="}'], b"\xff"),
        (['{"a": [1], "b": 2}'], {"a": [1], "b": 2}),
    ],
)
def test_values(values: list[str], expected: Any) -> None:
    assert read(*values) == Inputs(expected)


def test_whole_requests() -> None:
    rows = '{"instances": [{"a": 1, "b": "x"}, {"a": 2, "b": {"b64": "/w=="}}], "signature_name": "s"}'
    assert read(rows) == Inputs({"a": [1, 2], "b": ["x", b"\xff"]}, "s")
    assert read('{"instances": [1, 2]}') == Inputs([1, 2])
    assert read('{"instances": []}') == Inputs([])
    assert read('{"inputs": {"a": 1}}') == Inputs({"a": 1})
    assert read('{"inputs": [1], "outputs": ["y", "z"]}') == Inputs([1], "", ["y", "z"])
    assert read('{"inputs": [1], "outputs": []}') == Inputs([1])
    assert read('{"inputs": 7, "other": 1}') == Inputs({"inputs": 7, "other": 1})


def test_named_values() -> None:
    assert read(named=("a=1", "b=[2]", "c=x=y", "d=")) == Inputs({"a": 1, "b": [2], "c": "x=y", "d": ""})


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(3, dtype=np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array, y=array + 1)
    (tmp_path / "a.json").write_text('{"x": [1]}')
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    np.testing.assert_array_equal(read(f"@{tmp_path}/a.npy").value, array)
    assert sorted(read(f"@{tmp_path}/a.npz").value) == ["x", "y"]
    assert read(f"@{tmp_path}/a.json").value == {"x": [1]}
    assert read(f"@{tmp_path}/a.jpg").value == b"\xff\xd8"
    assert read(f"@{tmp_path}/a.jpg", f"@{tmp_path}/a.jpg").value == [b"\xff\xd8", b"\xff\xd8"]
    assert read(named=(f"x=@{tmp_path}/a.jpg",)).value == {"x": b"\xff\xd8"}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[1, NaN]")))
    assert str(read("@-").value) == "[1, nan]"


def test_bytes_that_are_not_utf8_survive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_bytes(b'["\xc3\xa4\xff"]')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'["\xc3\xa4\xff"]')))
    assert read("@-") == read(f"@{tmp_path}/a.json") == Inputs(["ä\udcff"])


def test_standard_input_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise IsADirectoryError(21, "Is a directory")

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Broken())))
    with pytest.raises(ServableError, match="standard input cannot be read: Is a directory"):
        read("@-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ServableError, match="standard input cannot be read: it is closed"):
        read("@-")


@pytest.mark.parametrize("text", ["1e400", "-1e400", ".1e400", "[1, -1e400]", "9" * 5000, '{"x": 1e400}'])
def test_numbers_that_are_larger_than_any_float(text: str, tmp_path: Path) -> None:
    with pytest.raises(ServableError, match="is larger than any float"):
        read(text)


def test_infinities_that_are_called_so() -> None:
    assert read("inf", "-Infinity", "Infinity").value == [float("inf"), -float("inf"), float("inf")]
    assert read("[Infinity, -Infinity]").value == [float("inf"), -float("inf")]


@pytest.mark.parametrize(
    ("values", "named", "words"),
    [
        ([], [], "got neither"),
        (["1"], ["x=1"], "got both"),
        ([], ["x"], "NAME=VALUE, got 'x'"),
        ([], ["=1"], "NAME=VALUE, got '=1'"),
        ([], ["x=1", "x=2"], "'x' twice"),
        (["[1, 2"], [], "'\\[1, 2' is not JSON"),
        (['{"x": 1}', "2"], [], "has no place"),
        (['{"b64": "*"}'], [], "not base64"),
        (["[" * 60_000], [], "is not JSON: maximum recursion depth"),
        (['{"x":' * 60_000], [], "is not JSON: maximum recursion depth"),
    ],
)
def test_wrong_command_lines(values: list[str], named: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_inputs(values, named)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"{", "a.json is not JSON"),
        ("a.json", b"\xff", "a.json is not JSON"),
        ("a.json", b'{"instances": 1}', "'instances' is no list"),
        ("a.json", b'{"instances": [{"a": 1}, {"b": 1}]}', "row 1 of 'instances'"),
        ("a.json", b'{"instances": [1, {"b": 1}]}', "row 0 of 'instances'"),
        ("a.json", b'{"instances": [1], "signature_name": 7}', "signature_name is 7"),
        ("a.json", b'{"instances": [1], "signature_name": {"b64": "/w=="}}', "signature_name is b'"),
        ("a.json", b'{"instances": [1], "outputs": "y"}', "outputs is .*; expected a list of names"),
        ("a.json", b"[" * 60_000, "a.json is not JSON"),
        ("a.npy", b"no array", "a.npy is no numpy file"),
        ("a.npz", b"PK", "a.npz is no numpy file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ServableError, match=words):
        read(f"@{tmp_path / name}")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for name in ("a.json", "a.npy", "a.jpg"):
        with pytest.raises(ServableError, match=f"{name} cannot be read: No such file"):
            read(f"@{tmp_path / name}")


def test_an_array_of_objects_is_not_loaded(tmp_path: Path) -> None:
    """Loading it would run code from the file."""
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ServableError, match="no numpy file"):
        read(f"@{tmp_path}/a.npy")


# ---- output


def objects(*values: Any) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


OUTPUTS = {
    "score": np.array([[0.1, 2]], np.float32),
    "label": objects(b"text \xc3\xa4"),
    "raw": objects(b"\xff"),
    "n": np.array([2**63 - 1]),
    "ok": np.array([True]),
}


def test_json() -> None:
    printed = as_json(OUTPUTS)
    assert json.loads(printed) == {
        "score": [[0.1, 2.0]],
        "label": ["text ä"],
        "raw": [{"b64": "/w=="}],
        "n": [2**63 - 1],
        "ok": [True],
    }
    assert printed.splitlines()[1] == '  "score": [[0.1, 2.0]],'
    assert as_json({}) == "{}"
    assert json.loads(as_json({"y": np.float32(0.3).reshape(())})) == {"y": 0.3}
    assert as_json({"y": np.array([np.nan, np.inf])}) == '{\n  "y": [NaN, Infinity]\n}'
    assert json.loads(as_json({"y": np.array([1 + 2j], np.complex64)})) == {"y": ["(1+2j)"]}


def test_small_integers_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    outputs = {
        "a": np.array([-1, 7], np.int8).astype(ml_dtypes.int4),
        "b": np.array([1, 15], np.int8).astype(ml_dtypes.uint4),
        "c": np.array([1, 1.5], np.float32).astype(ml_dtypes.bfloat16),
    }
    assert as_json(outputs).splitlines()[1:4] == ['  "a": [-1, 7],', '  "b": [1, 15],', '  "c": [1.0, 1.5]']
    assert as_table(outputs).splitlines()[2:] == ["-1  1   1.0", "7   15  1.5"]


def test_numbers_of_16_bits_are_as_short_as_they_can_be() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array([0.1, 65504, 3.3895e38, np.inf, np.nan], np.float64)
    with np.errstate(over="ignore"):
        outputs = {"h": values[:2].astype(np.float16), "b": values.astype(ml_dtypes.bfloat16)}
    assert as_json(outputs).splitlines()[1:3] == [
        '  "h": [0.1, 65500.0],',
        '  "b": [0.1, 65500.0, 3.39e+38, Infinity, NaN]',
    ]


def test_escapes_are_read_back() -> None:
    printed = as_json({"y": objects("ä\N{GRINNING FACE}…".encode())})
    assert escaped(printed).isascii()
    assert json.loads(escaped(printed)) == {"y": ["ä\N{GRINNING FACE}…"]}


def test_a_table_of_rows() -> None:
    table = as_table({"score": np.array([0.1, 2], np.float32), "label": objects(b"a", b"two\nlines")})
    assert table.splitlines() == ["score  label", "-----  ----------", "0.1    a", "2.0    two\\nlines"]


def test_a_table_of_outputs() -> None:
    table = as_table({"y": np.float32(1).reshape(()), "z": np.array([1, 2])})
    assert table.splitlines() == [
        "output  dtype    shape  value",
        "------  -------  -----  ------",
        "y       float32  []     1.0",
        "z       int64    [2]    [1, 2]",
    ]


def test_wide_cells_are_cut() -> None:
    (_, _, row) = as_table({"y": np.zeros((1, 1000))}).splitlines()
    assert len(row) == WIDEST_CELL
    assert row.endswith("…")


def test_numpy_files_are_what_they_hold(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1.0]))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    assert read(f"@{tmp_path}/a.npz").value.tolist() == [1.0]
    np.savez(tmp_path / "b.npz", x=np.array([1.0]))
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    assert list(read(f"@{tmp_path}/b.npy").value) == ["x"]


def numpy_head(shape: str) -> bytes:
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (numpy_head("(1000000000000000,)"), "not enough memory"),
        (numpy_head("(((((("), "no numpy file"),
        (b"PK\x03\x04" + bytes(50), "no numpy file"),
    ],
)
def test_numpy_files_that_cannot_be_read(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ServableError, match=words):
        read(f"@{tmp_path}/a.npz")


@pytest.mark.parametrize("mark", [(6, 8, 1), (8, 10, 99)], ids=["encrypted", "packed strangely"])
def test_zip_files_of_arrays_that_cannot_be_unpacked(tmp_path: Path, mark: tuple[int, int, int]) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([1.0]))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    at, at_end, value = mark
    content[at] = content[content.find(b"PK\1\2") + at_end] = value
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ServableError, match="no numpy file"):
        read(f"@{tmp_path}/a.npz")


def test_outputs_tell_the_terminal_nothing() -> None:
    outputs = {"a\x1b[2J": objects("\x9b2J\x7fä".encode())}
    assert json.loads(as_json(outputs)) == {"a\x1b[2J": ["\x9b2J\x7fä"]}
    for printed in (as_json(outputs), as_table(outputs), as_table({**outputs, "b": objects(b"1", b"2")})):
        assert all(one == "\n" or one.isprintable() for one in printed)
