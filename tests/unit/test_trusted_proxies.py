"""The flags that say which proxies are trusted, and what they may say."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from servable.config.arguments import parse
from servable.config.proxies import trusted_proxies
from servable.errors import UsageError


def trusted(*argv: str) -> tuple[str, ...]:
    return trusted_proxies(parse(list(argv), serve=True))


def test_by_default_nobody_is_trusted() -> None:
    assert trusted() == ()


def test_addresses_networks_and_the_unix_socket_are_read() -> None:
    given = "--trusted_proxies=10.0.0.0/8, fd00::/8,192.0.2.7,,unix"
    assert trusted(given, "--trusted_proxies=::1") == (
        "10.0.0.0/8",
        "fd00::/8",
        "192.0.2.7/32",
        "unix",
        "::1/128",
    )


@pytest.mark.parametrize(
    "wrong", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", "Unix", "10.0.0", "fe80::1%lo"]
)
def test_anything_else_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="--trusted_proxies expects addresses"):
        trusted(f"--trusted_proxies={wrong}")


@pytest.mark.parametrize("protocol", ["accept", "require"])
def test_the_proxy_protocol_needs_somebody_who_is_trusted(protocol: str) -> None:
    with pytest.raises(UsageError, match="needs --trusted_proxies"):
        trusted(f"--proxy_protocol={protocol}")
    assert trusted(f"--proxy_protocol={protocol}", "--trusted_proxies=unix") == ("unix",)


@given(st.ip_addresses())
def test_every_address_is_one(address: object) -> None:
    (read,) = trusted(f"--trusted_proxies={address}")
    assert read.rpartition("/")[0] == str(address)
