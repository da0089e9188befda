"""What ``servable bench`` shows and writes: progress, tables, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from servable.bench.sample import QUANTILES, SATURATED, Sample, Seen
from servable.bench.statistics import FEWEST_ROUNDS, Ratio
from servable.cli.printable import printable
from servable.cli.table import table
from servable.errors import ServableError
from servable.sizes import size_text

if TYPE_CHECKING:
    from servable._core import BenchTimes

STDOUT = "-"
LATE_SHARE = 0.1
"""A load generator that is later than this share of the median latency is worth a word."""


def digits(number: float) -> str:
    """Returns a number with three digits, or with all before its point."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


class Progress:
    """One line of a terminal that tells how a load goes; nothing where nobody looks."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        is_terminal = self._stream is not None and self._stream.isatty()
        self._shown = is_terminal and os.environ.get("TERM") != "dumb"

    def of(self, load: str, duration: float) -> Callable[[float, int, int, BenchTimes], None]:
        """Returns what shows one load."""

        def show(at: float, good: int, failed: int, times: BenchTimes) -> None:
            if self._shown and good + failed:
                p50, p99 = (digits(times.quantile(share) / 1e6) for share in (0.5, 0.99))
                self._write(
                    f"{load}: {min(at, duration):.0f} of {duration:g} s, {digits(good / max(at, 0.1))}/s, "
                    f"p50 {p50} ms, p99 {p99} ms, {failed} failed"
                )

        return show

    def tell(self, text: str) -> None:
        """Shows what is going on besides."""
        if self._shown:
            self._write(text)

    def clear(self) -> None:
        """Empties the line."""
        if self._shown:
            self._write("")

    def _write(self, text: str) -> None:
        # A line that is wrapped could not be cleared any more.
        width = max(shutil.get_terminal_size().columns - 1, 1)
        text = text if len(text) <= width else text[: width - 1] + "…"
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()


HEADS = (
    *("load", "answers/s", *(f"{name} ms" for name in QUANTILES), "max ms", "failed"),
    *("server µs", "cores", "resident", "faults", "generator µs", "late p99 ms"),
)


def row(sample: Sample) -> list[str]:
    """Returns a load as a row of the table; processors' times and minor faults are those of a request."""
    times, server = sample.all.times, sample.server
    return [
        sample.load,
        digits(sample.per_second),
        *(digits(times.quantile(name)) for name in QUANTILES),
        digits(times.max),
        str(sample.all.failed),
        digits(sample.each(server.cpu) * 1e6) if server else "",
        digits(server.cores) if server else "",
        size_text(server.resident) if server else "",
        digits(sample.each(server.minor_faults)) if server else "",
        digits(sample.each(sample.generator_cpu) * 1e6),
        digits(sample.lag.quantile("p99")) if sample.lag else "",
    ]


def samples_text(samples: Sequence[Sample]) -> str:
    """Returns the table of all loads, those of models if there are several, and remarks."""
    parts = [table(HEADS, [row(sample) for sample in samples])]
    if any(len(sample.models) > 1 for sample in samples):
        heads = ("load", "model", "answers/s", *(f"{name} ms" for name in QUANTILES), "max ms", "failed")
        rows = [_model_row(sample, seen) for sample in samples for seen in sample.models]
        parts.append(table(heads, rows))
    remarks = [remark for sample in samples for remark in remarks_on(sample)]
    return "\n".join([*parts, *(["\n".join(remarks) + "\n"] if remarks else [])])


def _model_row(sample: Sample, seen: Seen) -> list[str]:
    rate = seen.times.count / sample.seconds if sample.seconds else 0.0
    quantiles = (digits(seen.times.quantile(name)) for name in QUANTILES)
    return [sample.load, seen.name, digits(rate), *quantiles, digits(seen.times.max), str(seen.failed)]


