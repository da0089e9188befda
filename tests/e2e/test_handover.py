"""A new server takes over the ports of a running one (--handover_socket): no request fails."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from pathlib import Path

import grpc
import pytest
from conftest import Served
from handover import BODY, PREDICT, RPC, Load, successor
from servers import ADMIN, MODELS, admin_url, run_to_its_end, serving
from stubs import floats_request
from wire import Wire, message, predict

pytestmark = pytest.mark.needs_tensorflow

TOOK_OVER = r"took over from the former server \(pid \d+\)"
GONE_ON = "ended before it was ready to take over: nothing changes"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "handover"


def generation(path: Path, *more: str) -> AbstractContextManager[Served]:
    """Runs a server that takes over from the one at ``path``, if there is one."""
    flags = ("--port=0", f"--handover_socket={path}", *more)
    return serving(MODELS / "half_plus_two", *flags, may_end=True)


@pytest.fixture
def first(path: Path) -> Iterator[Served]:
    with generation(path, ADMIN, "--enable_grpc_healthcheck_service") as served:
        yield served


def answers(served: Served) -> bool:
    return predict(served, "half_plus_two", {"instances": [1.0]}).status == 200


def test_five_generations_lose_no_request(path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(generation(path))]
        assert servers[0].rest_port and servers[0].grpc_port
        load = stack.enter_context(Load(servers[0].rest_port, servers[0].grpc_port))
        for _ in range(4):
            assert load.goes_on()
            servers.append(stack.enter_context(generation(path)))
            former, latter = servers[-2:]
            assert any("took over" in line for line in latter.lines), latter.log
            assert (latter.rest_port, latter.grpc_port) == (former.rest_port, former.grpc_port)
            assert former.process.wait(60) == 0, former.log
        assert load.goes_on()
        load.end()
        assert (load.lost, load.retried) == ([], [])


def test_an_idle_connection_is_closed_and_a_later_request_goes_to_the_next(path: Path, first: Served) -> None:
    with Wire(first) as told, Wire(first) as idle:
        for wire in (told, idle):
            assert wire.send(message("POST", PREDICT, BODY)).reply().status == 200
        with generation(path) as second:
            # The next answer on an old connection says that it is the last.
            reply = told.send(message("POST", PREDICT, BODY)).reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert told.closed() and idle.closed()
            assert first.process.wait(60) == 0
            assert answers(second)


def test_health_never_says_no(path: Path, first: Served) -> None:
    """New connections, on the port of REST and that of the administration, and an old one."""
    bad: list[object] = []
    done = threading.Event()
    admin = admin_url(first)

    def probe(base: str) -> None:
        while not done.is_set():
            try:
                with urllib.request.urlopen(f"{base}/readyz", timeout=30) as reply:
                    reply.read()
            except OSError as error:
                bad.append(error)

    threads = [threading.Thread(target=probe, args=(base,)) for base in (first.rest, admin)]
    with closing(http.client.HTTPConnection("127.0.0.1", first.rest_port, timeout=30)) as old:
        old.connect()
        for thread in threads:
            thread.start()
        with generation(path, ADMIN) as second:
            old.request("GET", "/readyz")
            assert old.getresponse().status == 200
            assert admin_url(second) == admin
            assert first.process.wait(60) == 0
            assert answers(second)
            done.set()
            for thread in threads:
                thread.join(60)
    assert bad == []


def test_the_health_of_grpc_never_says_no(path: Path, first: Served) -> None:
    with grpc.insecure_channel(first.grpc) as channel:
        watched = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
        assert next(watched) == b"\x08\x01"
        with generation(path, "--enable_grpc_healthcheck_service") as second:
            assert first.process.wait(60) == 0
            later = []
            # Streams end with the server; how, is up to the library.
            with suppress(grpc.RpcError):
                later += list(watched)
            assert later == []
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert check(b"", timeout=60) == b"\x08\x01"
            assert answers(second)


def test_a_next_server_that_dies_changes_nothing(path: Path, first: Served) -> None:
    for _ in range(2):
        with successor(path) as dying:
            assert sorted(dying.ports) == ["admin", "grpc", "rest"]
            assert answers(first)
        first.wait_for_line(GONE_ON)
        assert answers(first)
    with generation(path) as second:
        second_pid = second.process.pid
        assert first.process.wait(60) == 0
        assert f"process {second_pid} is ready and takes over" in first.log


def test_one_that_does_not_start_changes_nothing(path: Path, first: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = f"--rest_api_port={taken.getsockname()[1]}"
        failed = run_to_its_end(MODELS / "half_plus_two", f"--handover_socket={path}", port)
    assert failed.returncode == 1
    first.wait_for_line(GONE_ON)
    assert answers(first)


def test_one_without_an_available_model_does_not_take_over(path: Path, first: Served, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    failed = run_to_its_end(f"m={tmp_path / 'empty'}", f"--handover_socket={path}")
    assert failed.returncode == 1
    assert f"no model is available, so the running server (pid {first.process.pid}) goes on" in failed.stdout
    assert answers(first)


def test_the_unix_socket_is_handed_over(path: Path, tmp_path: Path) -> None:
    unix = tmp_path / "grpc"
    request = floats_request("half_plus_two", 1.0).SerializeToString()
    with generation(path, f"--grpc_socket_path={unix}") as former:
        inode = unix.stat().st_ino
        with grpc.insecure_channel(f"unix:{unix}") as channel:
            ask = channel.unary_unary(RPC)
            assert ask(request, timeout=60)
            with generation(path, f"--grpc_socket_path={unix}"):
                assert former.process.wait(60) == 0
                assert ask(request, timeout=60)
        assert unix.stat().st_ino == inode


def test_two_at_once_one_is_refused(path: Path, first: Served) -> None:
    with successor(path):
        refused = run_to_its_end(MODELS / "half_plus_two", f"--handover_socket={path}")
    assert refused.returncode == 1
    assert f"a handover to process {os.getpid()} is under way" in refused.stdout
    assert answers(first)


def test_what_is_no_server_is_refused(path: Path, first: Served) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.send(b"GET / HTTP/1.1")
        assert "handover 1 is expected" in json.loads(connection.recv(4096))["error"]
        assert connection.recv(4096) == b""
    assert answers(first)


def test_a_former_server_that_is_told_to_stop_meanwhile_leaves_the_ports_usable(
    path: Path, first: Served
) -> None:
    """Connections wait for the next server, which accepts them once it is ready."""
    with successor(path) as next_one:
        assert first.stop() == 0
        port = next_one.ports["rest"]
        port.settimeout(30)
        with socket.create_connection(("127.0.0.1", first.rest_port), timeout=30) as client:
            client.sendall(b"hello")
            accepted, _ = port.accept()
            with accepted:
                assert accepted.recv(5) == b"hello"


def test_a_successor_is_told_once_nothing_more_is_accepted(path: Path, first: Served) -> None:
    with successor(path) as next_one:
        assert next_one.ready() == {"left": True}
        port = next_one.ports["rest"]
        port.settimeout(30)
        with socket.create_connection(("127.0.0.1", first.rest_port), timeout=30) as client:
            client.sendall(b"hello")
            accepted, _ = port.accept()
            accepted.close()
        assert first.process.wait(60) == 0
    # It is the next server's to remove.
    assert path.exists()


def test_other_ports_are_opened_and_told(path: Path, first: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]
    with generation(path, f"--rest_api_port={other}") as second:
        assert f"REST was at [::]:{first.rest_port} and is at" in second.log, second.log
        assert (second.rest_port, second.grpc_port) == (other, first.grpc_port)
        assert first.process.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", first.rest_port), timeout=30)
        assert answers(second)


def test_another_host_is_refused(path: Path, first: Served) -> None:
    failed = run_to_its_end(
        MODELS / "half_plus_two",
        f"--handover_socket={path}",
        f"--rest_api_port={first.rest_port}",
        "--host=127.0.0.1",
    )
    assert failed.returncode == 1
    assert f"has REST at [::]:{first.rest_port}, and this one wants 127.0.0.1" in failed.stdout
    assert answers(first)


def test_the_socket_is_its_owners_alone_and_goes_with_the_server(path: Path) -> None:
    with generation(path) as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert served.stop() == 0
    assert not path.exists() and list(path.parent.iterdir()) == []


def test_what_a_killed_server_left_behind_is_replaced(path: Path) -> None:
    with serving(MODELS / "half_plus_two", f"--handover_socket={path}", may_end=True) as served:
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait(60)
        assert path.exists()
        with generation(path) as second:
            assert answers(second)
        # The fixture of servers expects an orderly end.
        served.process.returncode = 0


@pytest.mark.parametrize("kind", ["a file", "no folder"])
def test_a_path_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    wanted = path if kind == "a file" else tmp_path / "none" / "socket"
    failed = run_to_its_end(MODELS / "half_plus_two", f"--handover_socket={wanted}")
    assert failed.returncode == 1
    expected = "is a file that is no socket" if kind == "a file" else "No such file or directory"
    assert expected in failed.stdout
    assert path.read_text() == "precious"


def test_an_access_log_of_both_is_not_torn(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    flags = (f"--access_log_file={log}", "--access_log=all", "--log_format=json")
    with generation(path, *flags) as former:
        assert former.rest_port and former.grpc_port
        with Load(former.rest_port, former.grpc_port) as load:
            assert load.goes_on()
            with generation(path, *flags):
                assert former.process.wait(60) == 0
                assert load.goes_on()
                load.end()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == sum(load.answered.values())
    assert load.lost == []
