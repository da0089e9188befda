"""The administration's HTTP server without models: access, and resistance to clients that block."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from servable.admin.http import AdminServer, Routes, _resolved
from servable.config.values import AdminOptions, CoreOptions
from servable.errors import StatusError

core = pytest.importorskip("servable._core")

PATIENCE = 30.0
MOST_CONNECTIONS = AdminOptions.max_connections
MOST_ANSWERED = AdminOptions.max_answered
HALF = b"GET /readyz HTTP/1.1\r\nX: "


class Models:
    """Stands in for ``Management``: lists no models, and unloads when allowed."""

    def __init__(self) -> None:
        self.may_unload = threading.Event()
        self.unloading = threading.Semaphore(0)
        self.unloaded: list[str] = []

    def models(self) -> dict[str, Any]:
        return {"models": []}

    def model(self, name: str) -> dict[str, Any]:
        if name == "defect":
            raise RuntimeError("broken")
        raise StatusError("NOT_FOUND", f"There is no model {name} \ud800", "look again")

    def config_text(self) -> str:
        return "# ü"

    def unload(self, name: str) -> dict[str, Any]:
        self.unloading.release()
        assert self.may_unload.wait(PATIENCE)
        self.unloaded.append(name)
        return {}


class Running:
    """An administration on a free port next to a server without models, and ways to talk to it."""

    def __init__(self, address: str = "127.0.0.1:0", token: str = "", seconds: float = PATIENCE) -> None:
        self.models = Models()
        management: Any = self.models
        self.core = core.Server(CoreOptions(rest_address="127.0.0.1:0", io_threads=1))
        self.core.start()
        options = AdminOptions(address, token, request_seconds=seconds)
        self.server = AdminServer(self.core, options, Routes(management).answer)
        self.port = int(self.server.address.rpartition(":")[2])
        self._open: list[socket.socket] = []
        self._closed = False

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def connect(self, content: bytes = b"") -> socket.socket:
        """Opens a connection that has sent ``content`` and no more."""
        one = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        self._open.append(one)
        one.sendall(content)
        return one

    def close(self) -> bool:
        """Returns whether it closed at all."""
        closing = threading.Thread(target=self.server.close, daemon=True)
        closing.start()
        closing.join(PATIENCE)
        self._closed = not closing.is_alive()
        return self._closed

    def end(self) -> None:
        self.models.may_unload.set()
        for one in self._open:
            one.close()
        if not self._closed:
            self.server.close()
        self.core.stop(PATIENCE)


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def starting(*arguments: str, **more: float) -> Running:
        started.append(Running(*arguments, **more))
        return started[-1]

    yield starting
    for one in started:
        one.end()


Start = Callable[..., Running]


def ended(connection: socket.socket) -> bool:
    """Reads to the end of the connection, which must come."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionError:
        pass
    return True


# ---- connections


def test_health_is_answered_whoever_else_is_connected(start: Start) -> None:
    admin = start()
    for content in (b"", HALF, b"GET /readyz HTTP/1.1\r\nContent-Length: 5\r\n\r\n"):
        for _ in range(MOST_CONNECTIONS + 2):
            admin.connect(content)
        assert admin.ask("/readyz") == (200, {"ready": True})


def test_the_connection_that_has_waited_longest_makes_room(start: Start) -> None:
    admin = start()
    first, *_ = [admin.connect(HALF) for _ in range(MOST_CONNECTIONS)]
    latest = admin.connect(HALF)
    assert ended(first)
    latest.sendall(b"\r\n\r\n")
    assert latest.recv(12) == b"HTTP/1.1 200"


def test_requests_that_are_answered_are_not_cut_and_leave_room_for_health(start: Start) -> None:
    admin = start()
    asking = [admin.connect(b"DELETE /admin/models/m HTTP/1.1\r\n\r\n") for _ in range(MOST_ANSWERED)]
    for _ in asking:
        assert admin.models.unloading.acquire(timeout=PATIENCE)
    status, fields = admin.ask("/admin/models")
    assert (status, fields["code"]) == (503, "UNAVAILABLE")
    for _ in range(MOST_CONNECTIONS):
        admin.connect(HALF)
    assert admin.ask("/livez") == (200, {"live": True})
    admin.models.may_unload.set()
    for one in asking:
        assert one.recv(12) == b"HTTP/1.1 200"
    assert admin.ask("/admin/models")[0] == 200


