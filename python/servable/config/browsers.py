"""Interprets ``--grpc_web`` and ``--cors_allowed_origins``: what the REST port does for browsers."""

from __future__ import annotations

import re

from servable.config.arguments import Arguments
from servable.errors import UsageError

ANY = "*"

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^\s/?#@:,*\[\]]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?")
_OWN_PORTS = {"http": "80", "https": "443"}


def grpc_web(arguments: Arguments, rest_port: int | None) -> bool:
    """Returns whether gRPC-Web is answered, which takes a REST port."""
    wanted = arguments.boolean("grpc_web")
    if wanted and rest_port is None:
        raise UsageError("--grpc_web is served on the REST port: open it with --rest_api_port")
    return wanted


def allowed_origins(arguments: Arguments) -> tuple[str, ...]:
    """Returns the origins whose pages may use the REST port, as browsers write them, or ``*`` alone."""
    given = [one.strip() for one in arguments.text("cors_allowed_origins").split(",")]
    origins = tuple(dict.fromkeys(_origin(one) for one in given if one))
    if ANY in origins and len(origins) > 1:
        raise UsageError(f"--cors_allowed_origins expects * alone, or origins, got both: {','.join(origins)}")
    return origins


def _origin(text: str) -> str:
    """Refuses what no browser would send: it would never be allowed, without anybody noticing."""
    if text == ANY:
        return text
    found = _ORIGIN.fullmatch(text)
    if not found or text != text.lower() or not text.isascii():
        raise UsageError(
            "--cors_allowed_origins expects *, or origins as browsers write them, such as https://a.example "
            f"or http://localhost:3000 (lower case, no path, no slash at the end), got {text!r}"
        )
    if found["port"] and _OWN_PORTS.get(text.partition(":")[0]) == found["port"]:
        raise UsageError(
            f"--cors_allowed_origins: browsers leave out the port {found['port']}, write "
            f"{text.rpartition(':')[0]} for {text}"
        )
    return text
