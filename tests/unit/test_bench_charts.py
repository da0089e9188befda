"""The charts of ``servable bench``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_bench_numbers import sample, seen

from servable.bench.charts import check_chart, draw_latencies, draw_throughput, percentile_curve
from servable.cli.bench import bench
from servable.errors import ServableError


def test_the_curve_leaves_out_a_tenth_as_many_with_each_tick() -> None:
    across, up = percentile_curve([(1.0, 90), (2.0, 9), (5.0, 1)])
    assert up == [1.0, 2.0, 5.0]
    assert across[:2] == [10.0, 100.0]
    assert across[2] > 100
    assert percentile_curve([]) == ([], [])


def test_a_chart_without_matplotlib_is_refused_before_the_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert bench(["http://127.0.0.1:1/v1/models/m", "--latency-chart=x.svg"]) == 1
    assert "pip install 'servable[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["svg", "png"])
@pytest.mark.filterwarnings("default")  # of matplotlib's own
def test_charts_are_drawn(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the extra bench")
    samples = [
        sample(seen("m", *[1.0] * 90, *[4.0] * 10), load="1 callers"),
        sample(seen("m", 2.0), load="2"),
    ]
    starts = {"svg": b"<?xml", "png": b"\x89PNG"}[ending]
    for draw in (draw_latencies, draw_throughput):
        path = tmp_path / f"{draw.__name__}.{ending}"
        draw(samples, "a title", check_chart(str(path)))
        assert path.read_bytes().startswith(starts)
        with pytest.raises(ServableError, match="cannot be written"):
            draw(samples, "a title", str(tmp_path / "none" / path.name))
