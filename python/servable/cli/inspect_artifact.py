"""``servable inspect`` of what is not served as it is: what it is, and the lines that make a model of it."""

from __future__ import annotations

import json
import os
from typing import Any

from servable.cli.colour import Colours
from servable.savedmodel.artifacts.artifact import Artifact
from servable.sizes import size_text


def shown(path: str, found: Artifact, as_json: bool, colours: Colours) -> str:
    """Returns everything as text, or as JSON."""
    if as_json:
        return json.dumps(fields(path, found), indent=2)
    facts = {"kind": found.title}
    if os.path.isfile(path):
        facts["size"] = size_text(os.path.getsize(path))
    facts |= found.facts
    width = max(9, *map(len, facts))
    lines = [_printable(path), *(f"  {key:<{width}} {_printable(value)}" for key, value in facts.items())]
    if found.problem:
        lines += ["", colours.bad(f"problem: {_printable(found.problem)}")]
    lines += ["", f"{'what to do' if found.problem else 'not served as it is'}: {_printable(found.advice)}"]
    if found.packages:
        lines += ["", f"  pip install {' '.join(found.packages)}"]
    if found.program:
        lines += ["", *(f"  {line}".rstrip() for line in found.program.splitlines())]
    if found.commands:
        lines += ["", *(f"  {line}" for line in found.commands)]
    return "\n".join(lines)


def fields(path: str, found: Artifact) -> dict[str, Any]:
    """Returns everything in machine-readable form: docs/command-line.md."""
    return {
        "path": path,
        "kind": found.kind,
        "title": found.title,
        "facts": found.facts,
        "problem": found.problem,
        "advice": found.advice,
        "served": found.is_served,
        "packages": list(found.packages),
        "program": found.program,
        "commands": list(found.commands),
    }


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)
