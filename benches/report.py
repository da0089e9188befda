"""Writes the record as JSON and as Markdown tables."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from load import FREE, wrk_version
from results import ECHO, FLOOR, LARGE_MB, OTHER, SERVABLE, Check, Point, Results, Spread, checks, spread

ROOT = Path(__file__).resolve().parent.parent
WAYS = {
    "caller": "in the caller's thread",
    "pool": "on TensorFlow's pool",
    "rested": "in the caller's thread, 100 µs after the last",
    "together": "in callers' threads, one per core at once",
}
SERVERS = {SERVABLE: "Servable", FLOOR: "bare hyper", ECHO: "bare C++ gRPC", OTHER: "other server"}


def machine() -> dict[str, object]:
    """Describes the machine and the software used."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": name[1] if name else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 1e9, 1),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        "rust": _said("rustc", "--version").removeprefix("rustc ").partition(" ")[0],
        "tensorflow": _tensorflow(),
        "wrk": wrk_version().removeprefix("wrk "),
        "commit": _said("git", "rev-parse", "--short=12", "HEAD"),
        "changed": bool(_said("git", "status", "--porcelain", "--", "src", "python", "Cargo.lock")),
    }


def _others(results: Results) -> str:
    shares = [sample.others for point in results.points for all in point.samples.values() for sample in all]
    if not shares:
        return ""
    share = spread(shares)
    low, high = share.low, share.high
    return f" Other processes took {share.median:.0%} of the machine meanwhile ({low:.0%} to {high:.0%})."


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _tensorflow() -> str:
    for package in ("tensorflow-cpu", "tensorflow"):
        try:
            return f"{metadata.version(package)} ({package})"
        except metadata.PackageNotFoundError:
            continue
    return "unknown"


def as_json(results: Results, head: dict[str, object]) -> str:
    """Returns every sample of every round, with the verdicts."""
    verdicts = [dataclasses.asdict(check) | {"met": check.met} for check in checks(results)]
    return (
        json.dumps(head | {"targets": verdicts} | dataclasses.asdict(results), indent=1, ensure_ascii=False)
        + "\n"
    )


def as_markdown(results: Results, head: dict[str, object]) -> str:
    """Returns the tables, under one line on how they were made."""
    parts = [
        heading(head) + _others(results),
        _targets(checks(results)),
        _loads(results),
        _bare(results),
        _process(results),
        _ripple(results),
        _returned(results),
    ]
    parts.append(_micro(results))
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(head: dict[str, object]) -> str:
    """Returns the line on how the tables were made: command, date, machine, settings."""
    made = head["machine"]
    assert isinstance(made, dict)
    changed = ", with changes" if made["changed"] else ""
    return (
        f"`{head['command']}`, {head['date']}, commit {made['commit']}{changed}: {made['cores']} cores of "
        f"{made['cpu']}, {made['memory_gb']} GB, {made['system']}, Python {made['python']}, "
        f"Rust {made['rust']}, TensorFlow {made['tensorflow']}, wrk {made['wrk']}. {head['settings']}"
    )


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats a Markdown table; empty if there are no rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if not lines:
        return ""
    rule = "| " + " | ".join(["---"] * len(titles)) + " |"
    return "\n".join(["| " + " | ".join(titles) + " |", rule, *lines])


