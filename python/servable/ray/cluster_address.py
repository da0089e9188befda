"""Addresses of Ray clusters: what one looks like, and whether somebody is there.

Ray itself tries an address for two minutes before it gives up, and says why in a log.
"""

from __future__ import annotations

import re
import socket

from servable.errors import UsageError
from servable.ray.models import shown

SECONDS = 10.0
"""Longest wait for a connection."""
_HOST = r"\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s/:\[\]]+)"
_PLACE = re.compile(rf"(ray://)?({_HOST}):(?P<port>\d{{1,5}})")
_WORDS = ("", "auto", "local")


def checked(address: str, where: str) -> str:
    """Returns the address. Raises ``UsageError`` if it is none; schemes of others are left to Ray."""
    place = _PLACE.fullmatch(address)
    is_others = "://" in address and not address.startswith("ray://")
    is_place = place is not None and 1 <= int(place["port"]) <= 65535
    if not (is_place or is_others or address in _WORDS):
        raise UsageError(
            f"{where}: expected HOST:PORT of a head, ray://HOST:PORT, auto, or local, got {shown(address)}"
        )
    return address


def try_to_reach(address: str) -> None:
    """Connects to the host and port of an address, if it has them. Raises ``ConnectionError``."""
    place = _PLACE.fullmatch(address)
    if place is None:
        return
    try:
        socket.create_connection((place["v6"] or place["host"], int(place["port"])), SECONDS).close()
    except OSError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address}: {error.strerror or error}; expected what "
            "`ray start --head` prints, such as HOST:6379, or ray://HOST:10001 for Ray's client server"
        ) from None
