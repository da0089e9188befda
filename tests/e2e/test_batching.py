"""Requests of several clients run as one, over both protocols."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select
from typing import TypeVar

import pytest
from clients import Stub, answer, await_versions, version_states
from conftest import Served
from prometheus import PAGE, monitoring
from servers import ONE_TRY, WITH_GRPC, put_version, serving, until
from stubs import failure, floats_request, own_message, set_floats
from wire import Wire, ask, message, predict

pytestmark = pytest.mark.needs_tensorflow

MODEL = "half_plus_two"
HOUR = 3_600_000_000
WAITED = "Run() timeout exceeded while waiting in batching queue"
T = TypeVar("T")


@contextmanager
def batching(folder: Path, parameters: str, *flags: str) -> Iterator[Served]:
    """Serves version 1 of model ``m``, batched according to ``parameters``, with its metrics."""
    base, file = folder / "m", folder / "batching.config"
    put_version(MODEL, base, 1)
    file.write_text(parameters)
    given = ("--enable_batching", f"--batching_parameters_file={file}", monitoring(folder))
    with serving(f"m={base}", WITH_GRPC, *given, *flags) as served:
        yield served


def at_once(*asks: Callable[[], T]) -> list[T]:
    """Returns the answers to ``asks``, each called on a thread of its own."""
    with ThreadPoolExecutor(len(asks)) as pool:
        return [one.result() for one in [pool.submit(each) for each in asks]]


def counted(served: Served, metric: str) -> int:
    """Returns the count of a histogram or counter of batching; 0 before its first value."""
    text = ask(served, "GET", PAGE).text
    found = re.search(rf"^:tensorflow:serving:batching_session:{metric}\{{.*?\}} (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def graph_runs(served: Served) -> int:
    """Returns the number of graph runs."""
    text = ask(served, "GET", PAGE).text
    return int(text.split(":tensorflow:core:graph_runs{} ")[1].split()[0])


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        (
            "--max_requests_in_flight",
            "The server has 2 requests in flight, as many as --max_requests_in_flight",
        ),
        (
            "--max_requests_in_flight_per_model",
            "Model m has 2 requests in flight, as many as --max_requests_in_flight_per_model",
        ),
    ],
)
def test_requests_that_wait_for_a_batch_are_in_flight(tmp_path: Path, flag: str, text: str) -> None:
    """A batch of three rows stays open until it is full: of three requests, one too many is told at once."""
    parameters = f"max_batch_size {{ value: 3 }} batch_timeout_micros {{ value: {HOUR} }}"
    path = "/v1/models/m:predict"
    with batching(tmp_path, parameters, f"{flag}=2") as served, ExitStack() as stack:
        wires = [stack.enter_context(Wire(served)) for _ in range(3)]
        for wire in wires:
            wire.send(message("POST", path, '{"instances": [1.0]}'))
        readable = select([wire.sock for wire in wires], [], [], wires[0].patience)[0]
        (refused,) = (wire for wire in wires if wire.sock in readable)
        reply = refused.reply()
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert reply.error == f"{text} allows. Send it again later, or to another server"
        leaves, stays = (wire for wire in wires if wire is not refused)
        leaves.sock.close()
        assert until(lambda: ask(served, "POST", path, '{"instances": [1.0, 2.0]}').status == 200)
        assert stays.reply().status == 200


def test_requests_over_both_protocols_share_a_run(tmp_path: Path) -> None:
    """The batch stays open for an hour, or until it is full: the four are answered only together."""
    parameters = f"max_batch_size {{ value: 4 }} batch_timeout_micros {{ value: {HOUR} }}"
    with batching(tmp_path, parameters) as served:
        runs, rows = counted(served, "wrapped_run_count"), counted(served, "processed_batch_size_sum")
        graphs = graph_runs(served)
        with Stub(served) as stub:
            answers = at_once(
                lambda: answer(served, "m", 2.0),
                lambda: answer(served, "m", 4.0),
                lambda: stub.predict("m"),
                lambda: answer(served, "m", 8.0),
            )
        assert answers == [3.0, 4.0, 3.0, 6.0]
        assert counted(served, "wrapped_run_count") == runs + 1
        assert graph_runs(served) == graphs + 1
        assert counted(served, "processed_batch_size_sum") == rows + 4


def test_steady_clients_get_their_own_rows(tmp_path: Path) -> None:
    """Many clients with different rows: none ever gets those of another."""
    with batching(
        tmp_path, "max_batch_size { value: 16 } allowed_batch_sizes: 4 allowed_batch_sizes: 16"
    ) as served:

        def client(number: int) -> None:
            for turn in range(25):
                x = [float(number * 1000 + turn * 10 + row) for row in range(1 + number % 5)]
                reply = predict(served, "m", {"instances": x})
                assert json.loads(reply.body)["predictions"] == [0.5 * one + 2.0 for one in x]

        at_once(*(lambda number=number: client(number) for number in range(12)))
        assert counted(served, "input_batch_size_count") >= 12 * 25


def test_what_a_batch_is_filled_up_with_is_limited(tmp_path: Path) -> None:
    """A row of two million floats, eight MB, would be filled up to 32 of them."""
    parameters = "max_batch_size { value: 32 } allowed_batch_sizes: 1 allowed_batch_sizes: 32"
    flag = f"--max_memory_in_flight={128 << 20}"
    with batching(tmp_path, parameters, flag) as served, Stub(served) as stub:
        wide = own_message("PredictRequest")()
        wide.model_spec.name = "m"
        set_floats(wide.inputs["x"], 1.0, size=4_000_000)
        sizes = wide.inputs["x"].tensor_shape.dim
        sizes[0].size = 2
        sizes.add(size=2_000_000)
        code, why = failure(lambda: stub.call("Predict", wide))
        assert (code, "--max_memory_in_flight" in why) == ("RESOURCE_EXHAUSTED", True)
        assert stub.predict("m") == 3.0


def test_what_is_padded_is_limited(tmp_path: Path) -> None:
    """Together, the two would be padded to 2 TB; each runs in a batch of its own."""
    parameters = (
        "max_batch_size { value: 2 } batch_timeout_micros { value: 200000 } pad_variable_length_inputs: true"
    )
    shapes = ([1, 1, 1 << 19], [1, 1 << 19, 1])
    with batching(tmp_path, parameters) as served, Stub(served) as stub:

        def sum_of(shape: list[int]) -> tuple[list[int], int]:
            request = own_message("PredictRequest")()
            request.model_spec.name = "m"
            request.inputs["x"].dtype = 1
            for size in shape:
                request.inputs["x"].tensor_shape.dim.add(size=size)
            request.inputs["x"].tensor_content = bytes(2 << 20)
            reply = stub.call("Predict", request).outputs["y"]
            return [dim.size for dim in reply.tensor_shape.dim], reply.ByteSize() // (2 << 20)

        assert at_once(*(lambda shape=shape: sum_of(shape) for shape in shapes)) == [
            (shape, 1) for shape in shapes
        ]


def test_one_request_alone_does_not_wait(tmp_path: Path) -> None:
    with batching(tmp_path, "batch_timeout_micros { value: 0 }") as served:
        assert answer(served, "m", 2.0) == 3.0


def test_what_waits_ends_by_its_deadline(tmp_path: Path) -> None:
    parameters = f"batch_timeout_micros {{ value: {HOUR} }}"
    with batching(tmp_path, parameters, "--rest_api_timeout_in_ms=100") as served, Stub(served) as stub:
        waited = predict(served, "m", {"instances": [1.0]})
        assert (waited.status, waited.error) == (429, WAITED)
        predict_rpc = stub.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        request = floats_request("m", 1.0).SerializeToString()
        # The server knows the deadline and the client does not, which would answer itself.
        late = failure(lambda: predict_rpc(request, metadata=[("grpc-timeout", "100m")]))
        assert late == ("RESOURCE_EXHAUSTED", WAITED)


def test_an_unload_lets_what_waits_be_answered(tmp_path: Path) -> None:
    parameters = "max_batch_size { value: 4 } batch_timeout_micros { value: 1500000 }"
    with batching(tmp_path, parameters) as served, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(answer, served, "m", 2.0)
        put_version(MODEL, tmp_path / "m", 2)
        await_versions(served, "m", 2)
        assert waiting.result() == 3.0
        assert until(lambda: version_states(served, "m").get(1) == "END")


def test_parameters_of_a_version(tmp_path: Path) -> None:
    """With its own file a version is batched, without one it is not, with a bad one it does not load."""
    flags = ["--enable_per_model_batching_parameters", ONE_TRY]
    with batching(tmp_path, "max_batch_size { value: 1 }", *flags) as served:
        assert predict(served, "m", {"instances": [1.0] * 5}).status == 200
        for version, text in ((2, "max_batch_size { value: 2 }"), (3, "max_batch_size: 2")):
            aside = tmp_path / "aside"
            put_version(MODEL, aside, version)
            (aside / str(version) / "batching_params.pbtxt").write_text(text)
            (aside / str(version)).rename(tmp_path / "m" / str(version))
            aside.rmdir()
            if version == 2:
                await_versions(served, "m", 2)
                refused = predict(served, "m", {"instances": [1.0] * 3})
                assert refused.error == "Task size 3 is larger than maximum input batch size 2"
        assert until(lambda: version_states(served, "m").get(3) == "END")
        statuses = json.loads(ask(served, "GET", "/v1/models/m").body)["model_version_status"]
        assert "Invalid protobuf file" in statuses[0]["status"]["error_message"]
        assert predict(served, "m", {"instances": [1.0] * 2}).status == 200
