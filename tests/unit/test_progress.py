"""Progress on terminals, and nothing elsewhere; colours likewise."""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import until

from servable import progress
from servable.cli.colour import Colours
from servable.cli.models import models_table
from servable.cli.table import table
from servable.progress import SHOWN_AFTER, Board
from servable.serving import log_format
from servable.sources import cache


class Terminal(io.StringIO):
    """A stream that passes for a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shown(clock: Clock) -> tuple[Board, Terminal]:
    """A board that is shown."""
    board, terminal = Board(clock), Terminal()
    board.show_on(terminal, {"TERM": "xterm"})
    return board, terminal


def test_a_bar_shows_how_much_is_done_and_how_long_it_takes(
    shown: tuple[Board, Terminal], clock: Clock
) -> None:
    board, _ = shown
    with board.task("fetching resnet", 4_000_000) as task:
        task.add(1_000_000)
        assert board.line(79) == ""  # not yet: it may be over at once
        clock.now += 10
        expected = "fetching resnet [######------------------]  25% of 4.0 MB, 30 s left"
        assert board.line(79) == expected
        assert board.line(20) == expected[:19] + "…"
        task.add(9_000_000)
        assert "100% of 4.0 MB" in board.line(79)
    assert board.line(79) == ""


def test_work_of_unknown_length(shown: tuple[Board, Terminal], clock: Clock) -> None:
    board, _ = shown
    ended = threading.Event()

    def beside() -> None:
        with board.task("fetching"):
            ended.wait(60)

    other = threading.Thread(target=beside)
    # A part of a longer task takes its place; what another thread does is counted.
    with board.task("loading m"), board.task("converting m", detail=lambda: "Keras is being\nimported"):
        other.start()
        assert until(lambda: len(board._tasks) == 3)
        clock.now += 200
        assert board.line(79) == "converting m: Keras is being?imported, 3 min (and 1 more)"
        assert board.line(20).endswith(" (and 1 more)") and len(board.line(20)) == 20
        ended.set()
        other.join()
    with board.task("fetching") as task:
        task.add(2000)
        clock.now += SHOWN_AFTER
        assert board.line(79) == "fetching: 2.0 kB, 0 s"


def test_the_line_is_drawn_and_cleared(shown: tuple[Board, Terminal], clock: Clock) -> None:
    board, terminal = shown
    with board.task("fetching m", 100):
        clock.now += 1
        assert until(lambda: "fetching m [" in terminal.getvalue())
        with board.behind():
            terminal.write("a line of the log\n")
    text = terminal.getvalue()
    assert "\x1b[K\r" in text and "\r\x1b[Ka line of the log\n" in text
    assert text.endswith(("\r\x1b[K", "log\n"))
    assert until(lambda: not any(one.name == "progress" for one in threading.enumerate()))


@pytest.mark.parametrize(
    ("stream", "environment"),
    [(io.StringIO(), {"TERM": "xterm"}), (Terminal(), {"TERM": "dumb"}), (Terminal(), {}), (None, {})],
)
def test_nothing_is_shown_where_nobody_looks(stream: io.StringIO | None, environment: dict[str, str]) -> None:
    board = Board()
    board.show_on(stream, environment)
    with board.task("fetching", 100) as task, board.behind():
        task.add(100)
    assert not board.is_shown
    assert stream is None or stream.getvalue() == ""


def test_a_terminal_that_is_gone_harms_nothing(clock: Clock) -> None:
    board, terminal = Board(clock), Terminal()
    board.show_on(terminal, {"TERM": "xterm"})
    terminal.close()
    with board.task("fetching m", 100):
        clock.now += 1
        with board.behind():
            pass
    board.hide()


def test_log_lines_take_the_place_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr("sys.stderr", terminal)
    log_format.log_to_stderr("info")
    board = progress.board
    board.show_on(terminal, {"TERM": "xterm"})
    try:
        with board.task("loading m"):
            monkeypatch.setattr(board, "_drawn", True)
            logging.getLogger("manager").info("something")
    finally:
        board.hide()
    assert "\r\x1b[K2" in terminal.getvalue()


def test_a_fetch_is_shown(
    tmp_path: Path, clock: Clock, shown: tuple[Board, Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    board, _ = shown
    monkeypatch.setattr(cache, "board", board)
    seen = []

    def read(_: cache.RemoteFile) -> Iterator[bytes]:
        yield b"ab"
        clock.now += 10
        seen.append(board.line(79))
        yield b"cd"

    store = cache.Cache(str(tmp_path), "s3://bucket/resnet")
    store.prepare()
    files = (cache.RemoteFile("model.onnx", 4),)
    with store.turn(store.place(1, files), threading.Event()):
        store.fetch(1, files, read, threading.Event())
    store.close(clear=False)
    assert len(seen) == 1
    assert re.fullmatch(r"fetching resnet-\w+ \[#{12}-{12}\]  50% of 4 B, 10 s left", seen[0])


# ---- colours


@pytest.mark.parametrize(
    ("stream", "environment", "expected"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (None, {}, False),
    ],
)
def test_colours_are_for_terminals(
    stream: io.StringIO | None, environment: dict[str, str], expected: bool
) -> None:
    colours = Colours.of(stream, environment)
    assert colours.on is expected
    assert (colours.bad("text") == "\x1b[31mtext\x1b[0m") is expected
    assert colours.bad(" ") == " "


def test_columns_are_as_wide_with_colours_as_without() -> None:
    rows = [("m", "1", "AVAILABLE"), ("longer", "12", "FAILED")]
    plain = table(("MODEL", "VERSION", "STATE"), rows)
    painted = table(("MODEL", "VERSION", "STATE"), rows, lambda _, cell: f"\x1b[1m{cell}\x1b[0m")
    assert painted.replace("\x1b[1m", "").replace("\x1b[0m", "") == plain
    versions = [
        {"version": 1, "state": "AVAILABLE"},
        {"version": 2, "state": "END", "error": {"code": "X", "message": ""}},
    ]
    listed = [{"name": "m", "standing": "available", "versions": versions}]
    text = models_table(listed, Colours(True))
    assert "\x1b[32mAVAILABLE\x1b[0m" in text and "\x1b[31mFAILED" in text
    assert os.linesep.join(models_table(listed).splitlines()).count("\x1b") == 0


def test_what_has_just_ended_is_told_without_details() -> None:
    def ended() -> str:
        raise RuntimeError("there is no such version any more")

    board, clock = Board(), Clock()
    board._clock = clock
    board._stream = Terminal()
    with board.task("loading m", detail=ended):
        clock.now += SHOWN_AFTER
        assert board.line(80).startswith("loading m: ")
