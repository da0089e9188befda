"""The compact log line."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime

import pytest

from servable.serving.log_format import CompactFormatter, JsonFormatter


def test_a_line_has_time_level_name_and_text() -> None:
    record = logging.LogRecord("servable.manager", logging.WARNING, "file", 1, "text %d", (7,), None)
    line = CompactFormatter().format(record)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} W manager: text 7", line)


def test_a_traceback_follows() -> None:
    try:
        raise ValueError("oops")
    except ValueError:
        record = logging.LogRecord("m", logging.ERROR, "file", 1, "text", (), sys.exc_info())
    assert CompactFormatter().format(record).endswith("ValueError: oops")


def record_of(text: str) -> logging.LogRecord:
    return logging.LogRecord("servable.manager", logging.INFO, "file", 1, "%s", (text,), None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe\tof 2", "größe\tof 2"),
        ("try:\n    curl", "try:\n    curl"),
        ("a\n2026-01-02 03:04:05.678 I manager: forged", "a\n    2026-01-02 03:04:05.678 I manager: forged"),
        ("a\r\x1b[2Jb\x85", "a\\r\\x1b[2Jb\\x85"),
        ("\u202ea\u2028\ud800", "\\u202ea\\u2028\\ud800"),
    ],
)
def test_no_text_passes_for_another_line(text: str, shown: str) -> None:
    assert CompactFormatter().format(record_of(text))[23:] == f" I manager: {shown}"


@pytest.mark.parametrize("text", ["plain", 'a "b"\\', "a\nb\x1b\u2028", "\ud800"])
def test_json_is_one_object_on_one_line(text: str) -> None:
    line = JsonFormatter().format(record_of(text))
    assert line.isascii() and line.isprintable()
    fields = json.loads(line)
    assert datetime.fromisoformat(fields.pop("time")).tzinfo is not None
    assert fields == {"level": "info", "logger": "manager", "message": text}


def test_json_has_the_traceback() -> None:
    try:
        raise ValueError("oops")
    except ValueError:
        record = logging.LogRecord("m", logging.ERROR, "file", 1, "text", (), sys.exc_info())
    fields = json.loads(JsonFormatter().format(record))
    assert fields["exception"].endswith("ValueError: oops")
