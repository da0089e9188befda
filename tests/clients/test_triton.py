"""tritonclient: HTTP, gRPC, both with await, streams, shared memory."""

from __future__ import annotations

import asyncio
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from conftest import Served
from servers import until

http = pytest.importorskip("tritonclient.http", exc_type=ImportError)
grpc = pytest.importorskip("tritonclient.grpc", exc_type=ImportError)

shm = pytest.importorskip("tritonclient.utils.shared_memory", exc_type=ImportError)
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException

pytestmark = [
    pytest.mark.needs_tensorflow,
    # They warn of what is deprecated in what they stand on.
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

X = np.array([1.0, 2.0, 5.0], np.float32)
Y = X / 2 + 2
PROTOCOLS = ["http", "grpc"]


@contextmanager
def client(served: Served, protocol: str) -> Iterator[tuple[Any, Any]]:
    """Yields the module of ``protocol`` and a client of it."""
    module, address = (http, f"127.0.0.1:{served.rest_port}") if protocol == "http" else (grpc, served.grpc)
    one = module.InferenceServerClient(address)
    try:
        yield module, one
    finally:
        one.close()


def given(module: Any, name: str, value: np.ndarray[Any, Any], datatype: str) -> Any:
    tensor = module.InferInput(name, list(value.shape), datatype)
    tensor.set_data_from_numpy(value)
    return tensor


def told(answer: Any) -> Any:
    """As a dict, whichever protocol it came by."""
    return answer if isinstance(answer, dict) else type(answer).to_dict(answer)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_server_and_its_models_are_told(served: Served, protocol: str) -> None:
    with client(served, protocol) as (_, one):
        assert one.is_server_live() and one.is_server_ready() and one.is_model_ready("half_plus_two")
        assert not one.is_model_ready("none")
        as_json = {} if protocol == "http" else {"as_json": True}
        assert "model_repository" in one.get_server_metadata(**as_json)["extensions"]
        metadata = one.get_model_metadata("half_plus_two", **as_json)
        assert [entry["name"] for entry in metadata["inputs"]] == ["x"]
        assert metadata["inputs"][0]["datatype"] == "FP32"
        config = one.get_model_config("half_plus_two", **as_json)
        assert (config if protocol == "http" else config["config"])["name"] == "half_plus_two"
        index = one.get_model_repository_index(**as_json)
        models = index if protocol == "http" else index["models"]
        assert {entry["name"] for entry in models} >= {"half_plus_two", "pair"}
        one.get_inference_statistics("half_plus_two", **as_json)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_go_both_ways(served: Served, protocol: str) -> None:
    with client(served, protocol) as (module, one):
        answer = one.infer("half_plus_two", [given(module, "x", X, "FP32")], request_id="7")
        np.testing.assert_array_equal(answer.as_numpy("y"), Y)
        wanted = [module.InferRequestedOutput("y")]
        inputs = [given(module, "x", np.zeros(100_000, np.float32), "FP32")]
        assert one.infer("half_plus_two", inputs, outputs=wanted).as_numpy("y").sum() == 200_000
        pair = [given(module, "a", X, "FP32"), given(module, "b", np.array([1, 2, 3], np.int32), "INT32")]
        np.testing.assert_array_equal(one.infer("pair", pair).as_numpy("sum"), X + np.array([1, 2, 3]))
        best = [module.InferRequestedOutput("y", class_count=2)]
        classes = one.infer("half_plus_two", [given(module, "x", X, "FP32")], outputs=best).as_numpy("y")
        assert classes.ravel()[0].startswith(b"4.5")


def test_http_without_binary_data_and_compressed(served: Served) -> None:
    with client(served, "http") as (module, one):
        tensor = module.InferInput("x", [3], "FP32")
        tensor.set_data_from_numpy(X, binary_data=False)
        wanted = [module.InferRequestedOutput("y", binary_data=False)]
        np.testing.assert_array_equal(one.infer("half_plus_two", [tensor], outputs=wanted).as_numpy("y"), Y)
        for request, response in (("gzip", "gzip"), (None, "gzip"), ("gzip", None)):
            answer = one.infer(
                "half_plus_two",
                [given(module, "x", np.ones(5000, np.float32), "FP32")],
                request_compression_algorithm=request,
                response_compression_algorithm=response,
            )
            assert answer.as_numpy("y").sum() == 12_500


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_strings_go_both_ways(served: Served, protocol: str) -> None:
    with client(served, protocol) as (module, one):
        words = np.array([b"red", b"blue"], np.object_)
        metadata = one.get_model_metadata("lookup") if protocol == "http" else None
        name = metadata["inputs"][0]["name"] if metadata else "word"
        answer = one.infer("lookup", [given(module, name, words, "BYTES")])
        assert answer.as_numpy("id").shape == (2,)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_wrong_is_told(served: Served, protocol: str) -> None:
    with client(served, protocol) as (module, one):
        x = given(module, "x", X, "FP32")
        for model, inputs, text in (
            ("none", [x], "unknown model"),
            ("half_plus_two", [given(module, "z", X, "FP32")], "unexpected inference input"),
            ("half_plus_two", [given(module, "x", X.astype(np.int32), "INT32")], "data-type"),
        ):
            with pytest.raises(InferenceServerException, match=text):
                one.infer(model, inputs)
        np.testing.assert_array_equal(one.infer("half_plus_two", [x]).as_numpy("y"), Y)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_at_once(served: Served, protocol: str) -> None:
    with client(served, protocol) as (module, one):
        if protocol == "http":
            x = given(module, "x", X, "FP32")
            asked = [one.async_infer("half_plus_two", [x]) for _ in range(20)]
            answers = [request.get_result() for request in asked]
        else:
            done: queue.Queue[Any] = queue.Queue()
            for _ in range(20):
                one.async_infer(
                    "half_plus_two",
                    [given(module, "x", X, "FP32")],
                    callback=lambda result, error: done.put(error or result),
                )
            answers = [done.get(timeout=30) for _ in range(20)]
        for answer in answers:
            np.testing.assert_array_equal(answer.as_numpy("y"), Y)


def test_grpc_streams(served: Served) -> None:
    with client(served, "grpc") as (module, one):
        done: queue.Queue[Any] = queue.Queue()
        one.start_stream(lambda result, error: done.put(error or result))
        for _ in range(5):
            one.async_stream_infer("half_plus_two", [given(module, "x", X, "FP32")])
        for _ in range(5):
            np.testing.assert_array_equal(done.get(timeout=30).as_numpy("y"), Y)
        one.stop_stream()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_with_await(served: Served, protocol: str) -> None:
    if protocol == "http":
        module = pytest.importorskip("tritonclient.http.aio", exc_type=ImportError)
        address = f"127.0.0.1:{served.rest_port}"
    else:
        module, address = pytest.importorskip("tritonclient.grpc.aio", exc_type=ImportError), served.grpc

    async def ask() -> list[Any]:
        async with module.InferenceServerClient(address) as one:
            assert await one.is_server_live() and await one.is_model_ready("half_plus_two")
            x = given(module, "x", X, "FP32")
            return list(await asyncio.gather(*(one.infer("half_plus_two", [x]) for _ in range(10))))

    for answer in asyncio.run(ask()):
        np.testing.assert_array_equal(answer.as_numpy("y"), Y)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_models_are_loaded_and_unloaded(served: Served, protocol: str) -> None:
    with client(served, protocol) as (_, one):
        one.unload_model("echo")
        assert until(lambda: not one.is_model_ready("echo"))
        one.load_model("echo")
        assert one.is_model_ready("echo")


# ---- shared memory


@contextmanager
def region(one: Any, name: str, size: int) -> Iterator[Any]:
    """A region of ``size`` bytes, registered under ``name``."""
    key = f"/servable_clients_{os.getpid()}_{name}"
    handle = shm.create_shared_memory_region(name, key, size)
    try:
        one.register_system_shared_memory(name, key, size)
        yield handle
        one.unregister_system_shared_memory(name)
    finally:
        shm.destroy_shared_memory_region(handle)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_inputs_and_outputs_in_shared_memory(served: Served, protocol: str) -> None:
    with (
        client(served, protocol) as (module, one),
        region(one, "in", 400) as first,
        region(one, "out", 400) as second,
    ):
        values = np.arange(100, dtype=np.float32)
        shm.set_shared_memory_region(first, [values])
        status = one.get_system_shared_memory_status()
        names = {entry["name"] for entry in status} if protocol == "http" else set(status.regions)
        assert names == {"in", "out"}
        x = module.InferInput("x", [100], "FP32")
        x.set_shared_memory("in", 400)
        y = module.InferRequestedOutput("y")
        y.set_shared_memory("out", 400)
        answer = one.infer("half_plus_two", [x], outputs=[y])
        output = answer.get_output("y")
        assert output is not None
        back = shm.get_contents_as_numpy(second, np.float32, [100])
        np.testing.assert_array_equal(back, values / 2 + 2)
        part = module.InferInput("x", [10], "FP32")
        part.set_shared_memory("in", 40, offset=40)
        np.testing.assert_array_equal(
            one.infer("half_plus_two", [part]).as_numpy("y"), np.arange(10, 20, dtype=np.float32) / 2 + 2
        )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_memory_is_confined(served: Served, protocol: str) -> None:
    with client(served, protocol) as (module, one), region(one, "in", 400):
        with pytest.raises(InferenceServerException):
            one.register_system_shared_memory("other", "/somebody_elses", 8)
        with pytest.raises(InferenceServerException, match="already in manager"):
            one.register_system_shared_memory("in", f"/servable_clients_{os.getpid()}_in", 8)
        x = module.InferInput("x", [100], "FP32")
        x.set_shared_memory("in", 400, offset=4)
        with pytest.raises(InferenceServerException, match="Invalid offset"):
            one.infer("half_plus_two", [x])
        with pytest.raises(InferenceServerException):
            one.register_cuda_shared_memory("cuda", b"x" * 64, 0, 8)
