"""Reads protobuf files in text format.

Every file has the same three errors, with TensorFlow Serving's texts: missing, empty, unparsable (the
parser's message goes to the log, with line and column).
"""

from __future__ import annotations

import logging
from typing import Any

from servable.errors import StatusError, invalid_argument
from servable.messages import message_class, pool
from servable.regular_files import open_file

_log = logging.getLogger("servable.config")

LARGEST_FILE = 64 * 1024 * 1024
"""Largest config file, in bytes; a larger one is a mistake."""

_complaints: dict[str, str] = {}
"""The last parser message logged per file, so that a polled file does not repeat it at every poll."""


def read_text_message(path: str, name: str) -> Any:
    """Reads the message of type ``name`` (full name) from the text file ``path``. Raises ``StatusError``."""
    from google.protobuf import text_format

    text = _read(path)
    message = message_class(name)()
    try:
        text_format.Parse(text, message, descriptor_pool=pool())
    except text_format.ParseError as error:
        said = _complaint(text, error)
        complaint = f"Error parsing text-format {name}: {said}"
        if _complaints.get(path) != complaint:
            _complaints[path] = complaint
            _log.error("%s", complaint)
        raise invalid_argument(f"Invalid protobuf file: '{path}'", f"{path}:{said}") from None
    except RecursionError:
        raise invalid_argument(f"Invalid protobuf file: '{path}'", f"{path} is nested too deeply") from None
    _complaints.pop(path, None)
    return message


def _complaint(text: str, error: Exception) -> str:
    """Returns line, column and what is wrong there, without quotations of the file, which may hold a key."""
    said = str(error).replace(" : ", ": ", 1)
    number, lines = said.partition(":")[0], text.split("\n")
    if number.isdigit() and int(number) <= len(lines):
        said = said.replace(f"'{lines[int(number) - 1]}': ", "", 1)
    for quoting in ("String missing ending quote", "Expected string but found"):
        said = said.partition(f"{quoting}:")[0] + quoting if f"{quoting}:" in said else said
    return said


def _read(path: str) -> str:
    try:
        # A shell's <(…) is a pipe in /dev, for which waiting is intended.
        with open(path, "rb") if path.startswith("/dev/") else open_file(path) as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise StatusError("NOT_FOUND", f"{path}; No such file or directory") from None
    except PermissionError:
        raise StatusError("PERMISSION_DENIED", f"{path}; Permission denied") from None
    except OSError as error:
        raise StatusError("FAILED_PRECONDITION", f"{path}; {error.strerror}") from None
    if not content:
        raise invalid_argument(f"{path}; Invalid argument", "the file is empty")
    if len(content) > LARGEST_FILE:
        raise invalid_argument(f"{path}; larger than {LARGEST_FILE} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_argument(
            f"Invalid protobuf file: '{path}'", f"{path} is not UTF-8 text: {error.reason}"
        ) from None
