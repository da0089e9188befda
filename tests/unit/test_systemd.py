"""What systemd passes, and what it is told."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from servable.errors import StatusError
from servable.serving.systemd import Notifier, take_sockets

ME = str(os.getpid())


def passed(number: str, names: str | None = None, pid: str = ME) -> dict[str, str]:
    given = {"LISTEN_FDS": number, "LISTEN_PID": pid, "HOME": "/"}
    return given if names is None else {**given, "LISTEN_FDNAMES": names}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/"}, []),
        (passed("0"), []),
        (passed("2"), [("", 3), ("", 4)]),
        (passed("2", "rest:grpc"), [("rest", 3), ("grpc", 4)]),
        (passed("3", "servable.socket:unknown:grpc-unix"), [("", 3), ("", 4), ("grpc-unix", 5)]),
        (passed("1", pid="1"), []),
    ],
)
def test_sockets_are_taken_once(environment: dict[str, str], expected: list[tuple[str, int]]) -> None:
    assert take_sockets(environment) == expected
    assert environment == {"HOME": "/"}


def test_those_of_another_process_are_left_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert take_sockets(passed("1", pid="1")) == []
    assert "must do it by exec" in caplog.text


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        (passed("two"), "LISTEN_FDS expects a number of sockets up to 64, got 'two'"),
        (passed("65"), "got '65'"),
        (passed("-1"), "got '-1'"),
        (passed("9" * 5000), "LISTEN_FDS expects"),
        (passed("2", "rest"), "LISTEN_FDNAMES names 1 sockets and LISTEN_FDS has 2: 'rest'"),
    ],
)
def test_variables_that_make_no_sense(environment: dict[str, str], text: str) -> None:
    with pytest.raises(StatusError) as error:
        take_sockets(environment)
    assert text in str(error.value)


@given(st.text(), st.text(), st.sampled_from([ME, "1", ""]))
def test_any_variables_are_taken_or_refused(number: str, names: str, pid: str) -> None:
    environment = passed(number, names, pid)
    try:
        taken = take_sockets(environment)
    except StatusError:
        taken = []
    assert environment == {"HOME": "/"}
    assert [descriptor for _, descriptor in taken] == list(range(3, 3 + len(taken)))


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_manager_is_told(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@servable-test-{ME}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(10)
        environment = {"NOTIFY_SOCKET": name}
        notifier = Notifier(environment)
        assert environment == {}
        notifier.ready("2 of 2 models available", took_over=True)
        assert manager.recv(4096).decode() == f"READY=1\nMAINPID={ME}\nSTATUS=2 of 2 models available"
        notifier.stopping()
        assert manager.recv(4096).decode().startswith("STOPPING=1\n")


@pytest.mark.parametrize("ending", ["stopping", "replaced"])
def test_reloads_are_told_only_while_requests_are_answered(tmp_path: Path, ending: str) -> None:
    """READY=1 would say that the ports are open, and that a shutdown has not begun."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})

        def told(*names: str) -> list[str]:
            for name in names:
                getattr(notifier, name)()
            packets = []
            with suppress(BlockingIOError):
                while True:
                    packets.append(manager.recv(4096).decode().partition("\n")[0])
            return packets

        assert told("reloading", "reloaded") == []
        notifier.ready("1 of 1 models available")
        assert told("reloading", "reloaded") == ["READY=1", "RELOADING=1", "READY=1"]
        assert told("reloading", ending, "reloaded") == [
            "RELOADING=1",
            "STOPPING=1"
            if ending == "stopping"
            else "STATUS=another server has taken over: finishing requests in flight",
        ]


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).stopping()
    assert "systemd could not be told STOPPING=1: No such file or directory" in caplog.text
    caplog.clear()
    Notifier({}).stopping()
    assert caplog.text == ""
