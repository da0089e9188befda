"""Bad input and bad clients: a clear JSON error or a closed connection; the next good request is answered.

Every test ends with a good request to the same server (by the fixture ``server``) on all its I/O threads; a
server that died or hangs fails there.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served
from servers import FRIENDLY, MODELS, resident_megabytes, serving, until
from wire import Reply, Wire, ask, message, predict, wires

pytestmark = pytest.mark.needs_tensorflow

MEGABYTE = 1 << 20
LIMIT = 64 * MEGABYTE
CONNECTIONS = 4
PATH = "/v1/models/half_plus_two:predict"
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: test\r\n"
ONE = '{"instances": [1.0]}'
ANSWER = '{\n    "predictions": [2.5\n    ]\n}'
DEEP = 100_000


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Served]:
    models = [MODELS / name for name in ("half_plus_two", "echo", "pair", "loop")]
    flags = [f"--max_request_bytes={LIMIT}", "--rest_api_timeout_in_ms=20000"]
    with serving(*models, *flags) as served:
        yield served


@pytest.fixture
def server(shared_server: Served) -> Iterator[Served]:
    yield shared_server
    check_well(shared_server)


def check_well(served: Served) -> None:
    """Checks the answers on several persistent connections, and so on every I/O thread."""
    for _ in range(CONNECTIONS):
        with Wire(served) as wire:
            for _ in range(2):
                reply = wire.send(message("POST", PATH, ONE)).reply()
                assert (reply.status, reply.text) == (200, ANSWER)


# ---- bodies that end wrongly


@pytest.mark.parametrize(
    "sent",
    [
        "Content-Length: 100\r\n\r\n" + ONE,
        "Content-Length: 1\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n8\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
def test_a_truncated_body(server: Served, sent: str) -> None:
    with Wire(server) as wire:
        reply = wire.send(HEAD + sent).half_close().reply()
        assert reply.status == 400
        assert "could not be read to its end" in reply.error
        assert wire.closed()


@pytest.mark.parametrize("length", ["-1", "1x", "0x14", "", "99999999999999999999999", "20, 21"])
def test_a_length_that_is_no_length(server: Served, length: str) -> None:
    with Wire(server) as wire:
        reply = wire.send(f"{HEAD}Content-Length: {length}\r\n\r\n{ONE}").reply()
        assert reply.status == 400
        assert reply.error
        assert wire.closed()


def test_two_lengths_that_differ(server: Served) -> None:
    with Wire(server) as wire:
        reply = wire.send(f"{HEAD}Content-Length: 20\r\nContent-Length: 5\r\n\r\n{ONE}").reply()
        assert reply.status == 400 and reply.error
        assert wire.closed()


def test_a_length_that_is_too_short_ends_the_request_there(server: Served) -> None:
    """The rest is read as the next request, which is invalid."""
    with Wire(server) as wire:
        wire.send(f"{HEAD}Content-Length: 5\r\n\r\n{ONE}")
        first = wire.reply()
        assert (first.status, first.error) == (
            400,
            "JSON Parse error: Missing a closing quotation mark in string. at offset: 5",
        )
        second = wire.reply()
        assert second.status in (400, 501) and second.error
        assert wire.closed()


def test_length_and_chunks_at_once_do_not_smuggle(server: Served) -> None:
    """Both at once is how requests are smuggled past a proxy: the connection ends after the first answer."""
    body = f"14\r\n{ONE}\r\n0\r\n\r\n"
    both = f"{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
    with Wire(server) as wire:
        reply = wire.send(both).reply()
        assert (reply.status == 200 and reply.text == ANSWER) or (reply.status == 400 and reply.error)
        assert wire.closed()


def refusal(server: Served, sent: str) -> Reply:
    """Returns the error that answers ``sent`` and ends the connection."""
    with Wire(server) as wire:
        reply = wire.send(sent).reply()
        assert reply.error and wire.closed()
        return reply


@pytest.mark.parametrize(
    "chunks", ["zz\r\n{\r\n", "-1\r\n{\r\n", "FFFFFFFFFFFFFFFFF\r\n{\r\n", "1\r\n{}0\r\n\r\n"]
)
def test_broken_chunks(server: Served, chunks: str) -> None:
    assert refusal(server, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}").status == 400


@pytest.mark.parametrize("coding", ["gzip", "chunked, gzip", "identity, foo"])
def test_a_transfer_coding_without_an_end(server: Served, coding: str) -> None:
    assert 400 <= refusal(server, f"{HEAD}Transfer-Encoding: {coding}\r\n\r\n{ONE}").status <= 501


# ---- heads


@pytest.mark.parametrize(
    "head",
    [
        "GARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        "GET /v1/models/m\r\n\r\n",
        "GET /v1/models/m HTTP/9.9\r\n\r\n",
        "GET /v1/models/m HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /v1/models/m HTTP/1.1\r\nX: \x00\r\n\r\n",
        "GET /v1/models/m HTTP/1.1\r\nX y: 1\r\n\r\n",
        "GET /v1/models/a b HTTP/1.1\r\n\r\n",
        "GET /v1/models/\x01 HTTP/1.1\r\n\r\n",
        "GET /v1/models/{x} HTTP/1.1\r\n\r\n",
        "GET /v1/models/é HTTP/1.1\r\n\r\n",
        "GET /v1/models/%zz HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_a_broken_head(server: Served, head: str) -> None:
    assert 400 <= refusal(server, head).status <= 505


def test_a_good_request_before_a_broken_head_is_answered(server: Served) -> None:
    with Wire(server) as wire:
        wire.send(message("POST", PATH, ONE) + b"GARBAGE\r\n\r\n")
        assert wire.reply().text == ANSWER
        assert wire.reply().status == 400
        assert wire.closed()


@pytest.mark.parametrize(
    "request_line", ["TRACE /v1/models/m", "CONNECT host:80", "BREW /v1/models/m", "get /v1/models/m"]
)
def test_an_unknown_method(server: Served, request_line: str) -> None:
    assert refusal(server, f"{request_line} HTTP/1.1\r\nHost: test\r\n\r\n").status == 501


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_a_method_the_api_does_not_have(server: Served, method: str) -> None:
    reply = ask(server, method, PATH, ONE)
    assert (reply.status, reply.error) == (400, f"Malformed request: {method} {PATH}")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/favicon.ico", 404),
        ("/console", 404),
        ("/console/../index.html", 404),
        ("/v1", 404),
        ("/v3/models/half_plus_two", 404),
        ("//v1/models/half_plus_two", 404),
        ("/v1/", 400),
        ("/v1/models", 400),
        ("/v1/models/half_plus_two/", 400),
        ("/v1/models/half_plus_two/../half_plus_two", 400),
        ("/v1/models/nope", 404),
        ("/v1/models/%00", 404),
        ("/v1/models/%ff%fe", 404),
        ("/v1/models/half_plus_two?query", 404),
        ("/v1/models/" + "a" * 5000, 404),
        ("*", 404),
    ],
)
def test_an_unknown_path(server: Served, path: str, status: int) -> None:
    reply = ask(server, "GET", path)
    assert reply.status == status and reply.error


@pytest.mark.parametrize(
    "head",
    [
        "GET /v1/models/m HTTP/1.1\r\nX: " + "x" * 4 * MEGABYTE,
        "GET /v1/models/m HTTP/1.1\r\n" + "X: y\r\n" * 5000 + "\r\n",
        "GET /v1/models/" + "x" * 4 * MEGABYTE,
        "x" * 4 * MEGABYTE,
    ],
    ids=["header", "headers", "path", "no_line_at_all"],
)
def test_a_head_without_end(server: Served, head: str) -> None:
    """A status in JSON; or the connection is closed before the client has sent everything."""
    with Wire(server) as wire:
        if wire.send_what_it_takes(head.encode()):
            reply = wire.reply()
            assert reply.status in (400, 414, 431) and reply.error
            assert wire.closed()


def test_a_chunk_extension_without_end(server: Served) -> None:
    with Wire(server) as wire:
        extension = "Transfer-Encoding: chunked\r\n\r\n1;" + "x" * 4 * MEGABYTE
        if wire.send_what_it_takes((HEAD + extension).encode()):
            assert wire.reply().status == 400
            assert wire.closed()


# ---- JSON


def test_invalid_utf_8(server: Served) -> None:
    """Bytes are passed through, as in TensorFlow Serving; where JSON is required, they are refused."""
    passed = predict(server, "echo", b'{"instances": ["\xff\xfe"]}')
    assert passed.status == 200
    assert b"//4=" in passed.body  # in the output that is base64 because of its name
    broken = predict(server, "half_plus_two", b'{"instances": [\xff]}')
    assert (broken.status, broken.error) == (400, "JSON Parse error: Invalid value. at offset: 15")
    key = predict(server, "half_plus_two", b'{"inst\xffances": [1]}')
    assert (key.status, key.error) == (400, "Missing 'inputs' or 'instances' key")


@pytest.mark.parametrize(
    "body",
    [
        '{"instances": ' + "[" * DEEP + "1" + "]" * DEEP + "}",
        '{"inputs": {"x": ' + "[" * DEEP + "1" + "]" * DEEP + "}}",
        '{"instances": [' + '{"x": ' * DEEP + "1" + "}" * DEEP + "]}",
        '{"signature_name": ' + "[" * DEEP + "]" * DEEP + "}",
        "[" * DEEP,
        '{"a": ' * DEEP,
        '[{"a": ' * DEEP,
        '{"instances": ' + "[" * DEEP,
        "{" * DEEP,
    ],
    ids=["rows", "columns", "objects", "name", "open", "keys", "mixed", "open_rows", "braces"],
)
@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
def test_deep_nesting(server: Served, body: str, verb: str) -> None:
    reply = ask(server, "POST", f"/v1/models/half_plus_two:{verb}", body)
    assert reply.status == 400 and reply.error


def test_deep_nesting_where_nobody_looks(server: Served) -> None:
    reply = predict(server, "half_plus_two", '{"instances": [1], "more": ' + "[" * DEEP + "]" * DEEP + "}")
    assert (reply.status, reply.text) == (200, ANSWER)


@pytest.mark.parametrize("model", ["half_plus_two", "echo"])
@pytest.mark.parametrize("rank", [1, 8, 254, 255, 256, 999])
def test_tensors_of_many_dimensions(server: Served, model: str, rank: int) -> None:
    """A rank above 254 makes TensorFlow end the process; 254 works."""
    leaf = "1" if model == "half_plus_two" else '"a"'
    reply = predict(server, model, '{"inputs": ' + "[" * rank + leaf + "]" * rank + "}")
    if rank <= 254:
        assert reply.status == 200
    else:
        assert reply.status == 400 and reply.error


@pytest.mark.parametrize(
    ("literal", "status"),
    [
        ("9" * 32 * MEGABYTE, 400),
        ("0." + "9" * 32 * MEGABYTE, 200),
        ("1e" + "9" * 32 * MEGABYTE, 400),
        ("1e-" + "9" * 32 * MEGABYTE, 200),
        ("-" * 32 * MEGABYTE, 400),
        ('"' + "9" * 32 * MEGABYTE + '"', 400),
        ('{"b64": "' + "A" * 32 * MEGABYTE + '"}', 400),
        ("[" + "[]," * 10 * MEGABYTE + "[]]", 200),
        ("[" + "1," * 16 * MEGABYTE + '"x"]', 400),
    ],
    ids=["digits", "fraction", "exponent", "tiny", "minus", "string", "base64", "empty_lists", "array"],
)
def test_huge_values(server: Served, literal: str, status: int) -> None:
    reply = predict(server, "half_plus_two", f'{{"inputs": {literal}}}')
    assert reply.status == status
    assert status == 200 or reply.error


def test_many_members(server: Served) -> None:
    members = ",".join(f'"k{number}":1' for number in range(2_000_000))
    reply = predict(server, "half_plus_two", "{" + members + "}")
    assert (reply.status, reply.error) == (400, "Missing 'inputs' or 'instances' key")
    extra = predict(server, "half_plus_two", '{"inputs": {' + members + ', "x": 1}}')
    assert (extra.status, extra.text) == (200, '{\n    "outputs": 2.5\n}')


def test_a_context_that_is_repeated_for_many_examples(server: Served) -> None:
    """100 kB times 100,000 examples would be 10 GB."""
    context = '"context": {"y": "' + "y" * 100_000 + '"}'
    body = f'{{{context}, "examples": [' + ",".join(["{}"] * 100_000) + "]}"
    reply = ask(server, "POST", "/v1/models/half_plus_two:classify", body)
    assert reply.status == 400 and reply.error


# ---- size


def _too_large(reply: Reply) -> bool:
    return reply.status == 413 and f"larger than {LIMIT} bytes" in reply.error


def test_a_body_that_announces_too_much(server: Served) -> None:
    with Wire(server) as wire:
        assert _too_large(wire.send(f"{HEAD}Content-Length: {LIMIT + 1}\r\n\r\n").half_close().reply())


def test_a_body_that_asks_before_it_sends_too_much(server: Served) -> None:
    with Wire(server) as wire:
        wire.send(f"{HEAD}Expect: 100-continue\r\nContent-Length: {LIMIT + 1}\r\n\r\n")
        assert _too_large(wire.reply())


def test_a_body_that_sends_too_much(server: Served) -> None:
    """The answer reaches a client that sends everything before it reads, as most libraries do."""
    assert _too_large(ask(server, "POST", PATH, b" " * (LIMIT + MEGABYTE)))


def test_chunks_that_send_too_much(server: Served) -> None:
    with Wire(server) as wire:
        chunk = b"100000\r\n" + b" " * MEGABYTE + b"\r\n"
        sent = (
            (HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode()
            + chunk * (LIMIT // MEGABYTE + 1)
            + b"0\r\n\r\n"
        )
        assert _too_large(wire.send(sent).reply())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/models/half_plus_two:predic", 400), ("POST", "/nope", 404), ("PUT", PATH, 400)],
)
def test_an_early_refusal_reaches_a_client_that_is_still_sending(
    server: Served, method: str, path: str, status: int
) -> None:
    reply = ask(server, method, path, b" " * 8 * MEGABYTE)
    assert reply.status == status and reply.error


@pytest.mark.parametrize("size", [3, 8 * MEGABYTE])
def test_a_get_with_a_body(server: Served, size: int) -> None:
    with Wire(server) as wire:
        for _ in range(2):  # the connection survives it
            reply = wire.send(message("GET", "/v1/models/half_plus_two", b"z" * size)).reply()
            assert reply.status == 200


EMPTY = "JSON Parse error: The document is empty"


def _gzip_cases() -> dict[str, bytes]:
    good = gzip.compress(ONE.encode())
    spaces = gzip.compress(b" " * (LIMIT + MEGABYTE), 9)
    return {
        "bomb": spaces,
        "bomb_that_says_it_is_small": spaces[:-4] + b"\x01\0\0\0",
        "small_that_says_it_is_large": good[:-4] + b"\xff\xff\xff\x7f",
        "wrong_checksum": good[:-8] + b"\0\0\0\0" + good[-4:],
        "truncated": good[:-9],
        "two_members": good + good,
        "header_without_end": b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * MEGABYTE,
        "not_gzip": ONE.encode(),
        "nothing": b"",
    }


@pytest.mark.parametrize(("name", "packed"), _gzip_cases().items(), ids=list(_gzip_cases()))
def test_gzip_bombs_and_damage(server: Served, name: str, packed: bytes) -> None:
    reply = ask(server, "POST", PATH, packed, Content_Encoding="gzip")
    if "bomb" in name:
        # TensorFlow Serving has no such limit, but one of 100 MiB.
        said = f"The request's body is larger than {LIMIT} bytes once it is unpacked: "
        assert reply.status == 413 and reply.error.startswith(said), name
    else:
        assert (reply.status, reply.error) == (400, EMPTY), name


def test_a_gzip_bomb_within_the_limit(server: Served) -> None:
    packed = gzip.compress(b'{"signature_name": "nope", "inputs": [' + b"0," * (LIMIT // 2 - 64) + b"0]}", 9)
    assert len(packed) < MEGABYTE
    reply = ask(server, "POST", PATH, packed, Content_Encoding="gzip")
    assert (reply.status, reply.error) == (400, 'Serving signature name: "nope" not found in signature def')


def test_one_gzip_inside_another_is_unpacked_once(server: Served) -> None:
    twice = gzip.compress(gzip.compress(ONE.encode()))
    reply = ask(server, "POST", PATH, twice, Content_Encoding="gzip")
    assert (reply.status, reply.error) == (400, "JSON Parse error: Invalid value. at offset: 0")


# ---- clients that do not do their part


def test_half_open_clients(server: Served) -> None:
    """Hundreds of connections that stop halfway affect no others."""
    before = resident_megabytes(server)
    stages = [
        b"",
        b"POST",
        HEAD.encode(),
        f"{HEAD}Content-Length: {MEGABYTE}\r\n\r\n{{".encode(),
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode(),
    ]
    with wires(server, stages * 80):
        check_well(server)
        grown = resident_megabytes(server) - before
    assert grown < 60, f"400 waiting connections took {grown:.0f} MB"


def test_more_waiting_clients_than_a_shell_allows_files() -> None:
    """A shell's limit is a soft one, which a server of many connections raises to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1000:
        pytest.skip(f"only {hard} files may be open here")
    command = ("sh", "-c", 'ulimit -Sn 200; exec "$@"', "sh", *FRIENDLY)
    with serving(MODELS / "half_plus_two", command=command) as served, wires(served, [b"GET"] * 300):
        check_well(served)


