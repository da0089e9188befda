"""Faults caused by disks, operators and power, and the server's recovery."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest
from clients import Stub, answer, available, await_versions, steady_load, version_states
from conftest import ROOT, Serve
from model_configs import config_file, config_text, entry, replace_file
from servers import FRIENDLY, MODELS, ONE_TRY, POLLED, RELOADS, WITH_GRPC, put_version, serving, until
from tfrecord import WARM_UP

pytestmark = pytest.mark.needs_tensorflow

MODEL = "half_plus_two"
LONG_PAUSE = ("--load_retry_interval_micros=3600000000", "--max_num_load_retries=1")
MANY = 1000


def half_copy(base: Path, version: int) -> Path:
    """Makes a version without variables and with half a graph."""
    folder = base / str(version)
    folder.mkdir()
    whole = (MODELS / MODEL / "1" / "saved_model.pb").read_bytes()
    (folder / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    return folder


def complete(folder: Path) -> None:
    shutil.copytree(MODELS / MODEL / "1", folder, dirs_exist_ok=True)


# ---- versions


def test_the_version_that_serves_vanishes(base: Path) -> None:
    put_version(MODEL, base, 2)
    with serving(f"m={base}", WITH_GRPC) as served, steady_load(served, "m") as load:
        await_versions(served, "m", 2)
        shutil.rmtree(base / "2")
        await_versions(served, "m", 1)
    assert load.failures == []


def test_the_base_path_vanishes_and_what_is_loaded_stays(base: Path) -> None:
    with serving(f"m={base}", WITH_GRPC) as served, steady_load(served, "m") as load:
        base.rename(base.with_name("elsewhere"))
        served.wait_for_line("Could not find base path")
        assert available(served, "m") == [1]
        base.with_name("elsewhere").rename(base)
        put_version(MODEL, base, 2)
        await_versions(served, "m", 2)
    assert load.failures == []


def test_a_version_vanishes_between_two_tries(base: Path) -> None:
    with serving(f"m={base}", *LONG_PAUSE) as served:
        folder = half_copy(base, 2)
        served.wait_for_line("could not load m version 2 .*next try in 3600 s")
        assert version_states(served, "m") == {2: "LOADING", 1: "AVAILABLE"}
        shutil.rmtree(folder)
        assert until(lambda: version_states(served, "m").get(2) == "END")
        assert available(served, "m") == [1]


@pytest.mark.parametrize("flags", [(ONE_TRY,), LONG_PAUSE], ids=["given up", "between tries"])
def test_a_half_copied_version_serves_once_it_is_whole(base: Path, flags: tuple[str, ...]) -> None:
    with serving(f"m={base}", WITH_GRPC, *flags) as served, steady_load(served, "m") as load:
        folder = half_copy(base, 2)
        served.wait_for_line("could not load m version 2")
        assert available(served, "m") == [1]
        complete(folder)
        await_versions(served, "m", 2)
    assert load.failures == []


def test_a_broken_model_is_repaired(empty_base: Path) -> None:
    put_version("unknown_op", empty_base, 1)
    with serving(f"m={empty_base}", ONE_TRY) as served:
        assert version_states(served, "m") == {1: "END"}
        good = (MODELS / "add_two" / "1" / "saved_model.pb").read_bytes()
        replace_bytes(empty_base / "1" / "saved_model.pb", good)
        await_versions(served, "m", 1)


def test_a_warm_up_file_is_repaired(base: Path) -> None:
    damaged = base / "1" / WARM_UP
    damaged.parent.mkdir()
    damaged.write_bytes(b"no records at all")
    with serving(f"m={base}", ONE_TRY) as served:
        assert version_states(served, "m") == {1: "END"}
        damaged.unlink()
        await_versions(served, "m", 1)


def replace_bytes(path: Path, content: bytes) -> None:
    fresh = path.with_name("new")
    fresh.write_bytes(content)
    fresh.replace(path)


def test_a_link_is_switched(base: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    put_version(MODEL, fresh, 7)
    link, spare = tmp_path / "current", tmp_path / "next"
    link.symlink_to(base)
    with serving(f"m={link}", WITH_GRPC) as served, steady_load(served, "m") as load:
        spare.symlink_to(fresh)
        spare.replace(link)
        await_versions(served, "m", 7)
        shutil.rmtree(base)
    assert load.failures == []


def test_a_base_path_appears_later(tmp_path: Path) -> None:
    base = tmp_path / "late"
    config = config_file(tmp_path, entry("late", base))
    with serving(f"--model_config_file={config}") as served:
        assert f"Could not find base path {base} for servable late" in served.log
        put_version(MODEL, base, 3)
        await_versions(served, "late", 3)


WITHOUT_OVERRIDE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")


def obedient() -> tuple[str, ...]:
    """Returns the command of a server bound by file permissions, which root usually overrides."""
    if os.geteuid() != 0:
        return FRIENDLY
    if shutil.which("setpriv") is None:
        pytest.skip("root reads everything, and setpriv is not there to take that away")
    return (*WITHOUT_OVERRIDE, *FRIENDLY)


def test_permission_is_denied_and_then_given(base: Path) -> None:
    put_version(MODEL, base, 2)
    (base / "2" / "saved_model.pb").chmod(0)
    with serving(f"m={base}", ONE_TRY, command=obedient()) as served:
        await_versions(served, "m")
        assert version_states(served, "m")[2] == "END"
        base.chmod(0)
        served.wait_for_line("Permission denied")
        base.chmod(0o755)
        (base / "2" / "saved_model.pb").chmod(0o644)
        await_versions(served, "m", 2)


def test_variables_that_may_not_be_read(base: Path) -> None:
    """They are not reported as missing, and granting permission is enough."""
    variables = put_version(MODEL, base, 2) / "variables"
    variables.chmod(0)
    with serving(f"m={base}", ONE_TRY, command=obedient()) as served:
        assert version_states(served, "m")[2] == "END"
        assert f"{variables}/variables.index may not be read by this user" in served.log
        assert f"may not read {variables}: chmod -R a+rX {base}/2" in served.log
        variables.chmod(0o755)
        await_versions(served, "m", 2)


# ---- configurations


def test_a_config_file_is_removed_replaced_and_emptied(base: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path, entry("m", base))
    with serving(f"--model_config_file={config}", POLLED) as served:
        config.unlink()
        served.wait_for_line("is not applied: NOT_FOUND: .*No such file or directory")
        replace_file(config, "")
        served.wait_for_line("is not applied: INVALID_ARGUMENT: .*Invalid argument")
        assert available(served, "m") == [1]
        replace_file(config, "model_config_list {}")
        await_versions(served, "m")
        replace_file(config, config_text(entry("n", base)))
        await_versions(served, "n", 1)


def test_of_two_configs_in_quick_succession_the_later_counts(base: Path) -> None:
    with serving(f"m={base}", WITH_GRPC, RELOADS) as served, Stub(served) as stub:
        for turn in range(5):
            first = threading.Thread(target=stub.reload, args=(entry("a", base), entry("m", base)))
            first.start()
            assert stub.reload(entry("b", base), entry("m", base)) == (0, "")
            first.join()
            assert stub.reload(entry("m", base), entry(f"c{turn}", base)) == (0, "")
            await_versions(served, "a")
            await_versions(served, "b")
            assert available(served, f"c{turn}") == [1]
            assert available(served, "m") == [1]


@pytest.mark.timeout(600)
def test_a_thousand_models_at_once(base: Path, tmp_path: Path) -> None:
    """One folder under a thousand names: each is loaded, polled and answered separately."""
    models = [entry(f"m{number}", base) for number in range(MANY)]
    config = config_file(tmp_path, *models)
    with serving(f"--model_config_file={config}", POLLED, "--shutdown_grace_seconds=1") as served:
        assert f"ready: {MANY} of {MANY} models available" in served.log
        for number in (0, MANY // 2, MANY - 1):
            assert answer(served, f"m{number}") == 3.0
        replace_file(config, config_text(*models[:-10]))
        await_versions(served, f"m{MANY - 1}")
        assert until(lambda: served.log.count("unloaded m") == 10, 120)
        assert answer(served, "m7") == 3.0


# ---- the process, and time


def test_a_cold_restart_after_a_kill(base: Path, tmp_path: Path, serve: Serve) -> None:
    socket = f"--grpc_socket_path={tmp_path / 'grpc.sock'}"
    killed = serve(f"m={base}", socket)
    assert answer(killed, "m") == 3.0
    killed.process.kill()
    assert killed.process.wait(30) == -signal.SIGKILL
    with serving(f"m={base}", socket) as served:
        assert answer(served, "m") == 3.0


def test_a_clock_that_jumps_moves_nothing() -> None:
    """In the control plane, the wall clock is only read to display a time."""
    shown = {"inventory.py", "log_format.py", "bench_output.py", "logs.py", "machine.py"}
    shown |= {"about.py", "changes.py"}  # of the console
    wall = re.compile(r"\btime\.time\(|datetime\.(now|utcnow)|\btime\.time\b|from time import")
    users = {
        path.name for path in (ROOT / "python" / "servable").rglob("*.py") if wall.search(path.read_text())
    }
    assert users <= shown


def test_a_pipe_in_a_models_place_is_not_waited_for(base: Path, tmp_path: Path) -> None:
    version = tmp_path / "pipe" / "1"
    version.mkdir(parents=True)
    os.mkfifo(version / "saved_model.pb")
    with serving(f"pipe={version.parent}", f"m={base}", ONE_TRY) as served:
        assert answer(served, "m") == 3.0
        assert version_states(served, "pipe") == {1: "END"}
        assert "saved_model.pb cannot be read: it is a pipe, and a file was expected" in served.log
