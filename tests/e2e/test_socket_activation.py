"""Sockets that systemd holds: a server is restarted on them, and no request fails."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from handover import Load, Systemd
from servers import MODELS, until

pytestmark = pytest.mark.needs_tensorflow

READY = r"ready: \d+ of \d+ models"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    one = Systemd(tmp_path, MODELS / "half_plus_two")
    yield one
    one.close()


def test_restarts_lose_no_request(systemd: Systemd) -> None:
    """Clients that come while no server runs wait for the next one."""
    with Load(*systemd.ports()) as load:
        for is_last in (False, False, True):
            with systemd.service() as served:
                served.wait_for_line(READY)
                assert load.goes_on()
                if is_last:
                    load.end()
                assert served.stop() == 0
    assert (load.lost, load.retried) == ([], [])


def test_it_is_told_how_the_server_stands(systemd: Systemd, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{MODELS / "half_plus_two"}" '
        'model_platform: "tensorflow" } }'
    )
    systemd._arguments = (f"--model_config_file={config}",)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with systemd.service() as served:
        served.wait_for_line(READY)
        assert until(lambda: len(systemd.notices) == 2)
        os.kill(served.process.pid, signal.SIGHUP)
        assert until(lambda: len(systemd.notices) == 4)
        assert served.stop() == 0
    assert until(lambda: len(systemd.notices) == 5)
    loading, ready, reloading, reloaded, stopping = systemd.notices
    assert loading == "STATUS=loading models"
    assert ready == "READY=1\nSTATUS=1 of 1 models available"
    first, moment, _ = reloading.splitlines()
    assert first == "RELOADING=1" and int(moment.removeprefix("MONOTONIC_USEC=")) > before
    assert reloaded == "READY=1\nSTATUS=serving"
    assert stopping.startswith("STOPPING=1\n")


def test_who_takes_over_becomes_the_main_process(systemd: Systemd, tmp_path: Path) -> None:
    """And leaves the sockets that systemd keeps as they are when it ends."""
    flag = f"--handover_socket={tmp_path / 'handover'}"
    with systemd.service(flag) as former:
        former.wait_for_line(READY)
        with systemd.service(flag) as latter:
            latter.wait_for_line(READY)
            assert former.process.wait(60) == 0, former.log
            assert f"READY=1\nMAINPID={latter.process.pid}\nSTATUS=1 of 1 models available" in systemd.notices
            assert not any(notice.startswith("STOPPING") for notice in systemd.notices)
            assert latter.stop() == 0
    with socket.create_connection(("127.0.0.1", systemd.ports()[0]), timeout=30) as client:
        systemd.rest.settimeout(30)
        accepted, at = systemd.rest.accept()
        accepted.close()
        assert at == client.getsockname()


@pytest.mark.parametrize("names", ["", "servable.socket:servable.socket"])
def test_sockets_without_names_are_told_apart_by_their_ports(systemd: Systemd, names: str) -> None:
    rest, grpc = systemd.ports()
    with systemd.service(f"--rest_api_port={rest}", f"--port={grpc}", names=names) as served:
        served.wait_for_line(READY)
        assert (served.rest_port, served.grpc_port) == (rest, grpc)
        assert served.stop() == 0


def test_a_socket_for_nothing_is_refused(systemd: Systemd) -> None:
    with systemd.service(names="") as served:
        assert served.process.wait(60) == 1
    assert "FileDescriptorName=" in served.log


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in sorted((ROOT / "deploy").glob("servable*.s*")):
        # The program is looked for where it would be installed.
        text = unit.read_text().replace("/usr/bin/servable", sys.executable)
        (tmp_path / unit.name).write_text(text)
    units = sorted(path for path in tmp_path.iterdir() if "@" not in path.name)
    instance = tmp_path / "servable@blue.service"
    instance.write_text((tmp_path / "servable@.service").read_text())
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units, instance],
        capture_output=True,
        text=True,
    )
    assert (verified.returncode, verified.stderr) == (0, "")
