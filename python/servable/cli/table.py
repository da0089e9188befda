"""Plain tables for terminals and pipes: columns padded by spaces, nothing else."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats heads and rows as lines; a column that is empty in every row is left out."""
    used = [index for index in range(len(heads)) if any(row[index] for row in rows)] or [0]
    lines = [[row[index] for index in used] for row in [heads, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(used))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "".join(f"{line.rstrip()}\n" for line in padded)
