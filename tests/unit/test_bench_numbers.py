"""The numbers of ``servable bench``: the search for a rate, ratios of two servers, percentiles, tables."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from servable.bench.asking import Failure
from servable.bench.process import Spent
from servable.bench.running import Watch
from servable.bench.sample import QUANTILES, Sample, Seen, Times, merged, quantile_of
from servable.bench.search import RateSearch, meets
from servable.bench.statistics import ratio, student_t
from servable.cli import bench_output
from servable.cli.bench import _check_files
from servable.errors import ServableError

rates = st.floats(0.5, 1e6)


@settings(deadline=None)
@given(rates, rates)
def test_the_search_finds_the_limit(start: float, limit: float) -> None:
    search = RateSearch(start, 0.05)
    tries = 0
    while search.rate is not None:
        search.tell(search.rate <= limit)
        tries += 1
        assert tries < 100
    assert search.found is not None
    assert search.found <= limit < search.found * 1.05001


@settings(deadline=None)
@given(rates, st.randoms(use_true_random=False))
def test_the_search_ends_whatever_it_is_told(start: float, chance: random.Random) -> None:
    search = RateSearch(start)
    tried, met = [], []
    for _ in range(400):
        if search.rate is None or search.rate > 1e12:
            break
        answer = chance.random() < 0.4
        tried.append(search.rate)
        met += [search.rate] if answer else []
        search.tell(answer)
    assert len(tried) < 400
    assert search.found is None or search.found in met


def test_one_slow_moment_decides_nothing() -> None:
    search = RateSearch(100.0)
    for answer in (True, False, True):
        assert search.rate == 100.0
        search.tell(answer)
    assert (search.found, search.rate) == (100.0, 200.0)
    nothing = RateSearch(100.0)
    while nothing.rate is not None:
        nothing.tell(False)
    assert nothing.found is None
    with pytest.raises(ValueError, match="over"):
        nothing.tell(True)
    for wrong in ((0.0, 0.1), (1.0, 0.0)):
        with pytest.raises(ValueError, match="above 0"):
            RateSearch(*wrong)


def times(*of: float) -> Times:
    steps = [(one, of.count(one)) for one in sorted(set(of))]
    quantiles = {name: quantile_of(steps, share) for name, share in QUANTILES.items()}
    return Times(len(of), sum(of) / max(1, len(of)), max(of, default=0.0), quantiles, steps)


def seen(name: str, *of: float, failures: tuple[Failure, ...] = ()) -> Seen:
    return Seen(name, times(*of), failures, 10, 20)


def sample(all_of: Seen, *models: Seen, **changes: object) -> Sample:
    fields = {
        "load": "4 callers",
        "rate": None,
        "concurrency": 4,
        "seconds": 2.0,
        "lag": None,
        "opened": 4,
        "generator_cpu": 0.001,
        "busiest": 0.2,
    }
    return Sample(models=models or (all_of,), all=all_of, **{**fields, **changes})  # type: ignore[arg-type]


def test_a_rate_meets_the_aim_if_all_of_it_is_answered_in_time() -> None:
    quick = [1.0] * 2000
    assert meets(sample(seen("m", *quick)), "p99", 1.0)
    assert not meets(sample(seen("m", *quick)), "p99", 0.9)
    assert not meets(sample(seen("m")), "p99", 1.0)
    few, many, unsent = (Failure(*one, "") for one in (("timeout", 0, 1), ("code", 14, 9), ("unsent", 0, 1)))
    assert meets(sample(seen("m", *quick, failures=(few,))), "p99", 1.0)
    assert not meets(sample(seen("m", *quick, failures=(many,))), "p99", 1.0)
    assert not meets(sample(seen("m", *quick, failures=(unsent,))), "p99", 1.0)


durations = st.lists(st.integers(1, 1000).map(float), min_size=1, max_size=60)


@settings(deadline=None)
@given(durations, st.floats(0, 1))
def test_quantiles_are_those_of_the_sorted_times(of: list[float], share: float) -> None:
    rank = max(1, math.ceil(share * len(of)))
    assert quantile_of(times(*of).steps, share) == sorted(of)[rank - 1]


@settings(deadline=None)
@given(durations, durations)
def test_several_models_are_one_sum(one: list[float], other: list[float]) -> None:
    failure = Failure("status", 503, 2, "first")
    both = merged([seen("a", *one, failures=(failure,)), seen("b", *other, failures=(failure,))])
    together = times(*one, *other)
    assert both.times.quantiles == together.quantiles
    assert (both.times.count, both.times.max) == (together.count, together.max)
    assert both.times.mean == pytest.approx(together.mean)
    assert both.failures == (Failure("status", 503, 4, "first"),)
    assert (both.sent, both.received) == (20, 40)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0.5, 2.0), min_size=5, max_size=20), st.floats(0.1, 10))
def test_a_ratio_that_never_varies_is_certain(of: list[float], factor: float) -> None:
    found = ratio(of, [one * factor for one in of])
    assert found is not None
    assert found.mean == pytest.approx(factor)
    assert (found.low, found.high) == (pytest.approx(factor), pytest.approx(factor))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0)), min_size=5, max_size=12))
def test_the_interval_has_the_mean_in_it_and_turns_with_the_servers(of: list[tuple[float, float]]) -> None:
    first, second = [one for one, _ in of], [one for _, one in of]
    there, back = ratio(first, second), ratio(second, first)
    assert there is not None and there.low is not None and there.mean is not None and there.high is not None
    assert back is not None and back.mean is not None
    assert there.low <= there.mean * 1.000001 and there.mean <= there.high * 1.000001
    assert there.mean * back.mean == pytest.approx(1)


def test_chance_explains_what_goes_up_and_down() -> None:
    chance = random.Random(3)
    same = [chance.gauss(100, 5) for _ in range(10)], [chance.gauss(100, 5) for _ in range(10)]
    found = ratio(*same)
    assert found is not None and not found.differs
    faster = ratio(same[0], [one * 0.7 for one in same[1]])
    assert faster is not None and faster.differs and (faster.high or 9) < 1
    assert ratio([], []) is None


def test_the_interval_is_that_of_students_t() -> None:
    # The table's 97.5 % quantiles.
    for freedom, exact in ((4, 2.7764), (5, 2.5706), (9, 2.2622), (29, 2.0452), (1000, 1.9623)):
        assert student_t(freedom) == pytest.approx(exact, abs=0.001)
    found = ratio([1.0] * 5, [math.exp(one) for one in (-0.2, -0.1, 0.0, 0.1, 0.2)])
    assert found is not None
    # The standard error of the logarithms is that of 0.1 times 1 to 5: 0.1 times the root of a half.
    assert (found.low, found.high) == (pytest.approx(0.8217, abs=1e-4), pytest.approx(1.2169, abs=1e-4))


def test_without_a_difference_one_comparison_in_twenty_sees_one() -> None:
    chance = random.Random(11)
    seen = 0
    for _ in range(2000):
        found = ratio(*([math.exp(chance.gauss(0, 0.1)) for _ in range(10)] for _ in "AB"))
        assert found is not None
        seen += found.differs
    assert 0.035 < seen / 2000 < 0.065


def test_too_few_rounds_and_rounds_without_a_ratio_have_no_verdict() -> None:
    few = ratio([1.0] * 4, [2.0] * 4)
    assert few is not None and not few.differs
    assert (few.mean, few.low, few.high) == (pytest.approx(2.0), None, None)
    gap = ratio([1.0] * 6, [2.0] * 5 + [0.0])
    assert gap is not None and not gap.differs
    assert (gap.mean, gap.low, gap.high, gap.without) == (pytest.approx(2.0), None, None, 1)
    dead = ratio([1.0] * 6, [0.0] * 6)
    assert dead is not None and (dead.mean, dead.without) == (None, 6)
    assert ratio([0.0] * 6, [0.0] * 6) is None, "not known of either"
    text = bench_output.comparison_text({"a": (1, 2, few), "b": (1, 2, gap), "c": (1, 0, dead)}, 6)
    assert "no verdict below 5 rounds" in text
    assert "1 of 6 rounds have no ratio" in text and "6 of 6 rounds have no ratio" in text


def test_the_table_says_what_was_measured_and_what_limits_it() -> None:
    failure = Failure("status", 503, 3, "busy")
    spent = Spent(0.004, 40, 2, 1 << 20, 0.5)
    late = sample(
        seen("m", *[1.0] * 7, failures=(failure,)),
        load="5/s fixed",
        lag=times(0.5),
        busiest=0.97,
        server=spent,
    )
    text = bench_output.samples_text([late])
    head, line = text.splitlines()[:2]
    assert head.split("  ")[0] == "load"
    assert "3.5" in line and "400" in line and "0.5" in line
    assert "3 times HTTP 503, the first: busy" in text
    assert "97%" in text and "--threads" in text
    assert "late" in text and "disk" in text
    quiet = bench_output.samples_text([sample(seen("m", 1.0))])
    assert "server" not in quiet and "late" not in quiet and len(quiet.splitlines()) == 2


def test_several_models_have_a_table_of_their_own() -> None:
    text = bench_output.samples_text([sample(seen("all", 1.0, 2.0), seen("a", 1.0), seen("b", 2.0))])
    assert [line.split()[2] for line in text.splitlines()[-2:]] == ["a", "b"]


def test_files_hold_the_same_numbers() -> None:
    one = sample(
        seen("m", 1.0, 3.0, failures=(Failure("timeout", 0, 1, ""),)), server=Spent(0.3, 1, 2, 3, 0.1)
    )
    (line,) = csv.DictReader(bench_output.csv_text([("http://h:1", one)]).splitlines())
    record = json.loads(bench_output.record("load", {"samples": [one.record()]}))["samples"][0]
    assert float(line["answers_per_second"]) == record["per_second"] == 1.0
    assert float(line["p99_ms"]) == record["all"]["times"]["quantiles"]["p99"] == 3.0
    assert float(line["server_cpu_us"]) == pytest.approx(record["server_cpu_us"]) == pytest.approx(1e5)
    assert (line["requests"], line["failed"], line["rate"], line["late_p99_ms"]) == ("3", "1", "", "")
    assert "steps" not in record["all"]["times"]


def test_what_was_never_sent_costs_nothing() -> None:
    lost = tuple(Failure(kind, 0, 3, "") for kind in ("unsent", "connect", "timeout"))
    one = sample(seen("m", 1.0, failures=lost))
    assert (one.asked, one.sent, one.each(8.0)) == (10, 4, 2.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Halves:
    """Stands for the core's times."""

    def quantile(self, share: float) -> int:
        return int(share * 1e7)


