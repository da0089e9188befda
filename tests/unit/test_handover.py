"""The talk of two servers at a handover socket."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, strategies as st

from servable.errors import StatusError
from servable.serving import former, handover
from servable.serving.former import Former
from servable.serving.handover import HandoverSocket
from servable.serving.handover_packets import LARGEST, PROTOCOL, check, peer, read, send

PATIENCE = 10.0


class Ports:
    """The ports of a former server: one socket."""

    are_kept = True

    def __init__(self) -> None:
        self.rest = socket.create_server(("127.0.0.1", 0))
        self.passed_on, self.left = threading.Event(), threading.Event()

    def listeners(self) -> dict[str, int]:
        return {"rest": os.dup(self.rest.fileno())}

    def pass_on(self) -> None:
        assert not self.passed_on.is_set()
        self.passed_on.set()

    def leave(self) -> None:
        self.left.set()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "handover")


@pytest.fixture
def ports() -> Iterator[Ports]:
    made = Ports()
    yield made
    made.rest.close()


@pytest.fixture
def waiting(path: str, ports: Ports) -> Iterator[HandoverSocket]:
    one = HandoverSocket(path, ports)
    one.publish()
    yield one
    one.close()


def find(path: str) -> Former:
    found = Former.find(path)
    assert found is not None
    return found


def test_ports_are_taken_over(path: str, ports: Ports, waiting: HandoverSocket) -> None:
    found = find(path)
    assert found.pid == os.getpid() and found.kept
    assert found.sockets["rest"].getsockname() == ports.rest.getsockname()
    assert not os.get_inheritable(found.sockets["rest"].fileno())
    assert not ports.passed_on.is_set()
    found.take_over()
    assert ports.passed_on.is_set() and ports.left.wait(PATIENCE)
    assert waiting.is_passed_on and waiting.close()


def test_without_a_server_there_is_none(path: str, ports: Ports) -> None:
    assert Former.find(path) is None
    waiting = HandoverSocket(path, ports)
    assert Former.find(path) is None
    waiting.publish()
    assert not waiting.close()
    assert Former.find(path) is None
    assert os.listdir(os.path.dirname(path)) == []


def test_what_a_dead_server_left_is_none(path: str, ports: Ports) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(path)
    assert Former.find(path) is None
    waiting = HandoverSocket(path, ports)
    waiting.publish()
    find(path).close()
    waiting.close()


def test_the_ports_are_shared_while_the_next_server_loads(path: str, waiting: HandoverSocket) -> None:
    found = find(path)
    with pytest.raises(StatusError, match=f"a handover to process {os.getpid()} is under way"):
        Former.find(path)
    assert waiting.close()
    # The former server has ended: whoever loads goes on.
    found.take_over()


def test_one_that_does_not_answer_knows_that_its_ports_are_shared(
    path: str,
    waiting: HandoverSocket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = find(path)
    found._connection.settimeout(0.05)
    # What it was told does not even reach it.
    monkeypatch.setattr(former, "send", lambda *_: None)
    found.take_over()
    assert "does not answer" in caplog.text and found.sockets == {}
    assert waiting.close(), "another has the sockets"
    found.close()


def test_a_folder_that_is_gone_is_told(
    tmp_path: Path, ports: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    """The server, which may have taken over already, goes on."""
    folder = tmp_path / "folder"
    folder.mkdir()
    waiting = HandoverSocket(str(folder / "handover"), ports)
    folder.rename(tmp_path / "elsewhere")
    waiting.publish()
    assert "cannot be used: No such file or directory" in caplog.text
    assert not waiting.close()


def test_who_gives_up_makes_room(path: str, ports: Ports, waiting: HandoverSocket) -> None:
    for _ in range(3):
        find(path).close()
        deadline = threading.Event()
        while waiting._next is not None:
            assert not deadline.wait(0.01)
    assert not ports.passed_on.is_set()
    assert not waiting.close()


@pytest.mark.parametrize("side", [former, handover])
def test_another_user_gets_nothing(
    path: str, waiting: HandoverSocket, monkeypatch: pytest.MonkeyPatch, side: object
) -> None:
    """Each side asks the kernel who the other is."""

    class OtherUser:
        def __getattr__(self, name: str) -> object:
            return (lambda: 4242) if name == "geteuid" else getattr(os, name)

    monkeypatch.setattr(side, "os", OtherUser())
    with pytest.raises(StatusError, match="as user 4242"):
        Former.find(path)
    assert not waiting.is_passed_on


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, text in [
        (str(tmp_path / "file"), "is a file that is no socket"),
        ("/" + "x" * 100, "expects a path of up to 99 bytes"),
        (str(tmp_path / "file" / "below"), "cannot be used: Not a directory"),
    ]:
        with pytest.raises(StatusError, match=text):
            check(path)


@pytest.mark.parametrize("packet", [b"[" * LARGEST, b'{"handover": ' + b"[" * 60_000])
def test_a_packet_nested_deeply_ends_nothing(path: str, waiting: HandoverSocket, packet: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.connect(path)
        other.settimeout(PATIENCE)
        other.send(packet)
        assert "handover 1 is expected, got {}" in read(other.recv(LARGEST))["error"]
    find(path).close()


def test_a_thread_that_cannot_start_makes_room(
    path: str, waiting: HandoverSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "handing-over":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        patched.setattr(threading.Thread, "start", refuse)
        other.connect(path)
        other.settimeout(PATIENCE)
        send(other, {"handover": PROTOCOL, "pid": os.getpid()})
        assert other.recv(LARGEST) == b"", "closed"
        pause = threading.Event()
        while waiting._next is not None:
            assert not pause.wait(0.01)
    find(path).close()


def test_numbers_of_users_have_no_sign() -> None:
    class Connection:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return struct.pack("=iII", 7, 2**32 - 2, 2**32 - 2)

    assert peer(cast(socket.socket, Connection())) == (7, 2**32 - 2)


@given(st.binary())
def test_any_packet_is_read_as_a_message_or_as_none(packet: bytes) -> None:
    assert isinstance(read(packet), dict)
