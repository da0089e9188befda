"""Plain tables for terminals and pipes: columns padded by spaces, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from servable.cli.printable import printable


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], paint: Callable[[int, str], str] | None = None
) -> str:
    """Formats heads and rows as lines; a column that is empty in every row is left out.

    paint: colours a padded cell of a row, given the number of its column.
    """
    used = [index for index in range(len(heads)) if any(row[index] for row in rows)] or [0]
    # A name with the end of a line in it is no line of its own.
    lines = [[printable(row[index]).replace("\n", "\\n") for index in used] for row in [heads, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(used))]
    texts = []
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        cells[-1] = cells[-1].rstrip()
        if number and paint is not None:
            cells = [paint(index, cell) for index, cell in zip(used, cells, strict=True)]
        texts.append("  ".join(cells).rstrip() + "\n")
    return "".join(texts)
