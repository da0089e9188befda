"""The server's edge: each limit is reached, answered and counted, and the next good client is served."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path

import grpc
import httpx
import pytest
from certificates import Authority
from conftest import Served
from edge import open_connections, reached
from http2 import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, Raw, frame, headers
from servers import ADMIN, MODELS, WITH_GRPC, admin_url, run_to_its_end, serving, until
from stubs import PATIENCE, call, floats_request, own_message
from wire import Wire, ask, message, predict

pytestmark = pytest.mark.needs_tensorflow

HALF = MODELS / "half_plus_two"
PREDICT = "/v1/models/half_plus_two:predict"
BODY = json.dumps({"instances": [1.0]}).encode()
GOOD = message("POST", PREDICT, BODY)
GOAWAY = 7
LIMITS = (
    "--header_timeout_seconds=1",
    "--transfer_grace_seconds=1",
    "--min_transfer_rate=1000",
    "--idle_timeout_seconds=2",
    "--max_header_bytes=8192",
    "--max_request_bytes=10000",
    "--grpc_channel_arguments=grpc.max_connection_idle_ms=2000",
)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(HALF, WITH_GRPC, ADMIN, *LIMITS) as served:
        yield served


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> list[str]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = authority.issue().write(folder, "server")
    return [f"--tls_cert_file={certificate}", f"--tls_key_file={key}"]


@pytest.fixture(autouse=True)
def answers_afterwards(served: Served) -> Iterator[None]:
    yield
    assert predict(served, "half_plus_two", {"instances": [1.0]}).status == 200


def ask_grpc(served: Served) -> float:
    with grpc.insecure_channel(served.grpc) as channel:
        reply = call(channel, "Predict", floats_request("half_plus_two", 1.0), own_message, PATIENCE)
    return float(reply.outputs["y"].float_val[0])


def is_let_in(served: Served) -> bool:
    """Returns whether gRPC has room for a connection, and then answers."""
    try:
        return ask_grpc(served) == 2.5
    except grpc.RpcError as refused:
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        return False


# ---- limits that are counted


def test_a_slow_head_is_counted(served: Served) -> None:
    before = reached(served, "header_time")
    with Wire(served) as wire:
        assert wire.send(GOOD[:20]).reply().status == 408
    with Raw(served) as raw:
        assert raw.open().send(frame(HEADERS, 0, 1, headers("/x"))).rest()
    with Raw(served) as silent:
        silent.rest()
    assert reached(served, "header_time") == before + 3
    assert ask_grpc(served) == 2.5


def test_a_slow_body_is_counted(served: Served) -> None:
    before = reached(served, "body_time")
    with Wire(served) as wire:
        assert wire.send(message("POST", PREDICT, None, Content_Length="2000")).reply().status == 408
    assert reached(served, "body_time") == before + 1
    path = "/tensorflow.serving.PredictionService/Predict"
    with Raw(served) as raw:
        raw.open().send(frame(HEADERS, END_HEADERS, 1, headers(path)))
        assert until(lambda: reached(served, "body_time") == before + 2)


def test_a_body_that_is_too_large_is_counted(served: Served) -> None:
    before = reached(served, "body_bytes")
    assert ask(served, "POST", PREDICT, b" " * 10_001).status == 413
    with grpc.insecure_channel(served.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        call(channel, "Predict", floats_request("half_plus_two", *[1.0] * 5000), own_message)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reached(served, "body_bytes") == before + 2


def test_large_headers_are_counted(served: Served) -> None:
    before = reached(served, "headers")
    reply = ask(served, "GET", "/v1/models/half_plus_two", Large="x" * 9000)
    assert (reply.status, "fewer or shorter" in reply.error) == (431, True)
    with grpc.insecure_channel(served.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        method(b"", metadata=[("large", "x" * 20_000)], timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reached(served, "headers") == before + 2


def test_an_idle_connection_is_closed_and_counted(served: Served) -> None:
    before = reached(served, "idle")
    with Wire(served) as silent, Wire(served) as asked:
        assert asked.send(GOOD).reply().status == 200
        assert silent.closed() and asked.closed()
    assert reached(served, "idle") == before + 2
    with Raw(served) as raw:
        kinds = [kind for kind, *_ in raw.open().frames()]
    assert GOAWAY in kinds
    assert reached(served, "idle") == before + 3


def test_a_flood_is_counted(served: Served) -> None:
    before = reached(served, "frames")
    with Raw(served) as raw:
        raw.open().send(frame(6, 0, 0, bytes(8)) * 3000).rest()
    assert until(lambda: reached(served, "frames") == before + 1)


def test_a_reply_that_is_not_taken_is_counted(served: Served) -> None:
    before = reached(served, "reply_time")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with sock:
        sock.connect(("127.0.0.1", served.rest_port))
        # Far more replies than the buffers between us hold.
        sock.settimeout(5)
        try:
            for _ in range(100_000):
                sock.sendall(message("GET", "/v1/models/half_plus_two/metadata") * 10)
        except OSError:
            pass
        assert until(lambda: reached(served, "reply_time") > before)


def test_the_administration_counts_too(served: Served) -> None:
    """Its times are fixed; its connections are counted with the others."""
    before = open_connections(served)
    host, port = admin_url(served).removeprefix("http://").rsplit(":", 1)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection((host, int(port))))
        assert until(lambda: open_connections(served) == before + 3)
    assert until(lambda: open_connections(served) == before)


def test_a_connection_that_gives_way_is_counted() -> None:
    with serving(HALF, ADMIN, "--max_connections=3") as served, ExitStack() as stack:
        first = stack.enter_context(Wire(served))
        others = [stack.enter_context(Wire(served)) for _ in range(3)]
        assert first.closed() and until(lambda: reached(served, "connections") == 1)
        for wire in others:
            assert wire.send(GOOD).reply().status == 200


def test_who_holds_an_old_connection_open_keeps_nobody_out() -> None:
    """What a client watches beyond the age of its connection may be closed as any other."""
    aged = "--grpc_channel_arguments=grpc.max_connection_age_ms=100"
    with serving(HALF, WITH_GRPC, "--max_connections=2", aged) as served, ExitStack() as stack:
        watch = frame(HEADERS, END_HEADERS, 1, headers("/grpc.health.v1.Health/Watch"))
        for _ in range(2):
            raw = stack.enter_context(Raw(served))
            raw.open().send(watch + frame(DATA, END_STREAM, 1, bytes(5)))
            kinds = [kind for kind, *_ in takewhile(lambda one: one[0] != GOAWAY, raw.frames())]
            assert DATA in kinds, "its answer, and then the end of its age"
        for _ in range(4):
            assert stack.enter_context(Wire(served)).send(GOOD).reply().status == 200


# ---- connections of one peer


def test_a_peer_has_only_so_many_connections() -> None:
    with serving(HALF, WITH_GRPC, ADMIN, "--max_connections_per_peer=2") as served, ExitStack() as stack:
        kept = [stack.enter_context(Wire(served)) for _ in range(2)]
        for wire in kept:
            assert wire.send(GOOD).reply().status == 200
        with Wire(served) as third:
            reply = third.send(GOOD).reply()
            assert reply.status == 429 and "--max_connections_per_peer" in reply.error
            assert (reply.headers["connection"], reply.headers["retry-after"]) == ("close", "1")
            assert third.closed()
        with Raw(served) as raw:
            told = raw.open().rest()
        assert told.startswith(b"HTTP/1.1 429 ") and b"--max_connections_per_peer" in told
        with grpc.insecure_channel(served.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(b"", timeout=PATIENCE)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert 3 <= reached(served, "connections_per_peer") < 10, "who was refused waits"
        for wire in kept:
            assert wire.send(GOOD).reply().status == 200
        kept[0].sock.close()
        assert until(lambda: predict(served, "half_plus_two", {"instances": [1.0]}).status == 200)
        assert until(lambda: is_let_in(served))


def test_with_tls_a_peer_with_too_many_gets_an_alert(tls: list[str], authority: Authority) -> None:
    flags = [WITH_GRPC, *tls, "--max_connections_per_peer=1"]
    with serving(HALF, *flags) as served:
        url = f"https://localhost:{served.rest_port}{PREDICT}"
        with httpx.Client(verify=authority.trusting()) as client:
            assert client.post(url, content=BODY).status_code == 200
            for port in (served.rest_port, served.grpc_port):
                with (
                    socket.create_connection(("127.0.0.1", port), timeout=30) as second,
                    pytest.raises(ssl.SSLError, match=r"(?i)access.denied"),
                ):
                    authority.trusting().wrap_socket(second, server_hostname="localhost")
            assert client.post(url, content=BODY).status_code == 200

        def is_answered() -> bool:
            try:
                return httpx.post(url, content=BODY, verify=authority.trusting()).status_code == 200
            except httpx.TransportError:
                return False

        assert until(is_answered)


def test_rest_over_http2_has_the_same_limits(tls: list[str], authority: Authority) -> None:
    flags = [*tls, "--max_header_bytes=8192", "--max_request_bytes=1000", "--idle_timeout_seconds=1"]
    with serving(HALF, *flags) as served:
        at = f"https://localhost:{served.rest_port}"
        with httpx.Client(base_url=at, verify=authority.trusting(), http2=True) as client:

            def count(limit: str) -> int:
                text = client.get("/metrics").text
                return int(text.split(f'servable_limits_reached_total{{limit="{limit}"}} ')[1].split()[0])

            reply = client.get("/v1/models/half_plus_two", headers={"large": "x" * 9000})
            assert (reply.status_code, reply.http_version) == (431, "HTTP/2")
            assert client.post(PREDICT, content=b" " * 1001).status_code == 413
            assert client.post(PREDICT, content=BODY).status_code == 200
            assert (count("headers"), count("body_bytes")) == (1, 1)
            with socket.create_connection(("127.0.0.1", served.rest_port), timeout=30) as sock:
                context = authority.trusting()
                context.set_alpn_protocols(["h2"])
                with context.wrap_socket(sock, server_hostname="localhost") as idle:
                    idle.sendall(PREFACE + frame(SETTINGS, 0, 0))
                    while idle.recv(1 << 16):
                        pass
            assert until(lambda: count("idle") >= 1)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--max_connections_per_peer=-1", "max_connections_per_peer"),
        ("--idle_timeout_seconds=-1", "idle_timeout_seconds"),
        ("--max_header_bytes=100", "max_header_bytes"),
        ("--trusted_proxies=10.0.0.1/8", "host bits set"),
        ("--trusted_proxies=proxy.example", "expects addresses, networks"),
        ("--proxy_protocol=accept", "needs --trusted_proxies"),
        ("--proxy_protocol=always", "proxy_protocol"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flag: str, said: str) -> None:
    done = run_to_its_end(HALF, flag)
    assert done.returncode != 0
    assert said in done.stderr, done.stderr


def test_who_comes_by_a_unix_socket_has_no_limit(tmp_path: Path) -> None:
    """A client behind a Unix socket has no address, and no limit of its own."""
    path = tmp_path / "s"
    with serving(HALF, f"--grpc_socket_path={path}", "--max_connections_per_peer=1") as served:
        assert served.rest_port
        for _ in range(3):
            with grpc.insecure_channel(f"unix:{path}") as one, grpc.insecure_channel(f"unix:{path}") as other:
                for channel in (one, other):
                    reply = call(channel, "Predict", floats_request("half_plus_two", 1.0), own_message)
                    assert reply.outputs["y"].float_val[0] == 2.5
