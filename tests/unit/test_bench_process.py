"""Watching a local process under load."""

from __future__ import annotations

import os
import socket

import pytest

from servable.bench.process import between, checked, listening_inodes, listening_on, stat_faults, usage
from servable.errors import UsageError

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2135 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 0100007F:2135 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1
   2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1
"""


def test_who_listens_is_in_the_table_of_sockets() -> None:
    assert listening_inodes(TABLE, 0x2135) == {"4711"}
    assert listening_inodes(TABLE, 0x1F90) == {"4713"}
    assert listening_inodes(TABLE, 80) == set()
    assert listening_inodes("", 80) == set()


def test_a_socket_of_this_process_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert os.getpid() in listening_on("127.0.0.1", port)
        assert os.getpid() in listening_on("localhost", port)
    assert os.getpid() not in listening_on("127.0.0.1", port)
    assert listening_on("192.0.2.1", port) == ()
    assert listening_on("no.such.host.invalid", port) == ()
    assert listening_on("a" * 64 + ".example", port) == (), "no name can be that long"


def test_the_second_field_may_hold_anything() -> None:
    assert stat_faults("7 (a) b ) (x) S 1 2 3 4 5 6 100 7 200 8 9") == (100, 200)


def test_what_a_process_uses_is_the_difference() -> None:
    before = usage((os.getpid(),))
    assert before is not None and before.resident > 1 << 20
    assert sum(range(100_000)) > 0
    spent = between(before, usage((os.getpid(),)))
    assert spent is not None
    assert spent.cpu > 0 and spent.minor_faults >= 0 and spent.resident > 1 << 20
    assert between(before, None) is None
    assert usage(()) is None
    assert usage((999_999_999,)) is None


def test_a_process_that_is_not_there_is_refused() -> None:
    assert checked(os.getpid()) == os.getpid()
    for pid in (-1, 999_999_999):
        with pytest.raises(UsageError, match="no such process"):
            checked(pid)
