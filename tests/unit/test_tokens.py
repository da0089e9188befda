"""``servable token``: lines and tokens, the file on the disk, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from servable import _core
from servable.cli import main
from servable.cli.token_file import change
from servable.cli.tokens import new_line
from servable.errors import InvalidArgumentError

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)


def test_a_line_and_its_token_belong_together() -> None:
    line, token = new_line("me", {"scopes": "read", "models": "m*", "rate": "5/s", "burst": None})
    assert line.split()[0] == "me" and line.split()[2:] == ["scopes=read", "models=m*", "rate=5/s"]
    prefix, name, secret = token.split(".")
    assert (prefix, name, len(secret)) == ("servable", "me", 43)
    _, salt, digest = line.split()[1].split(":")
    assert hashlib.sha256(f"{salt}{secret}".encode()).hexdigest() == digest and secret not in line
    assert new_line("me", {"scopes": "read", "models": "*"})[1] != token


@given(NAMES, st.sets(st.sampled_from(["predict", "read"]), min_size=1), st.integers(1, 10**6))
def test_the_core_reads_what_is_written(name: str, scopes: set[str], limit: int) -> None:
    settings = {"scopes": ",".join(scopes), "models": "a*,b", "in_flight": str(limit)}
    line, _ = new_line(name, dict(settings))
    assert _core.tokens(line) == [(1, name, list(settings.items()))]


@pytest.mark.parametrize("name", ["", "a b", "a.b", "-a", "ä", "a" * 65, "a\n", "a=b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="a token cannot be called"):
        new_line(name, {"scopes": "read", "models": "*"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scopes": "write", "models": "*"}, "expected scopes="),
        ({"scopes": "manage", "models": "m"}, "manage concerns the whole server"),
        ({"scopes": "read", "models": "a b"}, "--models expects no spaces"),
        ({"scopes": "read", "models": "*", "rate": "x"}, "rate= expects"),
    ],
)
def test_settings_that_are_wrong(settings: dict[str, str | None], said: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        new_line("a", settings)
    assert refused.value.message.startswith(said)


def token(*arguments: str) -> int:
    return main(["token", *arguments])


def test_without_a_file_line_and_token_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert token("new", "me", "--in-flight", "3") == 0
    line, made = capsys.readouterr().out.splitlines()
    assert line.endswith(" scopes=predict,read models=* in_flight=3") and made.startswith("servable.me.")


def test_a_file_is_made_added_to_and_taken_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokens"
    assert token("new", "a", "--auth_file", str(path)) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out.startswith("servable.a.")
    path.write_text(path.read_text().rstrip("\n"))
    path.chmod(0o640)
    assert token("new", "b", "--models", "m*", "--rate", "5/s", "--auth-file", str(path)) == 0
    assert path.stat().st_mode & 0o777 == 0o640, "the mode stays"
    assert [name for _, name, _ in _core.tokens(path.read_text())] == ["a", "b"]
    capsys.readouterr()
    assert token("list", "--auth_file", str(path)) == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["NAME", "SCOPES", "MODELS", "RATE"],
        ["a", "predict,read", "*"],
        ["b", "predict,read", "m*", "5/s"],
    ]
    assert token("remove", "a", "--auth_file", str(path)) == 0
    assert token("remove", "b", "--auth_file", str(path)) == 0
    assert path.read_text().startswith("#") and _core.tokens(path.read_text()) == []
    assert os.listdir(tmp_path) == ["tokens"], "nothing is left beside it"


def test_what_stays_of_a_file(tmp_path: Path) -> None:
    """Comments and the order stay, and a link is still one."""
    path, link = tmp_path / "real", tmp_path / "link"
    first, second = (new_line(name, {"scopes": "read", "models": "*"})[0] for name in ("a", "b"))
    path.write_text(f"# mine\n{first}\n\n# yours\n{second}\n")
    link.symlink_to(path)
    assert token("remove", "a", "--auth_file", str(link)) == 0
    assert link.is_symlink() and path.read_text() == f"# mine\n\n# yours\n{second}\n"


@pytest.mark.parametrize("odd", list("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r"))
def test_the_line_of_a_name_is_the_one_removed(tmp_path: Path, odd: str) -> None:
    """Whatever else ends lines elsewhere is part of a comment here, as in the core."""
    path = tmp_path / "tokens"
    first, second = (new_line(name, {"scopes": "read", "models": "*"})[0] for name in ("a", "b"))
    path.write_bytes(f"# one{odd}# comment\n{first}\r\n\n{second}".encode())
    assert token("remove", "a", "--auth_file", str(path)) == 0
    assert path.read_bytes() == f"# one{odd}# comment\n\n{second}".encode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "a"), "has a token a"),
        (("new", "b c"), "a token cannot be called"),
        (("remove", "b"), "has no token b"),
    ],
)
def test_what_is_refused_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "tokens"
    assert token("new", "a", "--auth_file", str(path)) == 0
    before = path.read_text()
    assert token(*arguments, "--auth_file", str(path)) == 1
    assert said in capsys.readouterr().err and path.read_text() == before


def test_a_broken_or_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tokens"
    for command in (("list",), ("remove", "a")):
        assert token(*command, "--auth_file", str(path)) == 1
        assert "there is no file" in capsys.readouterr().err
    path.write_text("a\n")
    for command in (("list",), ("remove", "a"), ("new", "b")):
        assert token(*command, "--auth_file", str(path)) == 1
        assert "tokens: line 1: expected sha256:" in capsys.readouterr().err
    assert path.read_text() == "a\n"
    assert token("new", "b", "--auth_file", str(tmp_path / "no" / "tokens")) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_changes_at_once_do_not_lose_each_other(tmp_path: Path) -> None:
    path = str(tmp_path / "file")

    def add(letter: str) -> None:
        for _ in range(20):
            change(path, lambda text: text + letter, create=True)

    writers = [threading.Thread(target=add, args=(letter,)) for letter in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(Path(path).read_text()) == sorted("abc" * 20)
