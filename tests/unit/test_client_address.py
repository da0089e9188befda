"""Addresses as people write them."""

from __future__ import annotations

import pytest

from servable.client.transport.address import Address, parse_address
from servable.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://host:8501", Address("rest", "http://host:8501")),
        ("http://host:8501/", Address("rest", "http://host:8501")),
        ("https://host/tf/", Address("rest", "https://host/tf", tls=True)),
        ("http+unix:///run/s.sock", Address("rest", "http://localhost", socket="/run/s.sock")),
        ("grpc://host", Address("grpc", "host:8500")),
        ("grpc://host:1/", Address("grpc", "host:1")),
        ("grpc://[::1]:1", Address("grpc", "[::1]:1")),
        ("grpcs://host:443", Address("grpc", "host:443", tls=True)),
        ("unix:///run/s.sock", Address("grpc", "unix:/run/s.sock")),
        ("unix:/run/s.sock", Address("grpc", "unix:/run/s.sock")),
        ("grpc+unix:///run/s.sock", Address("grpc", "unix:/run/s.sock")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:8501",
        "localhost",
        "ftp://host",
        "http:host",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://host/?a=b",
        "grpc://host:1/path",
        "unix://relative.sock",
        "http+unix:relative.sock",
        "unix:///cut/short\0.sock",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected http://host:port"):
        parse_address(text)


@pytest.mark.parametrize("text", ["http://host/\ud800", "grpc://\ud800", "unix:///\udcff"])
def test_text_that_is_not_unicode(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="the server's address holds"):
        parse_address(text)
