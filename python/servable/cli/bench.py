"""``servable bench URL``: load on a running server, and what became of it.

Exit statuses: 0 every request was answered well; 1 nothing could be measured, or no rate meets the aim; 2 an
invalid command line; 3 some requests failed; 130 interrupted by Ctrl-C, after what was measured is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TextIO

from servable.bench.charts import check_chart, draw_latencies, draw_throughput
from servable.bench.payloads import group_for
from servable.bench.plan import Group
from servable.bench.process import checked, listening_on
from servable.bench.running import GoneError, run
from servable.bench.sample import Sample, load_name
from servable.bench.search import RateSearch, meets
from servable.bench.statistics import Ratio, ratio
from servable.cli import bench_arguments as arguments, bench_output as output
from servable.cli.bench_arguments import compare_parser, load_parser
from servable.cli.printable import printable
from servable.errors import ServableError, UsageError

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_FAILURES = 3
EXIT_INTERRUPTED = 130
SEARCH_CALLERS = 16
"""Callers of the closed loop whose throughput says where a search for a rate begins."""
SEARCH_SECONDS = 3.0


def bench(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    compares = bool(argv) and argv[0] == "compare"
    parser = compare_parser() if compares else load_parser()
    try:
        options = parser.parse_intermixed_args([arguments.dashed(one) for one in argv[compares:]])
    except SystemExit as end:
        # argparse has printed the help (0) or the error (2).
        return int(end.code or 0)
    progress = output.Progress()
    try:
        _check_files(options)
        if compares:
            return _compare(options, progress)
        return _find_rate(options, progress) if options.find_rate else _loads(options, progress)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except UsageError as error:
        progress.clear()
        print(f"servable bench: {error}\nsee {parser.prog} --help", file=sys.stderr)
        return EXIT_USAGE
    except ServableError as error:
        progress.clear()
        print(printable(f"servable bench: {error}"), file=sys.stderr)
        return EXIT_ERROR


def _check_files(options: argparse.Namespace) -> None:
    """Finds out before a load what cannot be written after it."""
    charts = (*options.latency_chart, *options.throughput_chart)
    for path in (*charts, options.json, options.csv):
        if path and path != output.STDOUT and (why := _unwritable(path)):
            raise ServableError(f"{path} cannot be written: {why}")
    for path in charts:
        check_chart(path)


def _unwritable(path: str) -> str:
    """Returns why a file cannot be written; "" if it can."""
    if os.path.isdir(path):
        return "it is a folder"
    if os.path.exists(path):
        # Such as a pipe below /dev/fd, which need not be in a folder that may be written.
        return "" if os.access(path, os.W_OK) else "it is not writable"
    folder = os.path.dirname(path) or "."
    return "" if os.access(folder, os.W_OK) else "its folder is not there, or not writable"


class _Bench:
    """A server with its requests and its processes: what all loads on it have in common."""

    def __init__(self, urls: Sequence[str], options: argparse.Namespace, progress: output.Progress) -> None:
        wishes = arguments.wishes(options)
        self.server, models = arguments.server_and_models(urls, options)
        self.options = options
        self.title = f"{', '.join(model.shown for model in models)} at {self.server.target.shown}"
        self._progress = progress
        target = self.server.target
        self.pids = (
            (checked(options.pid),) if options.pid is not None else listening_on(target.host, target.port)
        )
        progress.tell(f"asking {target.shown}")
        self.groups: list[Group] = [group_for(self.server, model, wishes) for model in models]

    def load(self, concurrency: int, rate: float | None = None, longest: float | None = None) -> Sample:
        """Puts one load on the server, and shows how it goes. longest: seconds it may take at most.

        Raises ``ServableError``.
        """
        plan = arguments.plan(self.options, self.server, self.groups, concurrency, rate)
        plan = replace(plan, duration=min(plan.duration, longest or plan.duration))
        try:
            return run(plan, self.pids, self._progress.of(load_name(plan), plan.duration))
        finally:
            self._progress.clear()


def _loads(options: argparse.Namespace, progress: output.Progress) -> int:
    """Puts one load after the other on the server."""
    if any(getattr(options, aim) for aim in arguments.AIMS):
        raise UsageError("an aim such as --p99 is for --find-rate")
    bench = _Bench(options.urls, options, progress)
    steps: list[tuple[int, float | None]] = (
        [(1, rate) for rate in options.rate]
        if options.rate
        else [(int(one), None) for one in options.concurrency]
    )
    samples: list[Sample] = []
    gone: GoneError | None = None
    for concurrency, rate in steps:
        try:
            samples.append(bench.load(concurrency, rate))
        except GoneError as error:
            gone = error
            samples.append(error.sample)
        if gone or samples[-1].interrupted:
            break
    _tell(options, bench, samples)
    if gone:
        raise gone
    return _status(samples)


def _status(samples: Sequence[Sample]) -> int:
    if any(sample.interrupted for sample in samples):
        return EXIT_INTERRUPTED
    return EXIT_FAILURES if any(sample.all.failed for sample in samples) else 0


def _people(options: argparse.Namespace) -> TextIO:
    """Returns where tables go: not where ``--json -`` writes."""
    return sys.stderr if options.json == output.STDOUT else sys.stdout


def _tell(options: argparse.Namespace, bench: _Bench, samples: Sequence[Sample]) -> None:
    """Prints and writes what became of loads on one server."""
    print(f"{bench.title}\n\n{output.samples_text(samples)}", end="", flush=True, file=_people(options))
    target = bench.server.target.shown
    if options.json:
        content = {"target": target, "samples": [sample.record() for sample in samples]}
        output.write_file(options.json, output.record("load", content))
    if options.csv:
        output.write_file(options.csv, output.csv_text((target, sample) for sample in samples))
    for path in options.latency_chart:
        draw_latencies(samples, bench.title, path)
    for path in options.throughput_chart:
        draw_throughput(samples, bench.title, path)


def _find_rate(options: argparse.Namespace, progress: output.Progress) -> int:
    """Searches for the highest rate within the aim."""
    aims = [(aim, getattr(options, aim)) for aim in arguments.AIMS if getattr(options, aim)]
    if len(aims) != 1:
        raise UsageError("--find-rate needs one aim: --p50, --p90, --p99 or --p99.9, such as --p99 50ms")
    quantile, aim = aims[0]
    bench = _Bench(options.urls, options, progress)
    if options.rate:
        start = options.rate[0]
    else:
        sample = bench.load(SEARCH_CALLERS, None, SEARCH_SECONDS)
        if sample.interrupted:
            _tell(options, bench, [sample])
            return EXIT_INTERRUPTED
        start = sample.per_second / 2
    if not start:
        raise ServableError(f"{bench.title}: no request was answered")
    search = RateSearch(start, options.precision)
    samples: list[Sample] = []
    while search.rate is not None:
        sample = _tried(lambda: bench.load(1, search.rate))
        samples.append(sample)
        if sample.interrupted:
            break
        search.tell(meets(sample, quantile, aim))
    _tell(options, bench, samples)
    if samples[-1].interrupted:
        return EXIT_INTERRUPTED
    said = f"{quantile} of {output.digits(aim)} ms"
    if search.found is None:
        raise ServableError(
            f"no rate down to {output.digits(samples[-1].rate or 0)}/s is answered within {said}"
        )
    print(f"\nhighest rate within {said}: {output.digits(search.found)}/s", file=_people(options))
    return 0


def _tried(load: Callable[[], Sample]) -> Sample:
    """Returns what became of a load, even of one that nothing answered, unless the server is not there."""
    try:
        return load()
    except GoneError as error:
        if any(one.kind == "connect" for one in error.sample.all.failures):
            raise
        return error.sample


def _compare(options: argparse.Namespace, progress: output.Progress) -> int:
    """Measures two servers by turns: A B, B A, A B …"""
    if len(options.concurrency) > 1 or len(options.rate or [1]) > 1:
        raise UsageError("compare takes one --concurrency or one --rate")
    if options.pid is not None:
        raise UsageError(
            "--pid is one process, and compare asks two servers: theirs are found by their ports"
        )
    benches = [_Bench([url], options, progress) for url in options.urls]
    rate = options.rate[0] if options.rate else None
    found: tuple[list[Sample], list[Sample]] = ([], [])
    gone: GoneError | None = None
    for number in range(options.rounds):
        progress.tell(f"round {number + 1} of {options.rounds}")
        order = (0, 1) if number % 2 == 0 else (1, 0)
        samples, gone = _round([benches[which] for which in order], int(options.concurrency[0]), rate)
        named = [replace(sample, load="AB"[which]) for which, sample in zip(order, samples, strict=False)]
        if gone or len(samples) < len(order):
            break
        for which, sample in zip(order, samples, strict=True):
            found[which].append(sample)
    progress.clear()
    if found[0]:
        _tell_comparison(options, benches, found)
    if gone:
        heads = "" if found[0] else f"A: {benches[0].title}\nB: {benches[1].title}\n"
        print(
            f"{heads}\nround {len(found[0]) + 1}, unfinished:\n{output.samples_text(named)}",
            end="",
            file=_people(options),
        )
        raise gone
    if len(found[0]) < options.rounds:
        print(f"interrupted after {len(found[0])} of {options.rounds} rounds", file=sys.stderr)
        return EXIT_INTERRUPTED
    return _status([*found[0], *found[1]])


def _round(
    benches: Sequence[_Bench], concurrency: int, rate: float | None
) -> tuple[list[Sample], GoneError | None]:
    """Measures each server once; also returns who is gone. If that was interrupted, samples are missing."""
    samples: list[Sample] = []
    for bench in benches:
        try:
            sample = bench.load(concurrency, rate)
        except GoneError as error:
            return [*samples, error.sample], GoneError(f"{bench.title}: {error}", error.sample)
        except KeyboardInterrupt:
            break
        if sample.interrupted:
            break
        samples.append(sample)
    return samples, None


def _tell_comparison(
    options: argparse.Namespace, benches: Sequence[_Bench], found: tuple[list[Sample], list[Sample]]
) -> None:
    """Prints and writes what became of the rounds on two servers."""
    rows = {}
    for name, value in output.COMPARED.items():
        both = [[value(sample) for sample in samples] for samples in found]
        medians = [statistics.median(one) for one in both]
        rows[name] = (medians[0], medians[1], ratio(both[0], both[1]))
    shown = _people(options)
    print(f"A: {benches[0].title}\nB: {benches[1].title}\n", file=shown)
    print(output.comparison_text(rows, len(found[0])), end="", file=shown)
    for letter, samples in zip("AB", found, strict=True):
        for remark in dict.fromkeys(remark for sample in samples for remark in output.remarks_on(sample)):
            print(f"{letter}: {remark}", file=shown)
    _write_comparison(options, benches, found, {name: one[2] for name, one in rows.items()})


def _write_comparison(
    options: argparse.Namespace,
    benches: Sequence[_Bench],
    found: tuple[list[Sample], list[Sample]],
    ratios: dict[str, Ratio | None],
) -> None:
    targets = [one.server.target.shown for one in benches]
    if options.json:
        content = {
            "targets": targets,
            "ratios": {name: asdict(one) for name, one in ratios.items() if one},
            "samples": [[sample.record() for sample in samples] for samples in found],
        }
        output.write_file(options.json, output.record("comparison", content))
    if options.csv:
        lines = ((target, one) for target, samples in zip(targets, found, strict=True) for one in samples)
        output.write_file(options.csv, output.csv_text(lines))
    last = [replace(samples[-1], load=letter) for letter, samples in zip("AB", found, strict=True)]
    title = " and ".join(one.title for one in benches)
    for path in options.latency_chart:
        draw_latencies(last, title, path)
    for path in options.throughput_chart:
        draw_throughput(last, title, path)
