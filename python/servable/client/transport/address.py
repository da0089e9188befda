"""Parses server addresses.

| address                               | protocol                                   |
| ------------------------------------- | -------------------------------------- |
| ``http://host:8501``                  | REST; a path is put before ``/v1/…``   |
| ``https://host``                      | REST over TLS                          |
| ``http+unix:///run/servable.sock``    | REST on a Unix socket                  |
| ``grpc://host:8500``                  | gRPC; without a port: 8500             |
| ``grpcs://host:8500``                 | gRPC over TLS                          |
| ``unix:///run/servable.sock``         | gRPC on a Unix socket                  |
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from servable.client.text import check_text
from servable.errors import invalid_argument

GRPC_PORT = 8500
"""TensorFlow Serving's default."""

_EXPECTED = (
    "expected http://host:port or https://host:port (REST), grpc://host:port or grpcs://host:port (gRPC), "
    "unix:///path (gRPC on a Unix socket) or http+unix:///path (REST on one)"
)
_SOCKETS = {"http+unix": "rest", "unix": "grpc", "grpc+unix": "grpc"}
_HOSTS = {"http": "rest", "https": "rest", "grpc": "grpc", "grpcs": "grpc"}


@dataclass(frozen=True)
class Address:
    """A parsed address.

    protocol: ``rest`` or ``grpc``. target: for REST the URL before ``/v1/…``, for gRPC a name that gRPC
    resolves. socket: the path of the Unix socket for REST, or "".
    """

    protocol: str
    target: str
    tls: bool = False
    socket: str = ""


def parse_address(text: str) -> Address:
    """Parses an address. Raises ``InvalidArgumentError``."""
    check_text("the server's address", text)
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _SOCKETS:
        return _on_socket(_SOCKETS[scheme], rest, text)
    if not colon or scheme not in _HOSTS or not rest.startswith("//"):
        raise invalid_argument(f"{text!r} is no address of a server: {_EXPECTED}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise invalid_argument(f"{text!r} is no address of a server ({error}): {_EXPECTED}") from None
    if not host or parts.query or parts.fragment or (parts.path.strip("/") and scheme.startswith("grpc")):
        raise invalid_argument(f"{text!r} is no address of a server: {_EXPECTED}")
    if _HOSTS[scheme] == "rest":
        return Address("rest", text.rstrip("/"), scheme == "https")
    shown = f"[{host}]" if ":" in host else host
    return Address("grpc", f"{shown}:{GRPC_PORT if port is None else port}", scheme == "grpcs")


def _on_socket(protocol: str, rest: str, text: str) -> Address:
    path = rest.removeprefix("//")
    if not path.startswith("/") or "\0" in path:
        raise invalid_argument(f"{text!r} names no absolute path of a socket: {_EXPECTED}")
    if protocol == "rest":
        return Address("rest", "http://localhost", socket=path)
    return Address("grpc", f"unix:{path}")
