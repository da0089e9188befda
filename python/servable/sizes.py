"""Human-readable sizes."""

from __future__ import annotations


def size_text(count: float) -> str:
    """Formats a number of bytes: ``17.3 MB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
