"""Interprets ``--shared_memory``: which files of shared memory clients may register."""

from __future__ import annotations

import re

from servable.config.arguments import Arguments
from servable.errors import UsageError

ANY = "*"


def shared_memory(arguments: Arguments) -> str | None:
    """Returns with what names of files have to begin, empty for any; None if there is no shared memory."""
    text = arguments.text("shared_memory")
    if not text:
        return None
    if not arguments.boolean("open_inference_protocol"):
        raise UsageError("--shared_memory needs --open_inference_protocol, whose clients use it")
    if text == ANY:
        return ""
    if not re.fullmatch(r"/[^/\0*]{1,200}", text):
        raise UsageError(
            "--shared_memory expects * for files of any name, or with what names have to begin, such as "
            f"/servable_, got {text!r}"
        )
    return text[1:]
