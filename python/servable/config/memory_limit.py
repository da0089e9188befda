"""The default limit on the memory of requests: a share of the machine's or the container's.

A container's limit is that of its control group (cgroup v2 ``memory.max``, v1 ``memory.limit_in_bytes``);
each parent group may have a smaller one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from servable.cgroups import folders

SHARE = 4
"""Divisor for the default: models need the rest."""
LEAST = 64 << 20
"""Smallest default, in bytes."""
UNKNOWN = 4 << 30
"""Assumed memory, in bytes, if the system does not report it."""


def share(root: Path = Path("/")) -> int:
    """Returns the bytes for all requests together. root: the folder of ``proc`` and ``sys``."""
    return max(LEAST, limit(root) // SHARE)


def limit(root: Path = Path("/")) -> int:
    """Returns the bytes this process may use: the smallest of the machine's memory and its groups' limits."""
    limits = [_machine(root), *_groups(root)]
    return min((one for one in limits if one), default=UNKNOWN)


def _machine(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return _pages()
    sizes = [line.split()[1] for line in lines if line.startswith("MemTotal:")]
    return int(sizes[0]) * 1024 if sizes and sizes[0].isdecimal() else _pages()


def _pages() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def _groups(root: Path) -> Iterator[int]:
    """Yields the limits of the process's group and its parents; 0 for those without one."""
    for version, folder in folders(root, "memory"):
        yield _number(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))


def _number(file: Path) -> int:
    """Reads a limit; 0 for no limit (``max``, or v1's huge one) and for an unreadable file."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return 0
    return int(text) if text.isdecimal() and int(text) < 1 << 60 else 0
