"""Each front with two servers behind: both APIs, what is hidden, refusals, servers that go."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from front_kinds import Front, Running, free_ports, running, with_choice
from front_load import CLIENTS, MODELS, GrpcClient, RestClient, load
from refusing import refusing
from servers import until
from servers_behind import Behind

traffic = pytest.mark.traffic
needs_tensorflow = pytest.mark.needs_tensorflow
Pair = tuple[Behind, Behind]


@pytest.mark.parametrize("choices", [(), ("by model",), ("no state",), ("by model", "no state")], ids=str)
def test_the_program_accepts_its_configuration(
    front: Front, choices: tuple[str, ...], tmp_path: Path
) -> None:
    ports = free_ports(6)
    nowhere = [Running(ports[2], ports[3], ()), Running(ports[4], ports[5], ())]
    file = tmp_path / front.file
    file.write_text(
        front.locate(with_choice(front.text, *choices), Running(ports[0], ports[1], nowhere), tmp_path)
    )
    program = front.program()
    assert program
    done = subprocess.run(
        [program, *front.check(file, tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@traffic
@needs_tensorflow
def test_both_apis_and_nothing_else(front: Front, both: Pair, tmp_path: Path) -> None:
    with running(front, tmp_path, both) as place:
        rest, calls = RestClient(place), GrpcClient(place)
        assert rest.ask("m0") == "" and calls.ask("m0") == ""
        status, answer = rest.request("GET", "/v2/models/m1")
        assert status == 200 and json.loads(answer)["name"] == "m1"
        hidden = (
            "/metrics",
            "/",
            "/console/",
            "/readyz",
            "/openapi.json",
            "/v2/repository/index",
            "/v2/models/stats",
        )
        assert {path: rest.request("GET", path)[0] for path in hidden} == dict.fromkeys(hidden, 404)
        for path in (
            "tensorflow.serving.ModelService/HandleReloadConfigRequest",
            "inference.GRPCInferenceService/RepositoryModelUnload",
            "inference.GRPCInferenceService/ModelStatistics",
            "inference.GRPCInferenceService/SystemSharedMemoryRegister",
        ):
            with pytest.raises(grpc.RpcError) as refused:
                calls.channel.unary_unary(f"/{path}")(b"", timeout=30)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED, path
        assert calls.channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(b"", timeout=30)
        rest.close()
        calls.close()


@traffic
@needs_tensorflow
def test_a_large_request_passes(front: Front, both: Pair, tmp_path: Path) -> None:
    count = 3_000_000
    with running(front, tmp_path, both) as place:
        rest, calls = RestClient(place), GrpcClient(place)
        body = b'{"instances": [' + b",".join([b"2.0"] * count) + b"]}"
        status, answer = rest.request("POST", "/v1/models/m0:predict", body)
        assert status == 200 and json.loads(answer)["predictions"] == [3.0] * count
        assert len(calls.predict("m0", *[2.0] * count)) == count
        rest.close()
        calls.close()


@traffic
@needs_tensorflow
def test_a_large_header_passes(front: Front, both: Pair, tmp_path: Path) -> None:
    with running(front, tmp_path, both) as place:
        rest = RestClient(place)
        status, answer = rest.request("GET", "/v2/models/m1", authorization="x" * 40_000)
        assert status == 200, answer
        rest.close()


@traffic
@needs_tensorflow
def test_the_server_learns_the_clients_address(front: Front, both: Pair, tmp_path: Path) -> None:
    """What a client itself says of its address is not believed."""
    path = "/v1/models/m7:predict"
    begin = [one.access_log.stat().st_size for one in both]
    with running(front, tmp_path, both) as place:
        client = RestClient(place, source="127.0.0.77")
        lies = {"X_Forwarded_For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
        assert client.request("POST", path, b'{"instances": [2.0]}', **lies)[0] == 200
        client.close()

        def peers() -> list[str]:
            logs = [one.access_log.read_bytes()[size:] for one, size in zip(both, begin, strict=True)]
            lines = [line for log in logs for line in log.decode().splitlines()]
            return [json.loads(line)["peer"] for line in lines if "m7" in line]

        assert until(peers)
        assert {peer.rpartition(":")[0] or peer for peer in peers()} == {"127.0.0.77"}


REFUSALS = {
    ("envoy", ""): ("", ""),
    ("envoy", "no state"): ("", ""),
    ("nginx", ""): ("503", "UNAVAILABLE"),
    ("nginx", "no state"): ("", "UNAVAILABLE"),
    ("haproxy", ""): ("", "UNAVAILABLE"),
    ("haproxy", "no state"): ("", "UNAVAILABLE"),
}
"""Front, choice → what clients see of a server that refuses, over REST and gRPC; "": nothing."""


@traffic
@needs_tensorflow
@pytest.mark.parametrize("choice", ["", "no state"])
def test_what_one_server_refuses(front: Front, both: Pair, choice: str, tmp_path: Path) -> None:
    expected = REFUSALS[front.name, choice]
    with refusing() as busy, running(front, tmp_path, (busy, both[1]), *filter(None, [choice])) as place:
        rest, calls = RestClient(place), GrpcClient(place)
        seen_rest, seen_grpc = [
            {client.ask("m0").partition(":")[0] for _ in range(40)} for client in (rest, calls)
        ]
        assert busy.rest and busy.grpc, "it was never asked"
        assert (seen_rest, seen_grpc) == ({"", expected[0]}, {"", expected[1]})
        rest.close()
        calls.close()


@traffic
@needs_tensorflow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("choice", ["", "no state"])
def test_a_server_is_killed_under_load(front: Front, both: Pair, choice: str, tmp_path: Path) -> None:
    """Lost is what the server had at that moment; with models that keep no state, nothing.

    A client may lose two: its next request may be on a connection of which the front does not know yet that
    it is dead. NGINX loses calls of gRPC all the same.
    """
    each = 2 if not choice or front.name == "nginx" else 0
    most = each * CLIENTS * (1 if choice else 2)
    with running(front, tmp_path, both, *filter(None, [choice])) as place, load(place, MODELS) as clients:
        clients.wait_for(1000)
        clients.mark = time.monotonic()
        both[0].kill()
        clients.wait_for(2000)
        lost = len(clients.failures)
        assert lost <= most, clients.told()
        clients.wait_for(2000)
        assert len(clients.failures) == lost, clients.told()
        both[0].start()
        assert until(lambda: both[0].counts("rest") and both[0].counts("grpc"), 60), clients.told()
        clients.wait_for(1000)
        assert len(clients.failures) == lost, clients.told()
    print(f"{front}, {choice or 'as it is'}: {clients.told()}")


@traffic
@needs_tensorflow
@pytest.mark.timeout(300)
def test_servers_are_stopped_by_turns_under_load(front: Front, both: Pair, tmp_path: Path) -> None:
    with running(front, tmp_path, both) as place, load(place, MODELS) as clients:
        for one in both:
            one.stop()
            clients.wait_for(500)
            one.start()
            assert until(lambda one=one: one.counts("rest") and one.counts("grpc"), 60), clients.told()
        clients.wait_for(500)
    assert not clients.failures, clients.told()
    print(f"{front}: {clients.told()}")


@traffic
@needs_tensorflow
def test_a_model_stays_with_its_server(front: Front, both: Pair, tmp_path: Path) -> None:
    """And when that dies, the other models stay where they are."""
    for one in both:
        one.kill()
        one.start()
    with running(front, tmp_path, both, "by model") as place:
        rest, calls = RestClient(place), GrpcClient(place)
        for _ in range(5):
            for model in MODELS:
                assert rest.ask(model) == "" and calls.ask(model) == ""
        at = {protocol: [one.counts(protocol) for one in both] for protocol in ("rest", "grpc")}
        for first, second in at.values():
            assert first | second == dict.fromkeys(MODELS, 5) and first and second, at
        # NGINX hashes the ports of servers, too.
        assert front.name == "nginx" or at["rest"] == at["grpc"]
        assert set(at["rest"][1]).isdisjoint(at["rest"][0])
        both[0].kill()
        for model in MODELS:
            assert until(lambda model=model: not rest.ask(model) and not calls.ask(model), 30), model
        rest.close()
        calls.close()
        assert set(both[1].counts("rest")) == set(MODELS)
