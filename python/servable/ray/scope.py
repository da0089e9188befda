"""What an ASGI scope says of a request, below the route of its application: as the client has sent it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

_KEPT = "/:@!$&'()*+,;=~"
"""What stands in paths as it is."""
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")


def target(scope: Mapping[str, Any]) -> bytes:
    """Returns path and query, percent-encoded."""
    route, path = _route_and_path(scope)
    if path == route or path.startswith(route + b"/"):
        path = path[len(route) :]
    query: bytes = scope.get("query_string", b"")
    return (path or b"/") + (b"?" + query if query else b"")


def with_slash(scope: Mapping[str, Any]) -> bytes:
    """Returns where a browser is to ask instead that asks for the route itself; b"" for any other request.

    The page there has links beside it, which without the slash lead beside the route. The reference is
    relative: a front may have the route under a path of its own.
    """
    route, path = _route_and_path(scope)
    if not route or path != route or scope["method"] not in ("GET", "HEAD"):
        return b""
    query: bytes = scope.get("query_string", b"")
    return b"./" + path.rpartition(b"/")[2] + b"/" + (b"?" + query if query else b"")


def _route_and_path(scope: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Returns the route of the application, without a slash at its end, and the path with it."""
    route = quote(scope.get("root_path", "").rstrip("/"), safe=_KEPT).encode()
    path: bytes = scope.get("raw_path") or quote(scope["path"], safe=_KEPT).encode()
    return route, path.partition(b"?")[0]


def has_no_body(scope: Mapping[str, Any]) -> bool:
    """Returns whether no body comes, so that none is waited for."""
    if scope["method"] not in _WITHOUT_BODY:
        return False
    headers = dict(scope["headers"])
    return b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0"
