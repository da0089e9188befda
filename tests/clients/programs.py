"""Clients in other languages: programs that print what they got as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60


def printed(program: Path, *command: str | Path, needs: Path | None = None) -> Any:
    """Runs a command and returns the JSON that it prints last.

    program: what was built or installed for it; skips the test if that is missing.
    """
    missing = [path for path in (program, needs) if path is not None and not path.exists()]
    if missing:
        pytest.skip(f"{missing[0]} is missing: see what scripts/test-clients.sh said of it")
    ended = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return json.loads(ended.stdout.strip().splitlines()[-1])
