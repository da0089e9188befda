"""The client's token: where it comes from, where it goes, and where it is never seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from http_stub import OK, answering

from servable import Client
from servable.client.transport.connection import Connection, with_token
from servable.errors import InvalidArgumentError, StatusError, UnauthenticatedError

Ask = Callable[..., Any]
TOKEN = "servable.me." + "S" * 43


def sent(stub: Any) -> str | None:
    headers: dict[str, str] = {name.lower(): value for name, value in stub.requests[-1][2].items()}
    return headers.get("authorization")


def test_it_is_sent_with_every_request(ask: Ask) -> None:
    with answering(OK) as stub:
        ask(stub.address, "status", "m", token=TOKEN)
        assert sent(stub) == f"Bearer {TOKEN}"


def test_the_environment_has_one_unless_told_otherwise(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVABLE_TOKEN", f" {TOKEN}\n")
    with answering(OK) as stub:
        for options, expected in [
            ({}, f"Bearer {TOKEN}"),
            ({"token": ""}, None),
            ({"token": "other"}, "Bearer other"),
            ({"headers": {"Authorization": "Basic x"}}, "Basic x"),
            ({"headers": {"X-Other": "y"}}, f"Bearer {TOKEN}"),
        ]:
            ask(stub.address, "status", "m", **options)
            assert sent(stub) == expected, options


@pytest.mark.parametrize("token", ["a b", "ä", "a\n", 7])
def test_what_is_no_token_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        Client("http://localhost:1", token=token)
    assert refused.value.message == "token is no token: expected printable ASCII without spaces"
    with pytest.raises(InvalidArgumentError, match="say the same"):
        with_token({"AUTHORIZATION": "x"}, TOKEN, {})
    with pytest.raises(InvalidArgumentError, match=r"^.*\$SERVABLE_TOKEN is no token"):
        with_token({}, None, {"SERVABLE_TOKEN": "a b"})


def test_it_is_seen_nowhere(ask: Ask) -> None:
    assert TOKEN not in repr(Connection(headers=with_token({}, TOKEN, {})))
    client = Client("http://localhost:1", token=TOKEN)
    assert TOKEN not in repr(client) + repr(vars(client))
    client.close()
    for reply in [(401, {"error": "no"}), (0, b""), (500, b"x")]:
        with answering(reply) as stub, pytest.raises(StatusError) as refused:
            ask(stub.address, "status", "m", token=TOKEN, retries=0)
        seen: BaseException | None = refused.value
        while seen is not None:
            assert TOKEN not in f"{seen!s} {seen!r}"
            seen = seen.__cause__ or seen.__context__


def test_redirects_are_not_followed(ask: Ask) -> None:
    """Not even to the same host: the token stays where it was sent."""
    with answering(OK) as elsewhere:

        class Redirecting(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(307)
                self.send_header("Location", elsewhere.address + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            with pytest.raises(StatusError, match="307"):
                ask(f"http://127.0.0.1:{server.server_port}", "status", "m", token=TOKEN)
            server.shutdown()
        assert elsewhere.requests == []


def test_a_refusal_is_an_error_of_its_own(ask: Ask) -> None:
    refusal = (401, json.dumps({"error": "A token is needed"}).encode())
    with answering(refusal) as stub, pytest.raises(UnauthenticatedError, match="A token is needed"):
        ask(stub.address, "status", "m")
