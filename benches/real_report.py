"""Writes what ``real.py`` has found as JSON and as Markdown tables."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence

from load import Sample
from real_results import Aim, RealResults, Resident, Served, aims, best, figures, quickest, rested
from report import SERVERS, WAYS, digits, heading, shown, table
from results import Spread, spread


def as_json(results: RealResults, head: dict[str, object]) -> str:
    """Returns every sample of every round, with the aims' figures."""
    reached = [
        {"model": served.model, "protocol": served.protocol}
        | dataclasses.asdict(aim)
        | {"measured": found[aim.figure].median, "met": aim.met(found[aim.figure])}
        for served, found in _figures(results)
        for aim in aims(sorted(served.samples))
        if aim.figure in found
    ]
    record = head | {"aims": reached} | dataclasses.asdict(results)
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def as_markdown(results: RealResults, head: dict[str, object]) -> str:
    """Returns the tables, under one line on how they were made."""
    parts = [
        heading(head),
        _aims(results),
        _loads(results.served),
        _bare(results),
        _memory(results.served),
        _first(results.served),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(results: RealResults) -> list[tuple[Served, dict[str, Spread]]]:
    return [(served, figures(served, results.bare.get(served.model, []))) for served in results.served]


def _aims(results: RealResults) -> str:
    """A row for each model and protocol; what misses its aim is bold."""
    measured = _figures(results)
    clients = {count for served, _found in measured for count in served.samples}
    wanted = [aim for aim in aims(sorted(clients)) if any(aim.figure in found for _served, found in measured)]
    limits = [f"{aim.title}: {'≥' if aim.at_least else '≤'} {digits(aim.limit)}" for aim in wanted]
    return table(
        ("model", "over", *limits),
        (
            (served.title, served.protocol, *(_cell(aim, found.get(aim.figure)) for aim in wanted))
            for served, found in measured
        ),
    )


def _cell(aim: Aim, measured: Spread | None) -> str:
    if measured is None:
        return "-"
    return shown(measured) if aim.met(measured) else f"**{shown(measured)}**"


def _loads(measured: Iterable[Served]) -> str:
    titles = ("model", "over", "clients", "server", "requests/s", "p50 ms", "p99 ms")
    return table(
        (*titles, "CPU ms/request", "faults/request", "errors"),
        (row for served in measured for row in _load_rows(served)),
    )


def _load_rows(served: Served) -> Iterable[Sequence[str]]:
    for clients, servers in sorted(served.samples.items()):
        for server, samples in servers.items():
            yield (
                served.title,
                served.protocol,
                str(clients),
                SERVERS[server],
                shown(spread(sample.per_second for sample in samples)),
                shown(spread(sample.p50_us for sample in samples), 1e-3),
                shown(spread(sample.p99_us for sample in samples), 1e-3),
                _known([sample.cpu_us for sample in samples], 1e-3),
                _known([sample.faults for sample in samples]),
                str(sum(sample.errors for sample in samples)),
            )


def _known(values: Sequence[float | None], scale: float = 1.0) -> str:
    known = [value for value in values if value is not None]
    return shown(spread(known), scale) if known else "-"


def _bare(results: RealResults) -> str:
    """Runs a second by way and number of threads, the best in bold, and the quickest single run."""
    titles = {served.model: served.title for served in results.served}
    counts = sorted({run.threads for rounds in results.bare.values() for runs in rounds for run in runs})
    rows = []
    for model, rounds in results.bare.items():
        chosen = {(run.way, run.threads) for run in best(rounds)}
        single = {
            runs[0].way: shown(spread(run.p50_us for run in runs), 1e-3)
            for runs in (quickest(rounds), rested(rounds))
            if runs
        }
        for way in dict.fromkeys(run.way for runs in rounds for run in runs):
            cells = []
            for count in counts:
                rates = [
                    run.per_second
                    for runs in rounds
                    for run in runs
                    if (run.way, run.threads) == (way, count)
                ]
                cell = shown(spread(rates)) if rates else "-"
                cells.append(f"**{cell}**" if (way, count) in chosen else cell)
            rows.append((titles.get(model, model), WAYS[way], *cells, single.get(way, "")))
    heads = (f"{count} at once" for count in counts)
    return table(("bare `TF_SessionRun`, runs/s", "operations run", *heads, "p50 of one, ms"), rows)


def _memory(measured: Iterable[Served]) -> str:
    titles = ("resident, MB", "over", "server", "before the load", "most in it", "after it")
    return table(
        titles,
        (
            (served.title, served.protocol, SERVERS[server], *_residents(rounds))
            for served in measured
            for server, rounds in served.resident.items()
        ),
    )


def _residents(rounds: Sequence[Resident]) -> Iterable[str]:
    for moment in ("before", "most", "after"):
        yield shown(spread(getattr(one, moment) for one in rounds), 1e-6)


def _first(measured: Iterable[Served]) -> str:
    return table(
        ("requests after the start, ms", "over", "server", "1st", "2nd", "3rd", "10th"),
        (
            (
                served.title,
                served.protocol,
                SERVERS[server],
                *(shown(spread(took[index] for took in rounds)) for index in (0, 1, 2, -1)),
            )
            for served in measured
            for server, rounds in served.first_ms.items()
        ),
    )


def errors(results: RealResults) -> int:
    """Returns how many requests failed, of Servable's and of the other server's."""
    samples: Iterable[Sample] = (
        sample
        for served in results.served
        for servers in served.samples.values()
        for found in servers.values()
        for sample in found
    )
    return sum(sample.errors for sample in samples)
