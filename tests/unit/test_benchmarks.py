"""The parts of the benchmarks that only compute: figures and aims, requests, what is read from /proc."""

import json
import math
import struct
from pathlib import Path

import pytest
import real_models
import real_points
from floors import Run
from grpc_points import predict_request
from load import Sample
from points import Feed, Request
from process import minor_faults
from real_results import REST, Aim, Resident, Served, aims, best, figures, quickest, rested
from report import replace_between_markers
from results import OTHER, SERVABLE, Spread

from servable.messages import message_class

REQUESTS = real_points.requests()
ELEMENTS = {"float": ("f", 4), "int32": ("i", 4)}


def run(way: str, threads: int, per_second: float, p50_ms: float = 1.0) -> Run:
    return Run(way, threads, 100, 1.0, 1.0, p50_ms * 1e3, per_second, 0.0)


def sample(per_second: float, p50_ms: float, p99_ms: float, faults: float | None = 0.0) -> Sample:
    return Sample(100, per_second, p50_ms * 1e3, p99_ms * 1e3, 0, 3.0, 0.0, faults=faults)


ROUNDS = [
    [run("caller", 1, 50, 20), run("pool", 1, 60, 18), run("caller", 2, 100, 21), run("pool", 2, 300, 10)],
    [run("caller", 1, 40, 24), run("pool", 1, 60, 30), run("caller", 2, 90, 25), run("pool", 2, 50, 40)],
    [run("caller", 1, 30, 22), run("pool", 1, 60, 28), run("caller", 2, 80, 23), run("pool", 2, 60, 31)],
]


def test_the_best_way_has_the_highest_median_not_the_luckiest_round() -> None:
    assert [one.per_second for one in best(ROUNDS)] == [100, 90, 80]


def test_the_quickest_way_is_one_run_at_a_time() -> None:
    paused = [[*runs, run("rested", 1, 70.0, p50_ms=5)] for runs in ROUNDS]
    for rounds in (ROUNDS, paused):
        assert [one.p50_us for one in quickest(rounds)] == [20e3, 24e3, 22e3]
    assert [one.p50_us for one in rested(paused)] == [5e3] * 3


def test_without_bare_runs_nothing_is_the_best() -> None:
    assert best([]) == []
    assert quickest([]) == []
    assert rested(ROUNDS) == []


def test_figures_are_ratios_of_the_same_round() -> None:
    served = Served("m", "a model", REST)
    for number, rate in enumerate((50.0, 90.0, 40.0)):
        served.add(1, SERVABLE, sample(40, (20.5, 25.0, 22.0)[number], 30, faults=3.0))
        served.add(4, SERVABLE, sample(rate, 10, 4 / rate * 1e3 * 1.5, faults=(1.0, 2.0, 70.0)[number]))
        served.add(4, OTHER, sample(100, 10, 10, faults=None))
    served.resident = {SERVABLE: [Resident(100, 300, 120)], OTHER: [Resident(100, 300, 300)]}
    served.add_first(SERVABLE, [30.0, *[9.0] * 8, 10.0], fresh=True)
    served.add_first(OTHER, [90.0, *[9.0] * 8, 10.0], fresh=True)
    served.add_first(SERVABLE, [90.0, *[9.0] * 8, 10.0], fresh=False)
    found = figures(served, ROUNDS)
    assert found["share 4"] == Spread(0.5, 0.5, 1.0)
    assert found["cost 4"] == Spread(3.0, 3.0, 3.0)
    assert found["added 1"] == Spread(0.5, 0.0, 1.0)
    assert "rested 1" not in found
    paused = [[*runs, run("rested", 1, 70.0, p50_ms=22)] for runs in ROUNDS]
    assert figures(served, paused)["rested 1"] == Spread(0.0, -1.5, 3.0)
    assert found["waited 4"].median == pytest.approx(1.5)
    assert found["over 4"] == Spread(0.5, 0.4, 0.9)
    assert found["faults"] == Spread(3.0, 1.0, 70.0)
    assert found["kept"].median == 1.2
    assert found["first"].median == 3.0
    assert "over 1" not in found