def test_a_terminal_shows_how_a_load_goes_and_a_file_does_not() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = bench_output.Progress(stream)
        show = progress.of("4 callers", 10.0)
        show(0.5, 0, 0, Halves())  # type: ignore[arg-type]
        show(2.0, 3000, 1, Halves())  # type: ignore[arg-type]
        progress.clear()
    assert file.getvalue() == ""
    line = "4 callers: 2 of 10 s, 1,500/s, p50 5 ms, p99 9.9 ms, 1 failed"
    assert terminal.getvalue() == f"\r\x1b[K{line}\r\x1b[K"


def test_progress_is_one_line_of_a_narrow_terminal_and_nothing_on_a_dumb_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    bench_output.Progress(terminal).tell("asking half_plus_two at http://127.0.0.1:8501")
    assert terminal.getvalue() == "\r\x1b[Kasking half_plus_t…"
    monkeypatch.setenv("TERM", "dumb")
    dumb = Terminal()
    bench_output.Progress(dumb).tell("asking")
    assert dumb.getvalue() == ""


def test_a_server_is_given_up_after_nothing_but_failures() -> None:
    def given_up(*looks: tuple[float, int, int], longest: float = 0.1) -> float | None:
        watch = Watch(5.0)
        return next((now for now, good, failed in looks if watch.is_gone(now, good, failed, longest)), None)

    assert given_up((0, 0, 1), (4, 0, 9), (5, 0, 12), (6, 0, 13)) == 5
    assert given_up((0, 0, 1), (4, 1, 9), (8, 1, 12), (12, 2, 13)) is None
    assert given_up((0, 0, 0), (9, 0, 0), (99, 0, 0)) is None, (
        "who waits is not gone: requests have a timeout"
    )
    assert given_up((0, 5, 0), (1, 5, 3), (7, 5, 4)) == 7
    assert given_up((0, 5, 0), (1, 5, 3), (7, 5, 4), (14, 5, 5), longest=6.0) == 14, "it answers slowly"
    assert given_up((0, 5, 0), (1, 5, 1), (7, 5, 1), (9, 6, 1)) is None, (
        "one failure, and then a slow request"
    )


def test_a_comparison_says_what_is_certain() -> None:
    sure, unsure = ratio([1.0] * 5, [2.0] * 5), ratio([1.0, 1.1] * 3, [1.1, 1.0] * 3)
    text = bench_output.comparison_text(
        {"p50 ms": (1, 2, sure), "p99 ms": (1, 1, unsure), "x": (0, 0, None)}, 6
    )
    assert "2.000 to 2.000  differs" in text
    assert "no difference seen" in text
    assert "x" not in text.split()


def test_files_that_are_there_are_written_whatever_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those below /dev/fd, which a shell makes for ``--json >(jq .)``."""
    there, folder = tmp_path / "there", tmp_path / "folder"
    there.touch()
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _mode: str(path) == str(there))
    given = {"latency_chart": [], "throughput_chart": [], "csv": ""}
    _check_files(argparse.Namespace(**given, json=str(there)))
    for path, words in ((tmp_path / "new", "its folder"), (folder, "it is a folder")):
        with pytest.raises(ServableError, match=words):
            _check_files(argparse.Namespace(**given, json=str(path)))
