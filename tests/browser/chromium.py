"""Finds a Chromium for the tests: one of this machine, or of an npm package, unpacked into build/browser."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from conftest import ROOT

INSTALLED = ROOT / "build" / "browser"
UNPACKED = INSTALLED / "chromium"
AXE = INSTALLED / "node_modules" / "axe-core" / "axe.min.js"
HOW = "make test-console says how it can be had"


@dataclass(frozen=True)
class Chromium:
    """An executable, and what it needs around it."""

    path: str
    environment: dict[str, str] = field(default_factory=dict)


def find() -> Chromium | None:
    """Returns that of SERVABLE_CHROMIUM, the unpacked one, or one on the path."""
    if given := os.environ.get("SERVABLE_CHROMIUM"):
        return Chromium(given)
    if (UNPACKED / "chromium").is_file():
        libraries = [str(UNPACKED / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        return Chromium(
            str(UNPACKED / "chromium"),
            {
                "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
                "FONTCONFIG_FILE": str(UNPACKED / "fonts.conf"),
                "HOME": str(UNPACKED),
            },
        )
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Chromium(found)
    return None


def axe() -> str | None:
    """Returns the source of axe-core, None where it is not installed."""
    path = Path(os.environ.get("SERVABLE_AXE", AXE))
    return path.read_text(encoding="utf-8") if path.is_file() else None
