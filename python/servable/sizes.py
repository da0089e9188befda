"""Sizes as people read them."""

from __future__ import annotations


def size_text(count: float) -> str:
    """Bytes for people: ``17.3 MB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