def digits(value: float) -> str:
    """Formats three significant digits, with thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.{2 if abs(value) < 10 else 1}f}"


def shown(value: Spread | None, scale: float = 1.0) -> str:
    """Formats ``median (lowest to highest)``."""
    if value is None:
        return "-"
    median, low, high = (digits(figure * scale) for figure in (value.median, value.low, value.high))
    return median if low == high else f"{median} ({low} to {high})"


def _targets(found: Sequence[Check]) -> str:
    rows = (
        (
            check.what,
            f"{'≥' if check.at_least else '≤'} {digits(check.limit)} {check.unit}",
            f"{shown(check.measured)} {check.unit}",
            "yes" if check.met else "**no**",
        )
        for check in found
    )
    return table(("target", "limit", "measured", "met"), rows)


def _loads(results: Results) -> str:
    titles = ("request", "body in / out", "connections", "server", "requests/s")
    return table(
        (*titles, "p50 µs", "p99 µs", "CPU µs/request", "errors"),
        (row for point in results.points for row in _load_rows(point)),
    )


def _load_rows(point: Point) -> Iterable[Sequence[str]]:
    connections = str(point.connections) + ("" if point.layout == FREE else f", {point.layout}")
    first = (point.title, f"{point.body_bytes:,} / {point.reply_bytes:,}", connections)
    for server, samples in point.samples.items():
        yield (
            *(first if server == SERVABLE else ("", "", "")),
            SERVERS[server],
            shown(point.of(server, lambda sample: sample.per_second)),
            shown(point.of(server, lambda sample: sample.p50_us)),
            shown(point.of(server, lambda sample: sample.p99_us)),
            shown(point.of(server, lambda sample: sample.cpu_us)),
            str(sum(sample.errors for sample in samples)),
        )


def _bare(results: Results) -> str:
    titles = {point.request: point.title for point in results.points}
    return table(
        ("bare `TF_SessionRun`", "operations run", "µs/run", "p50 µs", "CPU µs/run"),
        (
            (
                titles.get(request, request),
                WAYS[way],
                shown(spread(run.wall_us for run in runs)),
                shown(spread(run.p50_us for run in runs)),
                shown(spread(run.cpu_us for run in runs)),
            )
            for request, ways in results.bare.items()
            for way, runs in ways.items()
        ),
    )


def _process(results: Results) -> str:
    rows = []
    if results.starts:
        rows.append(("start to first answer, s", shown(spread(start.seconds for start in results.starts))))
        resident = spread(start.resident for start in results.starts)
        rows.append(("resident at the first answer, MB", shown(resident, 1e-6)))
    if results.memory:
        first = results.memory[0]
        large = f"{first.large_requests} requests of {first.large_bytes / 1e6:.2f} MB"
        after = spread(memory.after_large for memory in results.memory)
        most = spread(memory.most for memory in results.memory)
        rows.append((f"resident after {large} and a quiet second, MB", shown(after, 1e-6)))
        rows.append((f"most that was resident during {large}, MB", shown(most, 1e-6)))
    return table(("the process, serving `half_plus_two`", ""), rows)


def _ripple(results: Results) -> str:
    titles = (f"beside a model of {LARGE_MB['ripple']} MB that", "requests/s", "p50 µs", "p99 µs", "loads")
    loads = sum(one.loads for one in results.ripple)
    rows = []
    for name, which, count in (("is not there", "quiet", 0), ("comes and goes", "busy", loads)):
        samples = [getattr(one, which) for one in results.ripple]
        if samples:
            figures = ("per_second", "p50_us", "p99_us")
            spreads = (shown(spread(getattr(sample, figure) for sample in samples)) for figure in figures)
            rows.append((name, *spreads, str(count)))
    return table(titles, rows)


def _returned(results: Results) -> str:
    resident = results.returned
    titles = (f"a model of {LARGE_MB['returned']} MB loaded and unloaded, times", "resident MB")
    shown_cycles = sorted({1, 2, 5, 10, len(resident)} & set(range(1, len(resident) + 1)))
    return table(titles, ((str(cycle), digits(resident[cycle - 1] / 1e6)) for cycle in shown_cycles))


def _micro(results: Results) -> str:
    tables = []
    for bench in dict.fromkeys(case.bench for case in results.micro):
        cases = [case for case in results.micro if case.bench == bench]
        rows = ((case.name, *map(digits, case.figures.values())) for case in cases)
        tables.append(table((f"`cargo bench --bench {bench}`", *cases[0].figures), rows))
    return "\n\n".join(tables)


def replace_between_markers(document: Path, text: str, script: str = "benches/run.py") -> None:
    """Replaces the tables of the script's last run in the document by ``text``."""
    begin_line, end_line = f"<!-- {script}: begin -->", f"<!-- {script}: end -->"
    whole = document.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(begin_line)
    _old, end, after = rest.partition(end_line)
    if not begin or not end:
        sys.exit(f"{document} lacks the lines {begin_line} and {end_line}")
    document.write_text(f"{before}{begin_line}\n\n{text}\n{end_line}{after}", encoding="utf-8")
