"""Sockets from elsewhere: which can be used, and which port each is for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from servable.config.values import AdminOptions, CoreOptions, LifecycleOptions, LoadOptions, ServerConfig
from servable.errors import StatusError
from servable.serving import inherited


class Sockets(ExitStack):
    """Makes sockets, and closes them at the end."""

    def tcp(self, host: str = "127.0.0.1") -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return self.enter_context(socket.create_server((host, 0), family=family))

    def unix(self, path: Path) -> socket.socket:
        one = self.enter_context(socket.socket(socket.AF_UNIX))
        one.bind(str(path))
        one.listen()
        return one


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with Sockets() as made:
        yield made


def port(one: socket.socket) -> int:
    number = one.getsockname()[1]
    assert isinstance(number, int)
    return number


def test_what_is_wanted_follows_from_the_configuration() -> None:
    core = CoreOptions(rest_address="[::]:8501", grpc_address=None, grpc_socket_path="/s")
    given = ServerConfig((), core, LoadOptions(), LifecycleOptions(), admin=AdminOptions("127.0.0.1:1"))
    assert inherited.wanted(given) == {"rest": "[::]:8501", "grpc_socket": "/s", "admin": "127.0.0.1:1"}


def test_a_listening_socket_is_used_and_not_inherited_by_children(sockets: Sockets) -> None:
    one = sockets.tcp()
    copy = os.dup(one.fileno())
    os.set_inheritable(copy, True)
    with inherited.listening(copy, "LISTEN_FDS") as same:
        assert same.getsockname() == one.getsockname()
        assert not os.get_inheritable(copy)


def test_other_descriptors_are_refused(sockets: Sockets, tmp_path: Path) -> None:
    file = (tmp_path / "file").open("w")
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    quiet = socket.socket()
    client = socket.create_connection(sockets.tcp().getsockname())
    closed = os.dup(file.fileno())
    os.close(closed)
    for descriptor, text in [
        (file.fileno(), "no socket"),
        (datagrams.detach(), "one of the type SOCK_DGRAM"),
        (quiet.detach(), "one that does not listen"),
        (client.detach(), "one that does not listen"),
        (closed, "Bad file descriptor"),
    ]:
        with pytest.raises(StatusError) as error:
            inherited.listening(descriptor, "LISTEN_FDS")
        expected = f"LISTEN_FDS expects a listening stream socket as descriptor {descriptor}, got {text}"
        assert error.value.message == expected
    file.close()


def test_names_decide_and_otherwise_addresses(sockets: Sockets, tmp_path: Path) -> None:
    rest, grpc, admin = sockets.tcp(), sockets.tcp(), sockets.tcp()
    unix = sockets.unix(tmp_path / "s")
    wanted = {
        "rest": f"0.0.0.0:{port(rest)}",
        "grpc": "0.0.0.0:1",
        "grpc_socket": str(tmp_path / "s"),
        "admin": f"127.0.0.1:{port(admin)}",
    }
    given = [("", admin), ("", rest), ("grpc", grpc), ("", unix)]
    expected = {"rest": rest, "grpc": grpc, "grpc_socket": unix, "admin": admin}
    assert inherited.by_port(given, wanted) == expected
    given = [("admin", admin), ("rest", rest), ("grpc", grpc), ("grpc-unix", unix)]
    assert inherited.by_port(given, wanted) == expected


def test_sockets_for_nothing_are_refused(sockets: Sockets, tmp_path: Path) -> None:
    one, other, unix = sockets.tcp(), sockets.tcp(), sockets.unix(tmp_path / "s")
    at = f"127.0.0.1:{port(one)}"
    wanted = {"rest": "[::]:8501", "grpc": "[::]:8500"}
    for given, text, hint in [
        ([("http", one)], "a socket of the name 'http'", "knows rest, grpc, grpc-unix, admin"),
        ([("admin", one)], f"a socket at {at} for the administration, which is off", "set --admin_address"),
        (
            [("", one)],
            f"at {at}, where nothing is to be served; there are REST at [::]:8501, gRPC at [::]:8500",
            "FileDescriptorName=rest|grpc|grpc-unix|admin",
        ),
        ([("rest", one), ("rest", other)], "two sockets for REST", "serves IPv4, too"),
        ([("rest", unix)], "for REST, which is of another kind", ""),
    ]:
        with pytest.raises(StatusError) as error:
            inherited.by_port(given, wanted)
        assert text in error.value.message
        assert hint in error.value.hint


@pytest.mark.parametrize(
    ("host", "where", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:{port}", True),
        ("127.0.0.1", "127.0.0.1:0", True),
        ("127.0.0.1", "localhost:{port}", True),
        ("127.0.0.1", "0.0.0.0:{port}", False),
        ("0.0.0.0", "[::]:{port}", True),
        ("127.0.0.1", "127.0.0.1:1", False),
    ],
)
def test_where_a_socket_is(sockets: Sockets, host: str, where: str, expected: bool) -> None:
    one = sockets.tcp(host)
    assert inherited.is_at(one, where.format(port=port(one))) == expected


def test_of_another_server_what_fits_is_taken(sockets: Sockets) -> None:
    rest, grpc, admin = sockets.tcp(), sockets.tcp(), sockets.tcp()
    given = {"rest": rest, "grpc": grpc, "admin": admin}
    wanted = {"rest": f"127.0.0.1:{port(rest)}", "grpc": "127.0.0.1:1"}
    taken, said = inherited.matching(given, wanted)
    assert taken == {"rest": rest}
    assert said == [
        f"gRPC was at 127.0.0.1:{port(grpc)} and is at 127.0.0.1:1 now: clients of the first are refused",
        f"the administration was at 127.0.0.1:{port(admin)} and is off now: its clients are refused",
    ]


def test_of_another_server_the_same_port_of_another_host_is_refused(sockets: Sockets) -> None:
    rest = sockets.tcp()
    with pytest.raises(StatusError) as error:
        inherited.matching({"rest": rest}, {"rest": f"0.0.0.0:{port(rest)}"})
    assert "both cannot be open" in error.value.message