def remarks_on(sample: Sample) -> list[str]:
    """Returns what has to be known beside the numbers: failures by kind, and limits of the generator."""
    remarks = []
    for one in sorted(sample.all.failures, key=lambda one: -one.count):
        said = f", the first: {printable(one.text)}" if one.text else ""
        remarks.append(f"{sample.load}: {one.count} times {one.shown}{said}")
    if sample.interrupted:
        remarks.append(f"{sample.load}: interrupted after {sample.seconds:.1f} s")
    if sample.busiest > SATURATED:
        remarks.append(
            f"{sample.load}: a thread of the load generator used {sample.busiest:.0%} of its core: it may be "
            "the limit, and not the server. Give it more by --threads"
        )
    late = sample.lag.quantile("p99") if sample.lag else 0.0
    if late > LATE_SHARE * sample.all.times.quantile("p50") and sample.all.times.count:
        remarks.append(
            f"{sample.load}: requests were sent up to {digits(late)} ms late (p99): that counts as latency"
        )
    if sample.server and sample.server.major_faults:
        remarks.append(
            f"{sample.load}: the server read memory from its disk {sample.server.major_faults} times"
        )
    return remarks


def csv_text(samples: Iterable[tuple[str, Sample]]) -> str:
    """Returns a line for each load on each target."""
    names = ("target", "load", "rate", "concurrency", "seconds", "requests", "failed", "answers_per_second")
    more = (
        *("mean_ms", *(f"{name}_ms" for name in QUANTILES), "max_ms", "sent_bytes", "received_bytes"),
        *("connections", "server_cpu_us", "server_resident_bytes", "server_minor_faults"),
        *("server_major_faults", "generator_cpu_us", "generator_busiest", "late_p99_ms"),
    )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *more])
    for target, sample in samples:
        writer.writerow([target, *_csv_cells(sample)])
    return out.getvalue()


def _csv_cells(sample: Sample) -> list[object]:
    times, server = sample.all.times, sample.server
    return [
        *(sample.load, sample.rate, sample.concurrency, sample.seconds, sample.asked, sample.all.failed),
        *(sample.per_second, times.mean, *times.quantiles.values(), times.max),
        *(sample.all.sent, sample.all.received, sample.opened),
        sample.each(server.cpu) * 1e6 if server else None,
        *((server.resident, server.minor_faults, server.major_faults) if server else (None, None, None)),
        *(sample.each(sample.generator_cpu) * 1e6, sample.busiest),
        sample.lag.quantile("p99") if sample.lag else None,
    ]


def record(what: str, content: Mapping[str, Any]) -> str:
    """Returns a JSON file: what was done, on which machine, and ``content``."""
    import datetime

    import servable

    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    head = {
        "tool": f"servable bench {servable.__version__}",
        "what": what,
        "date": now,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    return json.dumps({**head, **content}, indent=1) + "\n"


def write_file(path: str, text: str) -> None:
    """Writes a file, or standard output. Raises ``ServableError``."""
    if path == STDOUT:
        sys.stdout.write(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ServableError(f"{path} cannot be written: {error.strerror}") from None


COMPARED: dict[str, Callable[[Sample], float]] = {
    "answers/s": lambda sample: sample.per_second,
    "p50 ms": lambda sample: sample.all.times.quantile("p50"),
    "p99 ms": lambda sample: sample.all.times.quantile("p99"),
    "server µs": lambda sample: sample.each(sample.server.cpu) * 1e6 if sample.server else 0.0,
}
"""What two servers are compared by."""


def _verdict(ratio: Ratio) -> str:
    if ratio.without:
        return f"no verdict: {ratio.without} of {ratio.rounds} rounds have no ratio"
    if ratio.rounds < FEWEST_ROUNDS:
        return f"no verdict below {FEWEST_ROUNDS} rounds"
    return "differs" if ratio.differs else "no difference seen"


def comparison_text(rows: Mapping[str, tuple[float, float, Ratio | None]], rounds: int) -> str:
    """Returns the table of a comparison: medians of both, and B over A."""
    cells = []
    for name, (first, second, ratio) in rows.items():
        if ratio is None:
            continue
        unknown = ratio.low is None or ratio.high is None
        interval = "" if unknown else f"{ratio.low:.3f} to {ratio.high:.3f}"
        mean = "" if ratio.mean is None else f"{ratio.mean:.3f}"
        cells.append([name, digits(first), digits(second), mean, interval, _verdict(ratio)])
    heads = ("", "A", "B", "B over A", "95 % interval", "")
    return table(heads, cells) + f"{rounds} rounds by turns; A and B: medians\n"