def test_a_half_open_client_is_served_when_it_goes_on(server: Served) -> None:
    with Wire(server) as wire:
        wire.send(f"{HEAD}Content-Length: {len(ONE)}\r\n\r\n{ONE[:7]}")
        check_well(server)
        assert wire.send(ONE[7:]).reply().text == ANSWER


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_half_closes_is_answered(server: Served, version: str) -> None:
    """It announced the end of its data, not that it left (``nc -N`` and scripts do so)."""
    for _ in range(20):
        with Wire(server) as wire:
            wire.send(message("POST", PATH, ONE).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
            assert wire.half_close().reply().text == ANSWER
            assert wire.closed()


def test_a_client_that_does_not_read(server: Served) -> None:
    """Its answer of some 100 MB waits for it, without delaying others."""
    body = '{"signature_name": "fill", "inputs": 3000000}'
    with Wire(server) as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.send(message("POST", "/v1/models/loop:predict", body))
        check_well(server)
        assert wire.sock.recv(8) == b"HTTP/1.1"  # it has been computed
        check_well(server)


def test_clients_that_leave_while_their_model_runs(server: Served) -> None:
    """Many more than there are threads; their runs must not delay a good request."""
    for _ in range(100):
        with Wire(server) as wire:
            wire.send(message("POST", "/v1/models/loop:predict", '{"inputs": 20000}'))
    reply = predict(server, "loop", {"inputs": 3})
    assert (reply.status, json.loads(reply.body)) == (200, {"outputs": 3})


LEAVERS = 20


def reset(wire: Wire) -> None:
    """Closes with a reset, which the server notices at once."""
    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    wire.sock.close()


def test_clients_that_leave_take_their_queued_calls_with_them(tmp_path: Path) -> None:
    """One thread is busy with calls waiting behind it: only those run whose clients still wait."""
    config = tmp_path / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    path, slow = "/v1/models/loop:predict", '{"inputs": 100000}'
    flags = (f"--monitoring_config_file={config}", "--compute_threads=1", "--run_in=pool")
    count = f'request_count{{model_name="loop",status="CANCELLED"}} {LEAVERS}'
    with serving(MODELS / "loop", *flags) as served, Wire(served) as first, Wire(served) as last:
        first.send(message("POST", path, slow))
        for number in range(LEAVERS):
            with Wire(served) as leaver:
                leaver.send(message("POST", path, slow))
                if number % 2:
                    reset(leaver)
        last.send(message("POST", path, '{"inputs": 3}')).half_close()
        page = "/monitoring/prometheus/metrics"
        assert until(lambda: count in ask(served, "GET", page).body.decode())
        assert first.reply().text == '{\n    "outputs": 100000\n}'
        assert last.final_reply().text == '{\n    "outputs": 3\n}'
        ran = re.search(r"runtime_latency_count{.*} (\d+)", ask(served, "GET", page).body.decode())
        # One that overtook the first call may have run, too.
        assert ran and int(ran[1]) in (2, 3)


def test_clients_that_reset_their_connection(server: Served) -> None:
    for sent in (b"POST", HEAD.encode(), message("POST", PATH, ONE), message("POST", PATH, ONE) * 50):
        reset(Wire(server).send(sent))


# ---- runs without end


ENDLESS = '{"inputs": 1000000000000000}'


@pytest.mark.parametrize("short_runs_first", [0, 50])
def test_runs_without_end_are_ended(short_runs_first: int) -> None:
    """More of them than there are threads, on a model that was quick before: each gets its 504 and ends.

    An endless one would hold a thread, and the last requests would not be answered.
    """
    flags = ["--rest_api_timeout_in_ms=2000", "--io_threads=2", "--compute_threads=2"]
    with serving(MODELS / "loop", MODELS / "half_plus_two", *flags) as served:
        for _ in range(short_runs_first):
            assert predict(served, "loop", {"inputs": 0}).status == 200
        with wires(served, [message("POST", "/v1/models/loop:predict", ENDLESS)] * 6) as clients:
            assert ask(served, "GET", "/v1/models/loop").status == 200
            replies = [client.reply() for client in clients]
        assert [reply.status for reply in replies] == [504] * 6
        assert all(reply.error for reply in replies)
        assert until(lambda: predict(served, "loop", {"inputs": 3}).status == 200)
        check_well(served)


# ---- memory


def _settled(served: Served) -> bool:
    """Returns whether little memory is held beyond that of the models.

    Sends a request, which may free some.
    """
    predict(served, "half_plus_two", ONE)
    return resident_megabytes(served) < 360


def test_memory_comes_back(server: Served) -> None:
    bodies = (f'{{"inputs": [{",".join([value] * 3_000_000)}]}}' for value in ("1.5", "1e30", "-0.25", "[]"))
    with wires(server, (message("POST", PATH, body) for body in bodies)) as clients:
        assert [client.reply().status for client in clients] == [200] * 4
    assert until(lambda: _settled(server)), f"{resident_megabytes(server):.0f} MB are still resident"


def test_memory_of_refused_requests_comes_back(server: Served) -> None:
    body = '{"inputs": [' + "1," * (LIMIT // 2 - 64) + '"x"]}'
    assert predict(server, "half_plus_two", body).status == 400
    assert until(lambda: _settled(server)), f"{resident_megabytes(server):.0f} MB are still resident"


# ---- up to the default limit


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    os.environ.get("SERVABLE_TEST_GIGABYTE", "") in ("", "0"),
    reason="takes minutes and 12 GB: set SERVABLE_TEST_GIGABYTE=1",
)
@pytest.mark.parametrize(
    ("start", "filling", "end"),
    [('{"inputs": ', "9", "}"), ('{"inputs": [', "1,", '"x"]}'), ('{"inputs": ["', "x", '"]}')],
    ids=["number", "array", "string"],
)
def test_a_gigabyte(start: str, filling: str, end: str) -> None:
    # On a busy machine, such a body takes longer than the default time limit.
    with serving(MODELS / "half_plus_two", "--rest_api_timeout_in_ms=0") as served:
        body = start + filling * ((1 << 30) // len(filling)) + end
        with Wire(served, patience=600.0) as wire:
            reply = wire.send(message("POST", PATH, body)).reply()
        assert reply.status == 400 and reply.error[:11] in ("JSON Parse ", "JSON Value:")
        check_well(served)
        assert until(lambda: _settled(served)), f"{resident_megabytes(served):.0f} MB are still resident"
