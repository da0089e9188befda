"""More requests than can be answered: which are refused, how, and what it does to the others."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import Served
from prometheus import PAGE, monitoring
from servers import MODELS, serving, until
from wire import Wire, ask, message, predict

pytestmark = pytest.mark.needs_tensorflow

LOOP = "/v1/models/loop:predict"
LONG = '{"inputs": 300000}'
ENDLESS = '{"inputs": 1000000000000000}'


def held(stack: ExitStack, served: Served, body: str, count: int) -> list[Wire]:
    """Sends ``count`` requests on connections of their own, and returns these."""
    wires = [stack.enter_context(Wire(served)) for _ in range(count)]
    for wire in wires:
        wire.send(message("POST", LOOP, body))
    return wires


def refusals(served: Served, reason: str) -> int:
    text = ask(served, "GET", PAGE).text
    return int(text.split(f':servable:scheduler_refusals{{reason="{reason}"}} ')[1].split()[0])


def test_requests_in_flight_are_limited_by_model(tmp_path: Path) -> None:
    flags = (
        "--max_requests_in_flight_per_model=2",
        "--compute_threads=1",
        "--run_in=pool",
        monitoring(tmp_path),
    )
    with serving(MODELS / "loop", MODELS / "half_plus_two", *flags) as served, ExitStack() as stack:
        wires = held(stack, served, LONG, 8)
        assert predict(served, "half_plus_two", {"instances": [1.0]}).status == 200
        replies = [wire.reply() for wire in wires]
        refused = [reply for reply in replies if reply.status == 503]
        assert {reply.status for reply in replies} == {200, 503}
        assert refused[0].headers["retry-after"] == "1"
        assert json.loads(refused[0].body) == {
            "error": "Model loop has 2 requests in flight, as many as "
            "--max_requests_in_flight_per_model allows. Send it again later, or to another server"
        }
        assert refusals(served, "model_requests") == len(refused)


def test_a_wait_longer_than_allowed_is_refused_at_once(tmp_path: Path) -> None:
    flags = ("--max_queue_milliseconds=1", "--compute_threads=1", "--run_in=pool", monitoring(tmp_path))
    with serving(MODELS / "loop", *flags) as served, ExitStack() as stack:
        # The time of a run is known before the thread begins the next one.
        assert {ask(served, "POST", LOOP, LONG).status for _ in range(2)} == {200}
        replies = [wire.reply() for wire in held(stack, served, LONG, 8)]
        statuses = sorted(reply.status for reply in replies)
        assert set(statuses) == {200, 503}
        refused = next(reply for reply in replies if reply.status == 503)
        assert "longer than --max_queue_milliseconds allows" in refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert refusals(served, "queue_time") == statuses.count(503)


def test_a_model_that_hangs_leaves_the_others_alone() -> None:
    """Endless runs have every thread for a while; the other model's requests do not wait for their end."""
    flags = ("--rest_api_timeout_in_ms=15000", "--compute_threads=2", "--io_threads=2", "--run_in=pool")
    with serving(MODELS / "loop", MODELS / "half_plus_two", *flags) as served, ExitStack() as stack:
        for _ in range(3):
            assert predict(served, "loop", {"inputs": 3}).status == 200
        hanging = held(stack, served, ENDLESS, 4)
        for _ in range(20):
            assert predict(served, "half_plus_two", {"instances": [1.0]}).status == 200
        assert {wire.reply().status for wire in hanging} == {504}
        assert predict(served, "loop", {"inputs": 3}).status == 200


def test_ten_thousand_requests_on_a_thousand_connections(tmp_path: Path) -> None:
    """Each gets an answer: its own number, or a refusal."""
    body = '{"inputs": 20}'
    flags = ("--run_in=pool", "--max_requests_in_flight=500", monitoring(tmp_path))
    with serving(MODELS / "loop", *flags) as served, ExitStack() as stack:
        wires = [stack.enter_context(Wire(served)) for _ in range(1000)]
        for wire in wires:
            wire.send(message("POST", LOOP, body) * 10)
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda wire: [wire.reply().status for _ in range(10)], wires))
        counts = [status for ten in statuses for status in ten]
        assert len(counts) == 10_000 and set(counts) <= {200, 503}
        assert counts.count(503) == refusals(served, "requests")
        assert until(lambda: ask(served, "POST", LOOP, body).status == 200)


@pytest.mark.parametrize("flag", ["--batching=auto", "--enable_batching"])
def test_many_clients_get_their_own_answers_in_batches(flag: str) -> None:
    with serving(MODELS / "half_plus_two", flag, "--run_in=pool") as served:

        def answers(client: int) -> list[object]:
            return [
                json.loads(predict(served, "half_plus_two", {"instances": [float(client), float(turn)]}).body)
                for turn in range(50)
            ]

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(answers, range(16)))
    for client, turns in enumerate(found):
        assert turns == [{"predictions": [client / 2 + 2, turn / 2 + 2]} for turn in range(50)]
