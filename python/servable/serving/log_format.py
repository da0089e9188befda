"""The format of log lines, on stderr: text for people, or one JSON object per line.

Text: ``2026-01-02 03:04:05.678 I manager: text``, in local time. JSON:
``{"time":"2026-01-02T03:04:05.678+01:00","level":"info","logger":"manager","message":"text"}``.
What TensorFlow and other libraries write to stderr by themselves then becomes such lines, too. The core
writes both alike (``src/log_line.rs``).
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from servable.progress import board

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # Python 3.10 has no types for it

_LETTERS = {"DEBUG": "D", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "F"}

_NOT_SHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Characters that move a cursor, end a line, turn text around, or cannot be written at all."""


class CompactFormatter(logging.Formatter):
    """Formats time with milliseconds, a letter for the level, the logger's name, and the text."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a line, followed by a traceback if the record has one.

        Further lines of a text begin with a space, so that none passes for a line of the log.
        """
        seconds = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        letter = _LETTERS.get(record.levelname, "?")
        message = re.sub(r"\n(?=\S)", "\n    ", _shown(record.getMessage()))
        line = f"{seconds}.{int(record.msecs):03d} {letter} {_origin(record)}: {message}"
        if record.exc_info:
            line += "\n" + _shown(self.formatException(record.exc_info))
        return line


class JsonFormatter(logging.Formatter):
    """Formats an object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats time, level, logger and message, and the traceback if the record has one."""
        at = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        fields = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": _origin(record),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, separators=(",", ":"))


class _TerminalHandler(_StreamHandler):
    """Writes each line in place of the one that shows progress."""

    def emit(self, record: logging.LogRecord) -> None:
        with board.behind():
            super().emit(record)


class _DescriptorHandler(logging.Handler):
    """Writes each line at once to a descriptor."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = (self.format(record) + "\n").encode()
            while line:
                line = line[os.write(self._descriptor, line) :]
        except Exception:
            self.handleError(record)


def log_to_stderr(level: str, log_format: str = "text") -> None:
    """Sends everything at ``level`` (debug, info, warning, error) and above to standard error.

    log_format: ``text`` or ``json``; with the latter, standard error is read from now on, until ``end``.
    """
    handler: logging.Handler
    if log_format == "json":
        from servable import _core

        handler = _DescriptorHandler(_core.take_over_stderr())
        handler.setFormatter(JsonFormatter())
        atexit.register(_core.give_back_stderr)
    else:
        handler = _TerminalHandler(sys.stderr)
        handler.setFormatter(CompactFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def end() -> None:
    """Logs what has been written to standard error, before the process ends without its exit handlers."""
    if any(isinstance(handler, _DescriptorHandler) for handler in logging.getLogger().handlers):
        from servable import _core

        sys.stderr.flush()
        _core.give_back_stderr()


def _origin(record: logging.LogRecord) -> str:
    """Returns the logger's name, of Servable's own without that."""
    return record.name.removeprefix("servable.")


def _shown(text: str) -> str:
    """Returns ``text`` with escapes in place of characters that are not shown; ends of lines stay."""
    return _NOT_SHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