def test_figures_leave_out_what_was_not_measured() -> None:
    served = Served("m", "a model", REST)
    served.add(4, SERVABLE, sample(50, 10, 80, faults=None))
    assert set(figures(served, [])) == {"waited 4"}


def test_aims_are_those_of_the_loads_that_were_put() -> None:
    names = {aim.figure for aim in aims([1, 16])}
    assert names == {
        "share 16",
        "cost 16",
        "added 1",
        "rested 1",
        "waited 16",
        "faults",
        "kept",
        "first",
        "over 1",
        "over 16",
    }


@pytest.mark.parametrize(
    ("median", "at_least", "met"),
    [(0.98, True, True), (0.97, True, False), (0.98, False, True), (0.99, False, False)],
)
def test_an_aim_is_met_at_its_limit(median: float, at_least: bool, met: bool) -> None:
    assert Aim("share 4", "", 0.98, at_least).met(Spread(median, 0.0, 2.0)) is met


def test_every_network_is_asked() -> None:
    asked = {request.model for request in REQUESTS}
    assert set(real_models.NETWORKS) <= asked
    assert {"mobilenet_v2", "mobilenet_v2_float"} <= asked


def unpacked(feed: Feed) -> list[float]:
    code, size = ELEMENTS[feed.dtype]
    return list(struct.unpack(f"={len(feed.data) // size}{code}", feed.data))


def flat(values: object) -> list[float]:
    if isinstance(values, list):
        return [number for value in values for number in flat(value)]
    assert isinstance(values, int | float)
    return [values]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.name)
def test_a_feed_has_the_elements_of_its_shape_and_of_its_network(request_: Request) -> None:
    network = real_models.NETWORKS.get(request_.model)
    for alias, feed in request_.feeds.items():
        if feed.dtype != "string":
            assert len(feed.data) == math.prod(feed.shape) * ELEMENTS[feed.dtype][1]
        if network is not None:
            shape, dtype = network.inputs[alias]
            assert feed.shape == (1, *shape[1:])
            assert dtype.startswith(feed.dtype)
    assert network is None or set(network.inputs) == set(request_.feeds)


@pytest.mark.parametrize("name", ["lstm", "conv1d", "transformer", "unet", "mobilenet_v2_float"])
def test_the_body_says_what_is_fed(name: str) -> None:
    (request,) = (one for one in REQUESTS if one.name == name)
    (feed,) = request.feeds.values()
    said = json.loads(request.body)["instances"]
    for size in feed.shape:
        assert len(said) == size
        said = said[0]
    assert flat(json.loads(request.body)["instances"]) == pytest.approx(unpacked(feed))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.name)
def test_a_message_says_what_is_fed(request_: Request) -> None:
    message = message_class("tensorflow.serving.PredictRequest")()
    message.ParseFromString(predict_request(request_.model, request_.feeds))
    assert message.model_spec.name == request_.model
    assert set(message.inputs) == set(request_.feeds)
    for alias, feed in request_.feeds.items():
        tensor = message.inputs[alias]
        assert tuple(dim.size for dim in tensor.tensor_shape.dim) == feed.shape
        held = tensor.string_val[0] if feed.dtype == "string" else tensor.tensor_content
        assert (tensor.dtype, held) == ({"float": 1, "int32": 3, "string": 7}[feed.dtype], feed.data)


def test_minor_faults_are_read_behind_a_name_with_blanks() -> None:
    assert minor_faults("7 (a (b) c d) S 1 7 7 0 -1 4194560 1234 0 5 0 9 8 0 0 20 0") == 1234


def test_tables_are_replaced_between_the_markers_of_their_own_script(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- a: begin -->\nold\n<!-- a: end -->\n<!-- b: begin -->\nkept\n<!-- b: end -->\n")
    replace_between_markers(page, "new", "a")
    assert page.read_text() == (
        "<!-- a: begin -->\n\nnew\n<!-- a: end -->\n<!-- b: begin -->\nkept\n<!-- b: end -->\n"
    )
