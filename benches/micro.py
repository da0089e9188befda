"""Runs the micro benchmarks of the JSON decoder and encoder by cargo, and reads their tables."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from process import BenchError

ROOT = Path(__file__).resolve().parent.parent
BENCHES = ("decode", "encode")
COLUMNS = re.compile(r"\s{2,}")
LABELLED = re.compile(r"([\d.]+) (\S+)")


@dataclass(frozen=True)
class Case:
    """One line of a micro benchmark's table: figures by the table's column titles."""

    bench: str
    name: str
    figures: dict[str, float]


def run_all() -> list[Case]:
    """Returns every case of both, as printed by ``cargo bench --bench NAME``."""
    return [case for bench in BENCHES for case in _run(bench)]


def _run(bench: str) -> list[Case]:
    print(f"running the {bench} micro benchmark", flush=True)
    command = ["cargo", "bench", "--locked", "--bench", bench]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if ran.returncode != 0:
        raise BenchError(f"{' '.join(command)} ended with status {ran.returncode}")
    return read_table(bench, ran.stdout)


def read_table(bench: str, text: str) -> list[Case]:
    """Reads a table whose columns are at least two blanks apart.

    Either its first title is ``case``, or each figure is followed by its unit: ``name   12.5 µs   640 MB/s``.
    """
    titles: list[str] = []
    cases = []
    for line in text.splitlines():
        cells = COLUMNS.split(line.strip())
        if cells[0] == "case":
            titles = cells[1:]
        elif titles and len(cells) == len(titles) + 1:
            cases.append(Case(bench, cells[0], dict(zip(titles, map(float, cells[1:]), strict=True))))
        elif figures := LABELLED.findall("  ".join(cells[1:])):
            cases.append(Case(bench, cells[0], {unit: float(figure) for figure, unit in figures}))
    if not cases:
        raise BenchError(f"the {bench} micro benchmark printed no table")
    return cases
