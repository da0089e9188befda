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
    route = quote(scope.get("root_path", "").rstrip("/"), safe=_KEPT).encode()
    path: bytes = scope.get("raw_path") or quote(scope["path"], safe=_KEPT).encode()
    path = path.partition(b"?")[0]
    if path == route or path.startswith(route + b"/"):
        path = path[len(route) :]
    query: bytes = scope.get("query_string", b"")
    return (path or b"/") + (b"?" + query if query else b"")


def has_no_body(scope: Mapping[str, Any]) -> bool:
    """Returns whether no body comes, so that none is waited for."""
    if scope["method"] not in _WITHOUT_BODY:
        return False
    headers = dict(scope["headers"])
    return b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0"