@pytest.mark.parametrize(
    "content", [b"", HALF, b"PUT /admin/models/m HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"]
)
def test_a_request_must_be_whole_in_time_however_it_trickles(start: Start, content: bytes) -> None:
    connection = start(seconds=0.3).connect(content)
    connection.settimeout(0.02)
    give_up, pauses = 500, 0
    while pauses < give_up:
        try:
            if content:
                connection.sendall(b"a")
            if not connection.recv(1000):
                break
        except TimeoutError:
            pauses += 1
        except ConnectionError:
            break
    assert pauses < give_up


def test_it_closes_whoever_is_connected(start: Start) -> None:
    admin = start()
    silent = [admin.connect() for _ in range(MOST_CONNECTIONS + 2)]
    half = [admin.connect(HALF) for _ in range(MOST_CONNECTIONS + 2)]
    assert admin.close()
    assert all(map(ended, silent + half))


def test_it_closes_while_a_request_is_answered_and_the_answer_comes(start: Start) -> None:
    admin = start()
    asking = admin.connect(b"DELETE /admin/models/m HTTP/1.1\r\n\r\n")
    assert admin.models.unloading.acquire(timeout=PATIENCE)
    assert admin.close()
    admin.models.may_unload.set()
    assert asking.recv(12) == b"HTTP/1.1 200"


def test_half_a_request_is_not_followed(start: Start) -> None:
    admin = start()
    admin.models.may_unload.set()
    asking = admin.connect(b"DELETE /admin/models/m HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthori")
    asking.shutdown(socket.SHUT_WR)
    assert ended(asking)
    assert admin.models.unloaded == []
    whole = admin.connect(b"DELETE /admin/models/m HTTP/1.1\r\n\r\n")
    whole.shutdown(socket.SHUT_WR)
    assert whole.recv(12) == b"HTTP/1.1 200"


def test_a_connection_may_ask_again(start: Start) -> None:
    connection = HTTPConnection("127.0.0.1", start().port, timeout=PATIENCE)
    for _ in range(3):
        connection.request("GET", "/admin/models")
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b'{\n  "models": []\n}\n')
    connection.close()


def test_a_path_that_is_none(start: Start) -> None:
    connection = start().connect(b"GET http://[ HTTP/1.1\r\n\r\n")
    assert connection.recv(12) == b"HTTP/1.1 400"


# ---- answers


def test_an_answer_has_the_type_of_its_content(start: Start) -> None:
    admin = start()
    for path, content_type, body in [
        ("/admin/models", "application/json", b'{\n  "models": []\n}\n'),
        ("/admin/config?format=text", "text/plain; charset=utf-8", "# ü".encode()),
    ]:
        for method in ("GET", "HEAD"):
            connection = HTTPConnection("127.0.0.1", admin.port, timeout=PATIENCE)
            connection.request(method, path)
            reply = connection.getresponse()
            assert (reply.status, reply.headers["Content-Type"]) == (200, content_type)
            assert reply.headers["Content-Length"] == str(len(body))
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.read() == (body if method == "GET" else b"")
            connection.close()


def test_an_error_says_what_it_is(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    admin = start()
    status, fields = admin.ask("/admin/models/%C3%BC%ff")
    assert (status, fields.pop("code"), fields.pop("hint")) == (404, "NOT_FOUND", "look again")
    assert fields.pop("error").startswith("There is no model ü\ufffd ")
    assert not fields
    assert admin.ask("/admin/models/defect") == (500, {"error": "RuntimeError: broken", "code": "INTERNAL"})
    assert "GET /admin/models/defect failed" in caplog.text


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"nul", b"9" * 5000])
def test_a_body_that_is_no_json(start: Start, body: bytes) -> None:
    connection = HTTPConnection("127.0.0.1", start().port, timeout=PATIENCE)
    connection.request("PUT", "/admin/models/m", body)
    reply = connection.getresponse()
    assert reply.status == 400
    assert json.loads(reply.read())["error"].startswith("The body is not JSON: ")
    connection.close()


@pytest.mark.parametrize("address", ["127.0.0.1:8502", "[::1]:8502"])
def test_an_ip_address_is_listened_on_as_it_is(address: str) -> None:
    assert _resolved(address) == address


def test_an_address_that_is_taken(start: Start) -> None:
    admin = start()
    with pytest.raises(StatusError) as error:
        AdminServer(admin.core, AdminOptions(admin.server.address), Routes(Models()).answer)  # type: ignore[arg-type]
    taken = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    text = f"Failed to start the administration at {admin.server.address}: {taken}"
    assert (error.value.code, error.value.message) == ("UNAVAILABLE", text)


