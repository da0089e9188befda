"""Colours for people: on a terminal that has them, unless $NO_COLOR is set (https://no-color.org)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

GREEN, YELLOW, RED, BOLD = "32", "33", "31", "1"


class Colours:
    """Paints texts, or leaves them as they are."""

    def __init__(self, on: bool) -> None:
        self.on = on

    @classmethod
    def of(cls, stream: TextIO | None, environment: Mapping[str, str] | None = None) -> Colours:
        """Returns those for what is written to ``stream``."""
        known = os.environ if environment is None else environment
        is_wanted = not known.get("NO_COLOR") and known.get("TERM", "") != "dumb"
        return cls(is_wanted and stream is not None and stream.isatty())

    def good(self, text: str) -> str:
        """Of what is as it should be."""
        return self._painted(text, GREEN)

    def warning(self, text: str) -> str:
        """Of what may hurt."""
        return self._painted(text, YELLOW)

    def bad(self, text: str) -> str:
        """Of what failed."""
        return self._painted(text, RED)

    def bold(self, text: str) -> str:
        """Of what to find at a glance."""
        return self._painted(text, BOLD)

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text.strip() else text
