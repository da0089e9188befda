"""The flags for browsers: gRPC-Web, and pages of which origins may use the REST port."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from servable.config.arguments import parse
from servable.config.browsers import allowed_origins, grpc_web
from servable.errors import UsageError


def origins(text: str) -> tuple[str, ...]:
    return allowed_origins(parse([f"--cors_allowed_origins={text}"], serve=True))


def test_by_default_nothing_is_done_for_browsers() -> None:
    arguments = parse([], serve=True)
    assert (allowed_origins(arguments), grpc_web(arguments, 8501)) == ((), False)
    assert origins("") == origins(" , ") == ()


def test_origins_are_separated_by_commas() -> None:
    given = "https://a.example, http://localhost:3000,,https://a.example,http://[::1]:80443"
    assert origins(given) == ("https://a.example", "http://localhost:3000", "http://[::1]:80443")
    assert origins("*") == ("*",)
    assert origins("capacitor://localhost,https://a.example:8443") == (
        "capacitor://localhost",
        "https://a.example:8443",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "a.example",
        "https://a.example/",
        "https://a.example/page",
        "https://A.example",
        "HTTPS://a.example",
        "https://*.example",
        "https://me@a.example",
        "https://a.example:",
        "https://a.example:123456",
        "https://",
        "null",
        "https://ä.example",
        "**",
    ],
)
def test_what_no_browser_sends_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="--cors_allowed_origins expects"):
        origins(wrong)


@pytest.mark.parametrize("wrong", ["https://a.example:443", "http://a.example:80"])
def test_a_port_that_browsers_leave_out_is_told(wrong: str) -> None:
    with pytest.raises(UsageError, match="browsers leave out the port"):
        origins(f"https://b.example,{wrong}")
    assert origins("http://a.example:443") == ("http://a.example:443",)


def test_all_and_some_are_not_both() -> None:
    with pytest.raises(UsageError, match=r"expects \* alone"):
        origins("*,https://a.example")


def test_grpc_web_takes_a_rest_port() -> None:
    arguments = parse(["--grpc_web"], serve=True)
    assert grpc_web(arguments, 0)
    with pytest.raises(UsageError, match="--rest_api_port"):
        grpc_web(arguments, None)


@given(st.text(max_size=30))
def test_what_is_accepted_comes_out_as_it_was_given(text: str) -> None:
    try:
        read = allowed_origins(parse([f"--cors_allowed_origins={text}"], serve=True))
    except UsageError:
        return
    assert all(one in text and (one == "*" or "://" in one) for one in read)