def test_it_is_not_ready_before_the_ports_are_open_nor_when_the_end_has_begun(start: Start) -> None:
    admin = start()
    assert admin.ask("/readyz") == (200, {"ready": True})
    admin.core.drain()
    assert admin.ask("/readyz") == (503, {"ready": False})
    assert admin.ask("/livez") == (200, {"live": True})
    unopened = core.Server(CoreOptions())
    management: Any = Models()
    server = AdminServer(unopened, AdminOptions("127.0.0.1:0"), Routes(management).answer)
    with contextlib.closing(HTTPConnection(*_parts(server.address), timeout=PATIENCE)) as connection:
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 503
    assert server.close()


ASKS_WHEN_TOLD = """
import sys, http.client
sys.stdin.read(1)
for path in ("/livez", "/readyz"):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
    connection.request("GET", path)
    print(connection.getresponse().status)
"""


def test_health_is_answered_while_python_is_busy(start: Start) -> None:
    """Calls to C through ``PyDLL`` hold the GIL."""
    libc = ctypes.PyDLL(None)
    command = [sys.executable, "-c", ASKS_WHEN_TOLD, str(start().port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin and client.stdout
        pollfd = struct.pack("ihh", client.stdout.fileno(), select.POLLIN, 0)
        readable = ctypes.create_string_buffer(pollfd, len(pollfd))
        libc.write(client.stdin.fileno(), b"!", 1)
        assert libc.poll(readable, 1, int(1000 * PATIENCE)) == 1
        assert client.communicate(timeout=PATIENCE)[0].split() == [b"200", b"200"]


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


# ---- names


OURS = ["127.0.0.1", "127.0.0.1:8502", "[::1]:8502", "[::1]", "localhost", "LOCALHOST:1", "localhost."]
OTHERS = [
    "evil.example",
    "evil.example:8502",
    "localhost.evil.example",
    "127.0.0.1.evil.example:80",
    "",
    ":80",
]


@pytest.mark.parametrize("host", OURS)
def test_names_of_this_machine(start: Start, host: str) -> None:
    assert start().ask("/admin/models", Host=host)[0] == 200


@pytest.mark.parametrize("host", OTHERS)
def test_other_names_are_refused_without_a_token(start: Start, host: str) -> None:
    """A page under a name pointing to 127.0.0.1 has the same origin as a server there."""
    admin = start()
    for method in ("GET", "DELETE"):
        status, fields = admin.ask("/admin/models", method, Host=host)
        assert (status, fields["code"]) == (403, "PERMISSION_DENIED")
    for path in ("/livez", "/readyz"):
        assert admin.ask(path, Host=host)[0] == 200


def test_of_two_names_both_count(start: Start) -> None:
    connection = start().connect(
        b"GET /admin/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    )
    assert connection.recv(12) == b"HTTP/1.1 403"


def test_with_a_token_every_name_is_as_good(start: Start) -> None:
    admin = start("127.0.0.1:0", "secret")
    assert admin.ask("/admin/models", Host="evil.example")[0] == 401
    assert admin.ask("/admin/models", Host="models.example", Authorization="Bearer secret")[0] == 200


def test_the_configured_name_is_accepted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    found = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **more: Any) -> Any:
        return found("127.0.0.1" if host == "models.example" else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    admin = start("models.example:0")
    assert admin.ask("/admin/models", Host="models.example:1")[0] == 200
    assert admin.ask("/admin/models", Host="127.0.0.1")[0] == 200
    assert admin.ask("/admin/models", Host="other.example")[0] == 403


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("OPTIONS /admin/models HTTP/1.1", 405),
        ("TRACE / HTTP/1.1", 405),
        ("BREW /pot HTTP/1.1", 501),
        ("GET /admin/models HTTP/3.7", 400),
        ("GET /admin/models and more HTTP/1.1", 400),
        (f"GET /{'x' * 70_000} HTTP/1.1", 414),
    ],
)
def test_what_http_alone_refuses_is_json_too(start: Start, request_line: str, status: int) -> None:
    connection = start().connect(f"{request_line}\r\nHost: localhost\r\n\r\n".encode())
    received = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(1 << 16):
            received += more
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received
    assert b"Content-Type: application/json" in head
    assert (b"Allow: GET, HEAD, PUT, POST, PATCH, DELETE" in head) == (status == 405)
    answer = json.loads(body)
    assert answer["error"] and answer["code"]
