"""The format of log lines: ``2026-01-02 03:04:05.678 I manager: text``, on stderr, in local time."""

from __future__ import annotations

import logging
import sys
import time

_LETTERS = {"DEBUG": "D", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}


class CompactFormatter(logging.Formatter):
    """Formats time with milliseconds, a letter for the level, the logger's name, and the text."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a line, followed by a traceback if the record has one."""
        seconds = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        letter = _LETTERS.get(record.levelname, "?")
        line = f"{seconds}.{int(record.msecs):03d} {letter} {record.name}: {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def log_to_stderr(level: str) -> None:
    """Sends everything at ``level`` (debug, info, warning, error) and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(CompactFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
