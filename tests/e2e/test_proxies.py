"""Behind proxies: the PROXY protocol and forwarding headers, from the trusted and from others."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from conftest import Served
from edge import LOCAL, PROXY, SIGNATURE, TCP4, UNIX, raw_version_2, reached, version_1, version_2
from http2 import PREFACE, SETTINGS, frame
from servers import ADMIN, MODELS, WITH_GRPC, serving, until
from stubs import METHODS, PATIENCE, floats_request
from wire import Wire, message

pytestmark = pytest.mark.needs_tensorflow

HALF = MODELS / "half_plus_two"
PREDICT = "/v1/models/half_plus_two:predict"
BODY = json.dumps({"instances": [1.0]}).encode()
TRUSTED, OTHERS = "--trusted_proxies=127.0.0.0/8,::1,unix", "--trusted_proxies=10.0.0.0/8"
BROKEN = {
    "a line that is none": b"PROXY TCP4 nonsense\r\n",
    "a family that is not known": b"PROXY SCTP 192.0.2.7 127.0.0.1 1 2\r\n",
    "a line that is too long": b"PROXY UNKNOWN " + b"x" * 200,
    "a line that does not end": b"PROXY TCP4 192.0.2.7 127.0.0.1 1",
    "a version that is not known": raw_version_2(0x31, TCP4, bytes(12)),
    "a command that is not known": raw_version_2(0x22, TCP4, bytes(12)),
    "addresses that are cut": raw_version_2(PROXY, TCP4, bytes(11)),
    "datagrams": raw_version_2(PROXY, 0x12, bytes(12)),
    "a header that is too long": SIGNATURE + bytes([PROXY, 0]) + b"\xff\xff",
    "a header that does not end": version_2("192.0.2.7")[:-1],
}
GOOD = {
    "version 1": (version_1("192.0.2.7"), "192.0.2.7:5555"),
    "version 1, IPv6": (version_1("2001:db8::7"), "[2001:db8::7]:5555"),
    "version 2": (version_2("192.0.2.7"), "192.0.2.7:5555"),
    "version 2, IPv6": (version_2("2001:db8::7"), "[2001:db8::7]:5555"),
    "with TLVs": (version_2("192.0.2.7", tlvs=b"\x04\x03\xe8" + bytes(1000)), "192.0.2.7:5555"),
    "from a Unix socket": (raw_version_2(PROXY, UNIX, bytes(216)), "unix"),
}
OWN = {
    "version 1, unknown": b"PROXY UNKNOWN\r\n",
    "version 2, local": version_2(command=LOCAL),
    "version 2, unspecified": version_2(tlvs=b"anything"),
}


class Proxied:
    """A server with an access log, as JSON."""

    def __init__(self, served: Served, log: Path) -> None:
        self.served, self._log = served, log
        self._asked = 0

    def line_after(self, ask: Callable[[str], object]) -> dict[str, Any]:
        """Returns the line of the request that ``ask`` makes with the identifier it is given."""
        self._asked += 1
        name = f"request-{self._asked}"
        ask(name)
        assert until(lambda: name in self._log.read_text())
        (line,) = [line for line in self._log.read_text().splitlines() if name in line]
        found: dict[str, Any] = json.loads(line)
        return found

    def rest(self, header: bytes = b"", /, **headers: str) -> dict[str, Any]:
        """Asks by REST after ``header``; returns the line."""

        def ask(name: str) -> None:
            with Wire(self.served) as wire:
                request = message("POST", PREDICT, BODY, X_Request_Id=name, **headers)
                assert wire.send(header + request).reply().status == 200

        return self.line_after(ask)

    def grpc(self, target: str, *metadata: tuple[str, str]) -> dict[str, Any]:
        """The same by gRPC."""

        def ask(name: str) -> None:
            with grpc.insecure_channel(target) as channel:
                assert predicted(channel, ("x-request-id", name), *metadata)

        return self.line_after(ask)


def predicted(channel: grpc.Channel, *metadata: tuple[str, str]) -> bytes:
    service, _, _ = METHODS["Predict"]
    method = channel.unary_unary(f"/tensorflow.serving.{service}/Predict")
    request = floats_request("half_plus_two", 1.0).SerializeToString()
    reply: bytes = method(request, metadata=metadata, timeout=PATIENCE)
    return reply


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxies")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def started(stack: ExitStack, folder: Path, name: str, *flags: str) -> Proxied:
    log = folder / f"{name}.log"
    to = ["--access_log=all", f"--access_log_file={log}", "--log_format=json"]
    fast = "--header_timeout_seconds=1"
    return Proxied(stack.enter_context(serving(HALF, WITH_GRPC, ADMIN, *to, fast, *flags)), log)


@pytest.fixture(scope="module")
def trusting(folder: Path) -> Iterator[Proxied]:
    """A server that believes this machine, and accepts the PROXY protocol."""
    with ExitStack() as stack:
        socket_path = f"--grpc_socket_path={folder / 'socket'}"
        yield started(stack, folder, "trusting", TRUSTED, "--proxy_protocol=accept", socket_path)


@pytest.fixture(scope="module")
def wary(folder: Path) -> Iterator[Proxied]:
    """A server that believes others."""
    with ExitStack() as stack:
        yield started(stack, folder, "wary", OTHERS, "--proxy_protocol=accept")


def connect(port: int | None) -> socket.socket:
    assert port is not None
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


# ---- the PROXY protocol


@pytest.mark.parametrize("case", GOOD)
def test_a_header_of_a_trusted_proxy_names_the_client(trusting: Proxied, case: str) -> None:
    header, client = GOOD[case]
    line = trusting.rest(header)
    assert line["peer"] == client and line["proxy"].startswith("127.0.0.1:")


@pytest.mark.parametrize("case", OWN)
def test_without_a_client_it_is_the_proxy_that_asks(trusting: Proxied, case: str) -> None:
    line = trusting.rest(OWN[case])
    assert line["peer"].startswith("127.0.0.1:") and "proxy" not in line


def test_a_header_may_come_in_pieces(trusting: Proxied) -> None:
    for header in (version_1("192.0.2.7"), version_2("192.0.2.7")):

        def ask(name: str, header: bytes = header) -> None:
            request = message("POST", PREDICT, BODY, X_Request_Id=name)
            with Wire(trusting.served) as wire:
                for byte in header:
                    wire.send(bytes([byte]))
                assert wire.send(request).reply().status == 200

        assert trusting.line_after(ask)["peer"] == "192.0.2.7:5555"


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_header_ends_the_connection(trusting: Proxied, case: str) -> None:
    before = reached(trusting.served, "proxy_protocol")
    for port in (trusting.served.rest_port, trusting.served.grpc_port):
        with connect(port) as sock:
            sock.sendall(BROKEN[case])
            assert is_closed(sock)
    assert reached(trusting.served, "proxy_protocol") == before + 2
    assert trusting.rest()["status"] == 200


def test_who_sends_none_is_served_where_it_is_accepted(trusting: Proxied) -> None:
    line = trusting.rest()
    assert line["peer"].startswith("127.0.0.1:") and "proxy" not in line
    assert trusting.grpc(trusting.served.grpc)["peer"].startswith("127.0.0.1:")
    with Wire(trusting.served) as wire:
        # Silent for longer than a header may take.
        wire.sock.settimeout(2)
        with pytest.raises(TimeoutError):
            wire.sock.recv(1)
        wire.sock.settimeout(PATIENCE)
        assert wire.send(message("POST", PREDICT, BODY)).reply().status == 200


def test_http2_begins_like_a_header_and_is_none(trusting: Proxied) -> None:
    with connect(trusting.served.grpc_port) as sock:
        for byte in PREFACE:
            sock.sendall(bytes([byte]))
        sock.sendall(frame(SETTINGS, 0, 0))
        assert sock.recv(9)[3] == SETTINGS


@pytest.mark.parametrize("header", [version_1("192.0.2.7"), version_2("192.0.2.7"), version_2(command=LOCAL)])
def test_who_is_not_trusted_must_not_send_one(wary: Proxied, header: bytes) -> None:
    before = reached(wary.served, "untrusted_proxy")
    for port in (wary.served.rest_port, wary.served.grpc_port):
        with connect(port) as sock:
            sock.sendall(header + message("GET", "/v1/models/half_plus_two"))
            assert is_closed(sock)
    assert reached(wary.served, "untrusted_proxy") == before + 2
    assert wary.rest()["peer"].startswith("127.0.0.1:")


def test_where_it_is_off_it_is_no_request(folder: Path) -> None:
    with ExitStack() as stack:
        served = started(stack, folder, "off", TRUSTED).served
        with Wire(served) as wire:
            reply = wire.send(version_1("192.0.2.7") + message("GET", "/v1/models/half_plus_two")).reply()
            assert reply.status == 400


def test_where_it_is_required_nobody_gets_in_without(folder: Path) -> None:
    with ExitStack() as stack:
        required = started(stack, folder, "required", TRUSTED, "--proxy_protocol=require")
        served = required.served
        assert required.rest(version_2("192.0.2.7"))["peer"] == "192.0.2.7:5555"
        assert required.rest(version_2(command=LOCAL))["peer"].startswith("127.0.0.1:")
        for sent in (message("GET", "/v1/models/half_plus_two"), b"PRI * HTTP/2.0\r\n", b""):
            before = reached(served, "proxy_protocol")
            for port in (served.rest_port, served.grpc_port):
                with connect(port) as sock:
                    sock.sendall(sent)
                    assert is_closed(sock)
            assert reached(served, "proxy_protocol") == before + 2


def test_where_it_is_required_only_trusted_proxies_get_in(folder: Path) -> None:
    with ExitStack() as stack:
        served = started(stack, folder, "closed", OTHERS, "--proxy_protocol=require").served
        for port in (served.rest_port, served.grpc_port):
            with connect(port) as sock:
                sock.sendall(version_1("192.0.2.7"))
                assert is_closed(sock)
        assert reached(served, "untrusted_proxy") == 2


def test_it_comes_before_tls(folder: Path, authority: Authority) -> None:
    certificate, key = authority.issue().write(folder, "server")
    flags = [TRUSTED, "--proxy_protocol=accept", f"--tls_cert_file={certificate}", f"--tls_key_file={key}"]
    with ExitStack() as stack:
        encrypted = started(stack, folder, "tls", *flags)

        def ask(name: str) -> None:
            with connect(encrypted.served.rest_port) as sock:
                sock.sendall(version_2("192.0.2.7"))
                with authority.trusting().wrap_socket(sock, server_hostname="localhost") as tls:
                    tls.sendall(message("POST", PREDICT, BODY, X_Request_Id=name))
                    assert tls.recv(12) == b"HTTP/1.1 200"

        assert encrypted.line_after(ask)["peer"] == "192.0.2.7:5555"


def test_each_client_of_a_proxy_has_its_own_number_of_connections(folder: Path) -> None:
    flags = [TRUSTED, "--proxy_protocol=accept", "--max_connections_per_peer=1"]
    with ExitStack() as stack:
        served = started(stack, folder, "shares", *flags).served
        request = message("POST", PREDICT, BODY)
        for sent, status in [
            (version_1("192.0.2.7"), 200),
            (version_1("192.0.2.8"), 200),
            (version_1("192.0.2.7"), 429),
            (version_1("2001:db8::1"), 200),
            (version_1("2001:db8::2"), 429),
            (b"", 200),
            (b"", 200),
        ]:
            wire = stack.enter_context(Wire(served))
            assert wire.send(sent + request).reply().status == status, sent


def test_a_proxy_may_come_by_a_unix_socket(trusting: Proxied, folder: Path) -> None:
    path = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(path)
        sock.sendall(version_1("192.0.2.7") + PREFACE + frame(SETTINGS, 0, 0))
        assert sock.recv(9)[3] == SETTINGS
    line = trusting.grpc(f"unix:{path}", ("x-forwarded-for", "192.0.2.9"))
    assert (line["peer"], line["proxy"]) == ("192.0.2.9", "unix")


# ---- headers of requests


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({"X_Forwarded_For": "192.0.2.7"}, "192.0.2.7"),
        ({"X_Forwarded_For": "6.6.6.6, 192.0.2.7, 127.0.0.2"}, "192.0.2.7"),
        ({"Forwarded": 'for=6.6.6.6, for="[2001:db8::7]:80";proto=https'}, "[2001:db8::7]:80"),
        ({"Forwarded": "for=192.0.2.7", "X_Forwarded_For": "192.0.2.7"}, "192.0.2.7"),
        ({"X_Forwarded_For": "192.0.2.7, unknown"}, None),
        ({"Forwarded": "for=_hidden"}, None),
        ({"Forwarded": 'for="192.0.2.7'}, None),
        ({"Forwarded": "for=6.6.6.6", "X_Forwarded_For": "192.0.2.7"}, None),
    ],
)
def test_a_trusted_proxy_names_the_client(
    trusting: Proxied, headers: dict[str, str], client: str | None
) -> None:
    metadata = [(name.replace("_", "-").lower(), value) for name, value in headers.items()]
    for line in (trusting.rest(**headers), trusting.grpc(trusting.served.grpc, *metadata)):
        if client is None:
            assert line["peer"].startswith("127.0.0.1:") and "proxy" not in line
        else:
            assert line["peer"] == client and line["proxy"].startswith("127.0.0.1:")


def test_of_many_lines_the_last_counts(trusting: Proxied) -> None:
    def ask(name: str) -> None:
        lines = b"\r\nX-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 192.0.2.7\r\n"
        request = message("POST", PREDICT, BODY, X_Request_Id=name).replace(b"\r\n", lines, 1)
        with Wire(trusting.served) as wire:
            assert wire.send(request).reply().status == 200

    assert trusting.line_after(ask)["peer"] == "192.0.2.7"


def test_who_is_not_trusted_names_nobody(wary: Proxied) -> None:
    forged = {"X_Forwarded_For": "192.0.2.7", "Forwarded": "for=192.0.2.7"}
    metadata = [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7")]
    for line in (wary.rest(**forged), wary.grpc(wary.served.grpc, *metadata)):
        assert line["peer"].startswith("127.0.0.1:") and "proxy" not in line


def test_a_proxy_may_stand_behind_another(trusting: Proxied) -> None:
    """The one before the connection names a trusted one, which names the client."""
    line = trusting.rest(version_1("127.0.0.9"), X_Forwarded_For="192.0.2.7")
    assert (line["peer"], line["proxy"]) == ("192.0.2.7", "127.0.0.9:5555")
    line = trusting.rest(version_1("192.0.2.8"), X_Forwarded_For="6.6.6.6")
    assert line["peer"] == "192.0.2.8:5555"
