"""The client over HTTP, against a stub: errors by status, retries, time limits, connections; both clients."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from http_stub import HANG_UP, METADATA, OK, SILENCE, answering

from servable import AsyncClient, Client
from servable.errors import (
    CODES,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    StatusError,
    UnavailableError,
    status_error,
)

Ask = Callable[..., Any]


def unused_address() -> str:
    """Returns an address without a listener: a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (409, "ABORTED"),
        (413, "RESOURCE_EXHAUSTED"),
        (429, "RESOURCE_EXHAUSTED"),
        (499, "CANCELLED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (418, "UNKNOWN"),
        (302, "UNKNOWN"),
    ],
)
def test_statuses(ask: Ask, status: int, code: str) -> None:
    with answering((status, {"error": "the text"})) as stub, pytest.raises(StatusError) as raised:
        ask(stub.address, "status", "m", retries=0)
    assert (raised.value.code, raised.value.message) == (code, "the text")
    assert type(raised.value) is type(status_error(code, ""))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Bad gateway</html>", "HTTP status 400: <html>Bad gateway</html>"),
        (b"", "HTTP status 400"),
        (b'{"error": 7}', 'HTTP status 400: {"error": 7}'),
        (b"[]", r"HTTP status 400: \[\]"),
        (b'{"error": "\xff"}', "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_errors_in_other_words(ask: Ask, body: bytes, words: str) -> None:
    with answering((400, body)) as stub, pytest.raises(InvalidArgumentError, match=words):
        ask(stub.address, "status", "m")


def test_a_success_that_is_none(ask: Ask) -> None:
    with answering((200, b"<html>hello</html>")) as stub, pytest.raises(InternalError, match="<html>hello"):
        ask(stub.address, "status", "m")


@pytest.mark.parametrize("first", [HANG_UP, (503, b"")], ids=["hung up", "503"])
def test_another_try(ask: Ask, first: tuple[int, bytes]) -> None:
    with answering(first, OK) as stub:
        assert ask(stub.address, "status", "m") == []
    assert len(stub.requests) == 2


def test_nobody_there(ask: Ask) -> None:
    with pytest.raises(UnavailableError, match="no answer from http://127"):
        ask(unused_address(), "status", "m", retries=1)


def test_a_server_that_says_nothing(ask: Ask) -> None:
    with answering(SILENCE) as stub, pytest.raises(DeadlineExceededError):
        ask(stub.address, "status", "m", timeout=0.2)
    assert len(stub.requests) == 1


def test_headers(ask: Ask) -> None:
    with answering(OK) as stub:
        ask(stub.address, "status", "m", headers={"Authorization": "Bearer x"})
    ((_, path, headers, _),) = stub.requests
    assert path == "/v1/models/m"
    assert headers["Authorization"] == "Bearer x"
    assert headers["Accept-Encoding"] == "identity"


def test_a_path_before_the_api(ask: Ask) -> None:
    with answering(OK) as stub:
        ask(stub.address + "/behind/a/proxy", "status", "m")
    assert stub.requests[0][1] == "/behind/a/proxy/v1/models/m"


def test_predict(ask: Ask) -> None:
    with answering((200, METADATA), (200, b'{"outputs": [2.5]}')) as stub:
        assert ask(stub.address, "predict", "m", 1).tolist() == [2.5]
    verb, path, headers, body = stub.requests[1]
    assert (verb, path) == ("POST", "/v1/models/m:predict")
    assert headers["Content-Type"] == "application/json"
    assert body == b'{"signature_name":"serving_default","inputs":[1.0]}'


def test_threads_share_connections_and_metadata() -> None:
    with answering((200, METADATA), (200, b'{"outputs": [2.5]}')) as stub, Client(stub.address) as client:
        client.predict("m", 1)
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: [answers.append(client.predict("m", 1)) for _ in range(20)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 80
    assert len(stub.requests) == 82
    assert stub.connections <= 4


def test_tasks_share_a_client() -> None:
    async def run(address: str) -> list[Any]:
        async with AsyncClient(address) as client:
            await client.predict("m", 1)
            return await asyncio.gather(*(client.predict("m", 1) for _ in range(20)))

    with answering((200, METADATA), (200, b'{"outputs": [2.5]}')) as stub:
        assert len(asyncio.run(run(stub.address))) == 20


def test_a_cancelled_task() -> None:
    async def run(address: str) -> None:
        async with AsyncClient(address) as client:
            await asyncio.wait_for(client.status("m"), 0.2)

    with answering(SILENCE) as stub, pytest.raises((TimeoutError, asyncio.TimeoutError)):
        asyncio.run(run(stub.address))


def test_other_limits_over_the_same_connections() -> None:
    with answering((200, METADATA), (200, b'{"outputs": [2.5]}'), OK, HANG_UP) as stub:
        with Client(stub.address) as client:
            client.predict("m", 1)
            hasty = client.with_limits(timeout=5).with_limits(retries=0)
            assert hasty.status("m") == []
            with pytest.raises(UnavailableError):
                hasty.status("m")
        assert len(stub.requests) == 4
        assert stub.connections == 1


def test_other_limits_keep_what_is_not_given() -> None:
    for make in (Client, AsyncClient):
        client = make("grpc://localhost", timeout=7, retries=2)
        given = [
            client.with_limits(),
            client.with_limits(timeout=None),
            client.with_limits(retries=0),
        ]
        limits = [(one._dialogue.limits.timeout, one._dialogue.limits.retries) for one in given]
        assert limits == [(7, 2), (None, 2), (7, 0)]


@pytest.mark.parametrize("address", ["http://localhost", "grpc://localhost"])
def test_a_closed_client(address: str) -> None:
    client = Client(address)
    client.close()
    with pytest.raises(FailedPreconditionError, match="closed"):
        client.status("m")

    async def run() -> None:
        client = AsyncClient(address)
        await client.close()
        await client.status("m")

    with pytest.raises(FailedPreconditionError, match="closed"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"retries": -1}, {"connect_timeout": 0}],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_options_that_make_no_sense(client: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(options))):
        client("http://localhost", **options)


def test_errors_travel_between_processes() -> None:
    for code in CODES[1:]:
        error = pickle.loads(pickle.dumps(status_error(code, "text", "hint")))
        assert (type(error), error.code, error.message, error.hint) == (
            type(status_error(code, "")),
            code,
            "text",
            "hint",
        )


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_name_that_no_host_can_have(client: Any) -> None:
    async def ask(asking: AsyncClient) -> None:
        await asking.status("m")

    asking = client(f"http://{'x' * 64}.example:1")
    with pytest.raises(UnavailableError, match=r"no host can have the name|no answer from"):
        asking.status("m") if client is Client else asyncio.run(ask(asking))
