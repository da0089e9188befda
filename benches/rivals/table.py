"""The figures as Markdown tables, and their places in the documents."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from commands import ROOT
from figures import CLIENTS, Figures, Run
from load import Sample
from process import BenchError
from report import digits, table

BEGIN, END = "<!-- benches/rivals: begin -->", "<!-- benches/rivals: end -->"
DOCUMENT = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
SHORT_CLIENTS = 16
REASON = 160


def full(figures: Figures) -> str:
    """Returns the line on how it was measured, and a row for each model and server."""
    clients = " / ".join(map(str, CLIENTS))
    titles = (
        "request",
        "server",
        f"requests/s, {clients} clients",
        "p50 ms",
        "p99 ms",
        "CPU ms/request",
        "MB",
        "start s",
        "wrong, failed",
    )
    rows = [
        _full_row(figures, question, server, first=number == 0)
        for question in figures.questions
        for number, server in enumerate(figures.servers)
    ]
    return "\n\n".join(part for part in (_heading(figures), table(titles, rows), _missing(figures)) if part)


def _full_row(figures: Figures, question: str, server: str, first: bool) -> Sequence[str]:
    title = figures.questions[question] if first else ""
    if not figures.of(server, question):
        return (title, figures.servers[server], *["-"] * 6, "not measured")

    def load(figure: Callable[[Sample], float | None]) -> str:
        spreads = (figures.load(server, question, clients, figure) for clients in CLIENTS)
        return " / ".join("-" if found is None else digits(found.median) for found in spreads)

    return (
        title,
        figures.servers[server],
        load(lambda sample: sample.per_second),
        load(lambda sample: sample.p50_us / 1e3),
        load(lambda sample: sample.p99_us / 1e3),
        load(lambda sample: None if sample.cpu_us is None else sample.cpu_us / 1e3),
        _process(figures, question, server, lambda run: run.resident / 1e6),
        _process(figures, question, server, lambda run: run.seconds),
        _bad(figures, question, server),
    )


def _process(figures: Figures, question: str, server: str, figure: Callable[[Run], float]) -> str:
    found = figures.spread(server, question, figure)
    return "-" if found is None else digits(found.median)


def _bad(figures: Figures, question: str, server: str) -> str:
    return ", ".join(f"**{count:,}**" if count else "0" for count in figures.bad(server, question))


def short(figures: Figures) -> str:
    """Returns a row for each server: requests/s and p99 at 16 clients for each model, memory and start."""
    answers = [f"{name}: requests/s, p99 ms" for name in figures.questions]
    last = list(figures.questions)[-1]
    titles = ("server", *answers, f"MB ({last})", f"start s ({last})")
    return table(titles, (_short_row(figures, server, last) for server in figures.servers))


def _short_row(figures: Figures, server: str, last: str) -> Sequence[str]:
    cells = [_short_cell(figures, server, question) for question in figures.questions]
    resident = _process(figures, last, server, lambda run: run.resident / 1e6)
    return (
        figures.servers[server],
        *cells,
        resident,
        _process(figures, last, server, lambda run: run.seconds),
    )


def _short_cell(figures: Figures, server: str, question: str) -> str:
    rate = figures.load(server, question, SHORT_CLIENTS, lambda sample: sample.per_second)
    p99 = figures.load(server, question, SHORT_CLIENTS, lambda sample: sample.p99_us / 1e3)
    if rate is None or p99 is None:
        return "not measured"
    bad = sum(figures.bad(server, question))
    return f"{digits(rate.median)}, {digits(p99.median)}" + (f" (**{bad:,} wrong or failed**)" if bad else "")


def _heading(figures: Figures) -> str:
    made = figures.head["machine"]
    changed = ", with changes" if made["changed"] else ""
    versions = ", ".join(
        dict.fromkeys(
            f"{figures.servers[server].partition(',')[0]} {version}"
            for server, version in figures.versions.items()
            if version
        )
    )
    return (
        f"`{figures.head['command']}`, {figures.head['date']}, commit {made['commit']}{changed}: "
        f"{made['cores']} cores of {made['cpu']}, {made['memory_gb']} GB, {made['system']}, "
        f"Python {made['python']}, TensorFlow {made['tensorflow']}, wrk {made['wrk']}; "
        f"{versions}. {figures.head['settings']}{_others(figures)}"
    )


def _others(figures: Figures) -> str:
    shares = [sample.others for run in figures.runs for sample in run.samples.values()]
    if not shares:
        return ""
    return f" Other processes took {min(shares):.0%} to {max(shares):.0%} of the machine meanwhile."


def _missing(figures: Figures) -> str:
    return "\n".join(_reasons(figures))


def _reasons(figures: Figures) -> Iterable[str]:
    for failure in figures.failures:
        lines = failure.reason.strip().splitlines() or [""]
        last = lines[-1] if len(lines[-1]) <= REASON else lines[-1][:REASON] + "…"
        where = f", {failure.question}" if failure.question else ""
        yield f"- Not measured: {figures.servers[failure.server]}{where}: `{last.replace('`', '')}`"


def put(figures: Figures, chart: Path) -> None:
    """Writes the tables and the chart's place into the documents."""
    _between_markers(DOCUMENT, f"{_picture(DOCUMENT, chart)}\n\n{full(figures)}")
    _between_markers(README, f"{_picture(README, chart)}\n\n{short(figures)}\n\n{SHORT_CLIENTS} clients.")


def _picture(document: Path, chart: Path) -> str:
    place = os.path.relpath(chart, document.parent)
    return f"![Requests per second and p99 of every server at {SHORT_CLIENTS} clients]({place})"


def _between_markers(document: Path, text: str) -> None:
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"{document} lacks the lines {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
