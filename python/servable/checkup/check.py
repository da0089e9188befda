"""The result of looking at one thing."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"
LEVELS = (OK, NOTE, WARNING, PROBLEM)
"""note: worth knowing; warning: will hurt; problem: a server will not start, or not serve."""


@dataclass(frozen=True)
class Check:
    """name: what was looked at. found: what is so. advice: what to do, "" if nothing."""

    name: str
    level: str
    found: str
    advice: str = ""
