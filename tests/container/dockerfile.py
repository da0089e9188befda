"""Reads the Dockerfile: stages, each a list of instructions in order, variables not yet expanded.

Supports only the part of the language that this project's Dockerfile uses.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

PROJECT = Path(__file__).resolve().parents[2]
"""The build context."""


@dataclass(frozen=True)
class Instruction:
    """``keyword`` in capitals, ``value`` the rest of the line, with continuation lines joined."""

    keyword: str
    value: str

    def words(self) -> list[str]:
        """Splits the value as a shell would."""
        return shlex.split(self.value)


@dataclass(frozen=True)
class Copy:
    """One COPY: from the build context (``stage`` is "") or from an earlier stage."""

    stage: str
    sources: list[str]
    target: str


@dataclass
class Stage:
    """One FROM and its instructions; ``name`` is "" for an unnamed stage."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def copies(self) -> list[Copy]:
        """Returns its COPY instructions in order."""
        return [copy(one) for one in self.instructions if one.keyword == "COPY"]

    def last(self, keyword: str) -> str:
        """Returns the value of the instruction in force; "" if there is none."""
        values = [one.value for one in self.instructions if one.keyword == keyword]
        return values[-1] if values else ""


def stages(path: Path = PROJECT / "Dockerfile", arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """Returns the stages in order. ``arguments`` are build arguments; they expand FROM lines only."""
    variables: dict[str, str] = {}
    found: list[Stage] = []
    for one in _instructions(path.read_text()):
        if one.keyword == "FROM":
            base, _, name = Template(one.value).substitute(variables).partition(" AS ")
            found.append(Stage(name, base))
        elif found:
            found[-1].instructions.append(one)
        else:
            name, _, default = one.value.partition("=")
            variables[name] = (arguments or {}).get(name, default)
    return found


def copy(instruction: Instruction) -> Copy:
    """Parses a COPY; its only option here is ``--from``."""
    words = instruction.words()
    stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
    return Copy(stage, words[:-1], words[-1])


def _instructions(text: str) -> list[Instruction]:
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", uncommented)
    lines = [line.strip() for line in joined.splitlines() if line.strip()]
    return [Instruction(*line.split(None, 1)) for line in lines]
