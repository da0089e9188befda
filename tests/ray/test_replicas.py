"""Replicas with a server inside: both APIs through Ray's proxies, handles, multiplexing, health."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from clients import floats_request
from proxies import call, rest
from servers import MODELS, put_version, until
from slow_web import SlowWeb
from stubs import own_message

import servable

SEVERAL = {name: str(MODELS / name) for name in ("half_plus_two", "pair", "loop")}
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def test_both_apis_are_those_of_a_server(cluster: Any, run: Any) -> None:
    run("both", SEVERAL)
    status, told, _ = rest(cluster, "GET", "/both?x=1")
    assert (status, told["location"]) == (307, "./both/?x=1")
    body = b'{"instances": [1.0, 2.0, 5.0]}'
    requests = [
        ("POST", "/v1/models/half_plus_two:predict", body),
        ("POST", "/v1/models/half_plus_two:predict?x=1", b'{"inputs": [%s1.5]}' % (b"1.5," * 50_000)),
        ("POST", "/v1/models/half_plus_two:predict", b"{"),
        ("POST", "/v1/models/nobody:predict", body),
        ("POST", "/v1/models/half_plus_two:nonsense", body),
        ("GET", "/v1/models/pair", b""),
        ("GET", "/v1/models/pair/metadata", b""),
        ("GET", "/v2/models/pair", b""),
        ("GET", "/v2/health/ready", b""),
        ("GET", "/nowhere%20else", b""),
        ("PUT", "/v1/models/pair", b""),
    ]
    large = own_message("PredictRequest")()
    large.model_spec.name = "half_plus_two"
    large.inputs["x"].dtype = 1
    large.inputs["x"].tensor_shape.dim.add(size=100_000)
    large.inputs["x"].tensor_content = bytes(400_000)
    of_pair = own_message("GetModelStatusRequest")()
    of_pair.model_spec.name = "pair"
    calls = [
        (PREDICT, floats_request("half_plus_two", 2.0).SerializeToString()),
        (PREDICT, large.SerializeToString()),
        (PREDICT, floats_request("nobody", 2.0).SerializeToString()),
        (PREDICT, b"\xff"),
        ("/tensorflow.serving.ModelService/GetModelStatus", of_pair.SerializeToString()),
        ("/inference.GRPCInferenceService/ServerReady", b""),
    ]
    with servable.serve(SEVERAL) as server, grpc.insecure_channel(server.grpc_address) as channel:
        own = http.client.HTTPConnection(server.addresses()["rest"], timeout=60)
        for method, path, content in requests:
            own.request(method, path, content)
            reply = own.getresponse()
            expected = reply.status, reply.getheader("content-type"), reply.read()
            status, told, came = rest(cluster, method, f"/both{path}", content)
            assert (status, told.get("content-type"), came) == expected, path
        own.close()
        for method, message in calls:
            try:
                answer = (0, "", channel.unary_unary(method)(message, timeout=60))
            except grpc.RpcError as error:
                answer = (error.code().value[0], error.details(), b"")
            assert call(cluster, "both", method, message) == answer, method


def test_a_compressed_answer_goes_through(cluster: Any, run: Any) -> None:
    run("packed", str(MODELS / "half_plus_two"))
    body = b'{"instances": [%s1]}' % (b"1.0," * 5000)
    path = "/packed/v1/models/half_plus_two:predict"
    status, told, content = rest(cluster, "POST", path, body, {"Accept-Encoding": "gzip"})
    assert (status, told["content-encoding"], len(content) < 2000) == (200, "gzip", True)
    assert int(told["content-length"]) == len(content)


def test_other_deployments_ask_without_http(run: Any) -> None:
    handle = run("handle", str(MODELS / "half_plus_two"))
    assert handle.predict.remote([1.0, 2.0]).result().tolist() == [2.5, 3.0]


def test_a_model_that_cannot_be_served_says_why(run: Any) -> None:
    with pytest.raises(RuntimeError):
        run("broken", str(MODELS / "unknown_op"), {"max_constructor_retry_count": 1}, max_num_load_retries=0)
    from ray import serve

    message = serve.status().applications["broken"].deployments["servable"].message
    assert "not registered" in message, message


def test_a_model_that_goes_takes_no_other_along(cluster: Any, run: Any, tmp_path: Path) -> None:
    from ray_cluster import replicas

    for name in ("good", "goes"):
        put_version("half_plus_two", tmp_path / name, 1)
    what = {name: str(tmp_path / name) for name in ("good", "goes")}
    handle = run("goes", what, file_system_poll_wait_seconds=1)
    ((before, replica),) = replicas("goes").items()

    def ask(model: str) -> int:
        return rest(cluster, "POST", f"/goes/v1/models/{model}:predict", b'{"instances": [1.0]}')[0]

    shutil.rmtree(tmp_path / "goes" / "1")
    assert until(lambda: ask("goes") == 404, 30)
    problem = f"model goes: no version was found in {tmp_path}/goes"
    assert until(lambda: handle.problem.remote().result() == problem, 30)
    assert ask("good") == 200 and before in replicas("goes")
    # Nor does it keep a new replica from starting.
    os.kill(replica.pid, signal.SIGKILL)
    assert until(lambda: replicas("goes") and before not in replicas("goes"), 60)
    assert until(lambda: ask("good") == 200, 60)
    put_version("half_plus_two", tmp_path / "goes", 2)
    assert until(lambda: ask("goes") == 200, 30)


def test_a_listed_version_that_is_not_there_is_told_at_once(cluster: Any, run: Any, tmp_path: Path) -> None:
    put_version("half_plus_two", tmp_path / "m", 1)
    what = {"m": {"path": str(tmp_path / "m"), "versions": [1, 99]}, "half": str(MODELS / "half_plus_two")}
    run("listed", what, multiplexed=2)

    def ask(model: str) -> tuple[int, bytes]:
        path = f"/listed/v1/models/{model}:predict"
        status, _, content = rest(cluster, "POST", path, b'{"instances": [1.0]}')
        return status, content

    status, content = ask("m")
    # In the words of any server; the replica's log says which version it is.
    assert status == 404 and b"Servable not found for request: Latest(m)" in content
    assert ask("half")[0] == 200


def test_models_are_loaded_by_name_and_give_way(cluster: Any, run: Any) -> None:
    run("many", f"{MODELS}/{{model}}", multiplexed=2)

    def ask(model: str, body: str) -> tuple[int, Any]:
        headers = {"serve_multiplexed_model_id": model}
        path = f"/many/v1/models/{model}:predict"
        status, _, content = rest(cluster, "POST", path, body.encode(), headers)
        return status, json.loads(content)

    half = '{"instances": [1.0]}'
    pair = '{"inputs": {"a": [1.0, 1.0], "b": [1, 2]}}'
    for _ in range(3):
        assert ask("half_plus_two", half) == (200, {"predictions": [2.5]})
        assert ask("pair", pair)[0] == 200
        assert ask("loop", '{"inputs": 3}') == (200, {"outputs": 3})
    assert ask("nobody", half)[0] == 404
    assert ask("..", half)[0] == 404
    message = floats_request("half_plus_two", 2.0).SerializeToString()
    code, details, reply = call(cluster, "many", PREDICT, message)
    assert (code, details) == (0, "")
    assert own_message("PredictResponse").FromString(reply).outputs["y"].float_val[0] == 3.0


def test_what_cannot_be_loaded_is_not_tried_again_at_once(cluster: Any, run: Any) -> None:
    run("pauses", f"{MODELS}/{{model}}", multiplexed=1, max_num_load_retries=0)

    def ask(model: str) -> tuple[int, bytes]:
        path = f"/pauses/v1/models/{model}:predict"
        status, _, content = rest(cluster, "POST", path, b'{"instances": [1.0]}')
        return status, content

    assert ask("half_plus_two")[0] == 200
    status, content = ask("unknown_op")
    assert status == 503 and b"not registered" in content
    assert ask("unknown_op") == (status, content)
    assert [ask(f"none_{number}")[0] for number in range(5)] == [404] * 5
    assert ask("half_plus_two")[0] == 200


def test_a_client_that_leaves_during_a_load_takes_nothing_from_others(
    cluster: Any, run: Any, tmp_path: Path
) -> None:
    path, body = "/left/v1/models/m:predict", b'{"instances": [1.0]}'
    with SlowWeb(MODELS / "half_plus_two" / "1") as web:
        run("left", f"{web.url}/{{model}}.zip", multiplexed=1, model_cache_dir=str(tmp_path))
        (address,) = cluster.http()
        client = http.client.HTTPConnection(address, timeout=2)
        client.request("POST", path, body)
        with pytest.raises(TimeoutError):
            client.getresponse()
        client.close()
        # Ray has some time to have the request cancelled, while the model loads.
        assert rest(cluster, "POST", path.replace("/m:", "/none:"), body)[0] == 404
        web.goes_on.set()
        assert [rest(cluster, "POST", path, body)[0] for _ in range(3)] == [200] * 3


def test_a_replica_that_does_not_answer_is_replaced(cluster: Any, run: Any) -> None:
    from ray_cluster import replicas

    run("health", str(MODELS / "half_plus_two"))
    ((before, replica),) = replicas("health").items()
    os.kill(replica.pid, signal.SIGKILL)
    assert until(lambda: replicas("health") and before not in replicas("health"), 60)
    path = "/health/v1/models/half_plus_two:predict"
    assert until(lambda: rest(cluster, "POST", path, b'{"instances": [1.0]}')[0] == 200, 60)
