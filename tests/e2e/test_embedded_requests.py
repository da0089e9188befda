"""Requests of the own process by their bytes, beside the same over sockets; models that come and go."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from clients import floats_request
from servers import MODELS, put_version
from stubs import own_message

import servable
from servable.embedded.in_process import answered
from servable.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, UnavailableError

pytestmark = pytest.mark.needs_tensorflow

SEVERAL = {name: MODELS / name for name in ("half_plus_two", "pair", "loop")}
PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
PATH = "/v1/models/half_plus_two"
OF_THE_CONNECTION = {"date", "connection", "transfer-encoding"}


@pytest.fixture(scope="module")
def server() -> Iterator[servable.Server]:
    with servable.serve(SEVERAL) as server:
        yield server


def direct(server: servable.Server, method: str, target: str, headers: dict[str, str], body: bytes) -> Any:
    fields = [(name.encode(), value.encode()) for name, value in {"host": "h", **headers}.items()]
    status, told, content = asyncio.run(server.answer_rest(method, target.encode(), fields, body))
    return status, {name.decode(): value.decode() for name, value in told}, content


def by_socket(server: servable.Server, method: str, target: str, headers: dict[str, str], body: bytes) -> Any:
    client = http.client.HTTPConnection(server.addresses()["rest"], timeout=60)
    client.request(method, target, body, headers)
    reply = client.getresponse()
    told = {name.lower(): value for name, value in reply.getheaders()}
    content = reply.read()
    client.close()
    return reply.status, told, content


@pytest.mark.parametrize(
    ("method", "target", "headers", "body"),
    [
        ("POST", f"{PATH}:predict", {}, b'{"instances": [1.0, 2.0]}'),
        ("POST", f"{PATH}/versions/1:predict?x=1", {}, b'{"inputs": [1.0]}'),
        ("POST", f"{PATH}:predict", {"accept-encoding": "gzip"}, b'{"instances": [%s1]}' % (b"1.0," * 2000)),
        ("POST", f"{PATH}:predict", {"content-encoding": "gzip"}, gzip.compress(b'{"instances": [1.0]}')),
        ("POST", f"{PATH}:predict", {}, b'{"instances": [%s1]}' % (b"1.5," * 100_000)),
        ("POST", f"{PATH}:predict", {}, b"{"),
        ("POST", f"{PATH}:predict", {}, b""),
        ("POST", f"{PATH}:nonsense", {}, b"{}"),
        ("POST", "/v1/models/nobody:predict", {}, b'{"instances": [1.0]}'),
        ("POST", "/v1/models/a%2Fb:predict", {}, b"{}"),
        ("GET", PATH, {}, b""),
        ("GET", f"{PATH}/metadata", {}, b""),
        ("HEAD", PATH, {}, b""),
        ("GET", "/nowhere", {}, b""),
        ("PUT", PATH, {}, b""),
        ("GET", "/v2", {}, b""),
        ("GET", "/v2/models/pair", {}, b""),
        (
            "POST",
            "/v2/models/half_plus_two/infer",
            {},
            b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}',
        ),
    ],
)
def test_rest_is_that_of_the_port(
    server: servable.Server, method: str, target: str, headers: dict[str, str], body: bytes
) -> None:
    status, told, content = direct(server, method, target, headers, body)
    expected, kept, expected_content = by_socket(server, method, target, headers, body)
    assert (status, content) == (expected, expected_content)
    assert told == {name: value for name, value in kept.items() if name not in OF_THE_CONNECTION}


def test_what_is_no_request_is_refused(server: servable.Server) -> None:
    for method, target, headers in (("P T", "/", {}), ("GET", "/a b", {}), ("GET", "/", {"a b": "c"})):
        status, _, content = direct(server, method, target, headers, b"")
        assert status == 400 and "Bad Request" in json.loads(content)["error"]


def named(name: str) -> bytes:
    request = own_message("GetModelMetadataRequest")(metadata_field=["signature_def"])
    request.model_spec.name = name
    return bytes(request.SerializeToString())


def test_grpc_is_that_of_the_port(server: servable.Server) -> None:
    large = own_message("PredictRequest")()
    large.model_spec.name = "half_plus_two"
    large.inputs["x"].dtype = 1
    large.inputs["x"].tensor_shape.dim.add(size=100_000)
    large.inputs["x"].tensor_content = bytes(400_000)
    requests = [
        (PREDICT, floats_request("half_plus_two", 2.0).SerializeToString()),
        (PREDICT, large.SerializeToString()),
        (PREDICT, floats_request("nobody", 2.0).SerializeToString()),
        (PREDICT, b"\xff"),
        (PREDICT, b""),
        (METADATA, named("pair")),
        (METADATA, named("half_plus_two") * 2),
        ("/tensorflow.serving.PredictionService/Nothing", b""),
        ("/inference.GRPCInferenceService/ServerReady", b""),
        ("/grpc.health.v1.Health/Check", b""),
    ]
    with grpc.insecure_channel(server.grpc_address) as channel:
        for path, message in requests:
            code, details, _, reply = asyncio.run(server.answer_grpc(path, message))
            try:
                expected = (0, "", channel.unary_unary(path)(message, timeout=60))
            except grpc.RpcError as error:
                expected = (error.code().value[0], error.details(), b"")
            assert (code, details, reply) == expected, path
    code, details, _, _ = asyncio.run(server.answer_grpc("/grpc.health.v1.Health/Watch", b""))
    assert (code, "streams" in details) == (12, True)


def test_what_waits_is_answered_beside_others_and_can_be_given_up(server: servable.Server) -> None:
    long = own_message("PredictRequest")()
    long.model_spec.name = "loop"
    long.inputs["steps"].dtype = 9
    long.inputs["steps"].int64_val.append(300_000)  # some seconds
    short = floats_request("half_plus_two", 2.0).SerializeToString()

    async def work() -> tuple[int, int]:
        slow = asyncio.create_task(server.answer_grpc(PREDICT, long.SerializeToString()))
        several = await asyncio.gather(*(server.answer_grpc(PREDICT, short) for _ in range(50)))
        assert not slow.done()
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        late, *_ = await server.answer_grpc(PREDICT, long.SerializeToString(), timeout=0.1)
        return sum(code for code, *_ in several), late

    assert asyncio.run(work()) == (0, 4)


def test_a_server_that_stops_answers_what_it_has_and_no_more() -> None:
    body = b'{"instances": [%s1]}' % (b"1.5," * 200_000)
    target = f"{PATH}:predict".encode()

    async def work() -> list[int]:
        server = await servable.serve_async({"half_plus_two": MODELS / "half_plus_two"}).astart()
        core = server._live().core
        begun = asyncio.Semaphore(0)

        async def ask() -> int:
            begun.release()
            # In the same step of the loop, the request is with the core.
            return (await server.answer_rest("POST", target, (), body))[0]

        asked = [asyncio.ensure_future(ask()) for _ in range(8)]
        for _ in asked:
            await begun.acquire()
        await server.astop()
        with pytest.raises(UnavailableError, match="The server is stopping"):
            await answered(core.answer_rest, ("GET", b"/", ()), b"")
        return [await one for one in asked]

    assert asyncio.run(work()) == [200] * 8


# ---- models that come and go


def test_models_are_loaded_and_unloaded(tmp_path: Any) -> None:
    base = tmp_path / "m"
    for version in (1, 2):
        put_version("half_plus_two", base, version)
    with servable.Server(()) as server:
        assert server.models() == {}
        with pytest.raises(NotFoundError):
            server.predict([1], "half_plus_two")
        for _ in range(2):
            server.load(MODELS / "half_plus_two")
            assert server.predict([1], "half_plus_two").tolist() == [2.5]
            with pytest.raises(AlreadyExistsError, match="is served already"):
                server.load(MODELS / "pair", "half_plus_two")
            assert server.unload("half_plus_two")
        with pytest.raises(NotFoundError, match=r"unknown_op version 1: .*not registered"):
            server.load(MODELS / "unknown_op")
        with pytest.raises(InvalidArgumentError, match="takes paths"):
            server.load(object())
        one = servable.ModelConfig("m", str(base), policy=servable.Specific((1,)))
        server.apply({"m": one})
        assert server.predict([1], "m", version=1).tolist() == [2.5]
        server.apply({"m": servable.ModelConfig("m", str(base), policy=servable.Specific((2,)))})
        assert server.predict([1], "m", version=2).tolist() == [2.5]
        with pytest.raises(NotFoundError, match="no version was found"):
            server.apply({"m": one, "empty": tmp_path})
        # Each has a version 1, at another path.
        server.apply({"m": MODELS / "half_plus_two"})
        server.apply({"m": MODELS / "pair"})
        assert server.predict({"a": [1.0], "b": [2]})["twice"].tolist() == [4]
        with pytest.raises(NotFoundError, match=r"m version 1: .*not registered"):
            server.apply({"m": MODELS / "unknown_op"})
        assert server.predict({"a": [1.0], "b": [2]})["twice"].tolist() == [4]
        server.apply(())
        with pytest.raises(NotFoundError):
            server.predict([1], "m")
