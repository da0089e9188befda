"""Plain tables for terminals and pipes: columns padded by spaces, nothing else."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Heads and rows as lines; a column that is empty in every row is left out."""
    used = [index for index in range(len(heads)) if any(row[index] for row in rows)] or [0]
    lines = [[row[index] for index in used] for row in [heads, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(used))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "".join(f"{line.rstrip()}\n" for line in padded)


def size_text(count: float) -> str:
    """Bytes for people: ``17.3 MB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
