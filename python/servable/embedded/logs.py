"""The log of embedded servers: kept, and given to the program's own logging; none of it is written.

Python's lines come by the logger ``servable``, the core's are kept by the core. Handlers of the root logger
get what that logger's level admits, as from any library.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import datetime

from servable.embedded import process
from servable.serving.log_format import CompactFormatter

LOGGER = "servable"
MOST_LINES = 2000
_LEVELS = ("debug", "info", "warning", "error")

_lines: deque[str] = deque(maxlen=MOST_LINES)
_lock = threading.Lock()


class _Keeping(logging.Handler):
    """Keeps each line, and passes its record on."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _lines.append(self.format(record))
        except Exception:
            self.handleError(record)
        root = logging.getLogger()
        if root.handlers and record.levelno >= root.level:
            root.handle(record)


def begin(level: str) -> None:
    """Keeps what is logged at ``level`` and above from now on; once for a process."""
    level = level if level in _LEVELS else "info"
    process.core().keep_log({"warning": "warn"}.get(level, level))
    logger = logging.getLogger(LOGGER)
    with _lock:
        if any(isinstance(one, _Keeping) for one in logger.handlers):
            return
        handler = _Keeping()
        handler.setFormatter(CompactFormatter())
        logger.addHandler(handler)
        logger.propagate = False
        if logger.level == logging.NOTSET:
            logger.setLevel(level.upper())


def now() -> str:
    """Returns the time as lines begin with it."""
    return datetime.now().isoformat(sep=" ", timespec="milliseconds")


def since(time: str) -> str:
    """Returns the lines that were logged since then, of all embedded servers."""
    lines = [*_lines, *process.core().kept_log()]
    # The first lines of texts begin with their times, which sort as texts do.
    return "\n".join(sorted(line for line in lines if line[: len(time)] >= time))
