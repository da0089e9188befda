"""Interprets ``--trusted_proxies``: which peers may say whom they speak for."""

from __future__ import annotations

import ipaddress

from servable.config.arguments import Arguments
from servable.errors import UsageError

UNIX = "unix"


def trusted_proxies(arguments: Arguments) -> tuple[str, ...]:
    """Returns addresses, networks and ``unix``, each as the core reads it."""
    given = [one.strip() for text in arguments.texts("trusted_proxies") for one in text.split(",")]
    proxies = tuple(_proxy(one) for one in given if one)
    protocol = arguments.text("proxy_protocol")
    if protocol != "off" and not proxies:
        raise UsageError(
            f"--proxy_protocol={protocol} needs --trusted_proxies: anybody could name any address otherwise"
        )
    return proxies


def _proxy(text: str) -> str:
    if text == UNIX:
        return text
    try:
        if "%" in text:
            raise ValueError("an interface is not part of it")
        return str(ipaddress.ip_network(text))
    except ValueError as why:
        raise UsageError(
            "--trusted_proxies expects addresses, networks such as 10.0.0.0/8 or fd00::/8, and unix, "
            f"got {text!r}: {why}"
        ) from None
