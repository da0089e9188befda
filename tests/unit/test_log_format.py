"""The compact log line."""

from __future__ import annotations

import logging
import re
import sys

from servable.serving.log_format import CompactFormatter


def test_a_line_has_time_level_name_and_text() -> None:
    record = logging.LogRecord("manager", logging.WARNING, "file", 1, "text %d", (7,), None)
    line = CompactFormatter().format(record)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} W manager: text 7", line)


def test_a_traceback_follows() -> None:
    try:
        raise ValueError("oops")
    except ValueError:
        record = logging.LogRecord("m", logging.ERROR, "file", 1, "text", (), sys.exc_info())
    assert CompactFormatter().format(record).endswith("ValueError: oops")
