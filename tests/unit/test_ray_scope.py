"""Targets of requests below the route of an application of Ray Serve."""

from __future__ import annotations

from urllib.parse import quote, unquote, urljoin

import pytest
from hypothesis import given, settings, strategies as st

from servable.ray.scope import has_no_body, target, with_slash


@pytest.mark.parametrize(
    ("root", "raw", "query", "expected"),
    [
        ("", b"/v1/models/m:predict", b"", b"/v1/models/m:predict"),
        ("/shop", b"/shop/v1/models/m", b"x=1&y=%20", b"/v1/models/m?x=1&y=%20"),
        ("/shop/", b"/shop/v1/models/m", b"", b"/v1/models/m"),
        ("/shop", b"/shop", b"", b"/"),
        ("/shop", b"/shop/", b"", b"/"),
        ("/shop", b"/shopping/x", b"", b"/shopping/x"),
        ("/a b", b"/a%20b/v1/models/x%2Fy", b"", b"/v1/models/x%2Fy"),
        ("/shop", b"/shop/v1?x", b"x", b"/v1?x"),
        ("/shop", b"/shop/shop/x", b"", b"/shop/x"),
    ],
)
def test_the_route_is_left_out(root: str, raw: bytes, query: bytes, expected: bytes) -> None:
    scope = {"root_path": root, "raw_path": raw, "path": unquote(raw.decode()), "query_string": query}
    assert target(scope) == expected


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20))
def test_paths_without_their_raw_form_are_encoded_again(name: str) -> None:
    found = target({"root_path": "/r", "path": f"/r/v1/models/{name}", "query_string": b""})
    assert found == b"/v1/models/" + quote(name, safe="/:@!$&'()*+,;=~").encode()


@pytest.mark.parametrize(
    ("method", "root", "raw", "query", "expected"),
    [
        ("GET", "/shop", b"/shop", b"", "/shop/"),
        ("HEAD", "/shop", b"/shop", b"a=%2F&b", "/shop/?a=%2F&b"),
        ("GET", "/a b/c:d", b"/a%20b/c:d", b"", "/a%20b/c:d/"),
        ("POST", "/shop", b"/shop", b"", ""),
        ("GET", "/shop", b"/shop/", b"", ""),
        ("GET", "/shop", b"/shop/v1", b"", ""),
        ("GET", "/shop", b"/shopping", b"", ""),
        ("GET", "", b"/", b"", ""),
        ("GET", "/", b"/", b"", ""),
    ],
)
def test_a_browser_is_led_below_the_route(
    method: str, root: str, raw: bytes, query: bytes, expected: str
) -> None:
    scope = {
        "method": method,
        "root_path": root,
        "raw_path": raw,
        "path": unquote(raw.decode()),
        "query_string": query,
    }
    found = with_slash(scope).decode()
    for front in ("http://host", "https://host/below"):
        led = urljoin(front + raw.decode(), found) if found else ""
        assert led == (front + expected if expected else "")


def test_a_body_is_waited_for_where_one_may_come() -> None:
    def scope(method: str, *headers: tuple[bytes, bytes]) -> dict[str, object]:
        return {"method": method, "headers": list(headers)}

    assert has_no_body(scope("GET")) and has_no_body(scope("HEAD", (b"content-length", b"0")))
    assert not has_no_body(scope("POST")) and not has_no_body(scope("PUT", (b"content-length", b"0")))
    assert not has_no_body(scope("GET", (b"content-length", b"2")))
    assert not has_no_body(scope("GET", (b"transfer-encoding", b"chunked")))
