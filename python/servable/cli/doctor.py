"""``servable doctor [PATH…]``: looks at this machine, and says what will hurt and what to do.

Exit statuses: 0 nothing keeps a server from serving (warnings count as nothing), 1 something does, 2 invalid
command line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from servable.checkup.check import LEVELS, NOTE, PROBLEM, WARNING, Check
from servable.cli.colour import Colours
from servable.errors import UsageError

_INDENT = 9


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="servable doctor",
        description="Look at this machine: Python, engines, processor, limits, ports, folders. "
        "Exit status 1 if a server would not serve.",
    )
    parser.add_argument(
        "path", metavar="PATH", nargs="*", help="models that will be served: may they be read?"
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    for flag, number, meaning in (("port", 8500, "gRPC"), ("rest_api_port", 8501, "REST")):
        names = dict.fromkeys((f"--{flag}", f"--{flag.replace('_', '-')}"))
        parser.add_argument(
            *names, metavar="N", type=_port, default=number, help=f"port of {meaning} (default {number})"
        )
    parser.add_argument(
        "--model_cache_dir", "--model-cache-dir", metavar="FOLDER", default="", help="as of servable serve"
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected a port from 1 to 65535, got {text!r}")
    return int(text)


def doctor(argv: Sequence[str]) -> int:
    """Runs the command."""
    given = parser().parse_intermixed_args(argv)
    checks = _checks(given)
    is_fine = not any(one.level == PROBLEM for one in checks)
    if given.json:
        print(json.dumps(fields(checks), indent=2))
    else:
        print(described(checks, Colours.of(sys.stdout)), end="")
    return 0 if is_fine else 1


def _checks(given: argparse.Namespace) -> list[Check]:
    from servable.checkup import machine, places, software
    from servable.config.model_paths import cache_dir

    checks = [*software.all_of_software(os.environ), *machine.all_of_machine(Path("/"))]
    try:
        cache = cache_dir(given.model_cache_dir, os.environ, make=False)
    except UsageError as error:
        checks.append(Check("cache", PROBLEM, str(error)))
        cache = ""
    return [*checks, *places.all_of_places(given.path, cache, given.port, given.rest_api_port)]


def fields(checks: Sequence[Check]) -> dict[str, Any]:
    """Returns everything in machine-readable form: docs/command-line.md."""
    import servable
    from servable.checkup.software import system

    return {
        "servable": servable.__version__,
        "system": system(),
        "ok": not any(one.level == PROBLEM for one in checks),
        "checks": [asdict(one) for one in checks],
    }


def described(checks: Sequence[Check], colours: Colours) -> str:
    """Returns a line for each check, advice below, and a summary."""
    width = max(len(one.name) for one in checks)
    paint = {NOTE: colours.bold, WARNING: colours.warning, PROBLEM: colours.bad}
    lines = []
    for one in checks:
        level = paint.get(one.level, colours.good)(f"{one.level:<{_INDENT}}")
        lines.append(f"{level}{one.name:<{width}}  {one.found}")
        if one.advice:
            lines.append(f"{'':<{_INDENT + width}}  -> {one.advice}")
    counts = Counter(one.level for one in checks)
    said = [
        f"{counts[level]} {level}{'s' if counts[level] > 1 else ''}"
        for level in LEVELS[:0:-1]
        if counts[level]
    ]
    is_fine = not counts[PROBLEM]
    summary = colours.good("ready to serve") if is_fine else colours.bad("a server would not serve")
    return "\n".join(lines) + f"\n\n{summary}" + (f" ({', '.join(said)})" if said else "") + "\n"
