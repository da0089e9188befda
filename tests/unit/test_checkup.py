"""``servable doctor``: what each check says of machines that are not this one, and the command."""

from __future__ import annotations

import json
import resource
import socket
import stat
import sys
from pathlib import Path

import pytest

from servable import cgroups
from servable.checkup import machine, places, software
from servable.checkup.check import LEVELS, NOTE, OK, PROBLEM, WARNING, Check
from servable.cli import main
from servable.cli.colour import Colours
from servable.cli.doctor import described
from servable.engines.libraries import Libraries


def put(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("flags", "arch", "level", "words"),
    [
        ("fpu avx avx2 fma avx512f", "x86_64", OK, "with avx2, fma, avx512f"),
        ("fpu avx", "x86_64", WARNING, "lacks avx2, fma"),
        ("fpu sse4_2", "x86_64", PROBLEM, "has no AVX"),
        ("", "x86_64", OK, "a processor (x86_64)"),
        ("fp asimd", "aarch64", OK, "(aarch64)"),
    ],
)
def test_processors(tmp_path: Path, flags: str, arch: str, level: str, words: str) -> None:
    root = put(tmp_path, proc__cpuinfo=f"processor\t: 0\nflags\t\t: {flags}\n" if flags else "")
    found = machine.processor(root, arch)
    assert (found.level, words in found.found) == (level, True), found


def group(root: Path, version: int, **files: str) -> Path:
    """Puts the process into a group with a parent."""
    if version == 2:
        put(root, proc__self__cgroup="0::/pod/one\n")
        folder = root / "sys/fs/cgroup/pod/one"
    else:
        put(root, proc__self__cgroup="3:cpu,cpuacct:/pod/one\n2:memory:/pod/one\n")
        folder = root / "sys/fs/cgroup/cpu,cpuacct/pod/one"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


def test_limits_of_processor_time_in_both_versions(tmp_path: Path) -> None:
    assert cgroups.cores(tmp_path) is None
    inner = group(tmp_path / "2", 2, cpu_max="150000 100000\n")
    (inner.parent / "cpu.max").write_text("50000 100000")
    (inner / "cpu.stat").write_text("nr_periods 100\nnr_throttled 25\n")
    assert cgroups.cores(tmp_path / "2") == 0.5
    assert cgroups.throttled(tmp_path / "2") == 0.25
    group(tmp_path / "1", 1, cpu_cfs_quota_us="300000", cpu_cfs_period_us="100000")
    assert cgroups.cores(tmp_path / "1") == 3.0
    group(tmp_path / "none", 2, cpu_max="max 100000")
    assert cgroups.cores(tmp_path / "none") is None


def test_cores(tmp_path: Path) -> None:
    assert machine.cores(tmp_path, 8, 4) == Check("cores", OK, "4 of 8")
    folder = group(tmp_path / "half", 2, cpu_max="50000 100000")
    found = machine.cores(tmp_path / "half", 8, 8)
    assert found.level == WARNING and "0.5 of 8, by a limit of 0.5" in found.found
    (folder / "cpu.stat").write_text("nr_periods 100\nnr_throttled 25\n")
    assert "in 25% of all periods" in machine.cores(tmp_path / "half", 8, 8).found


def test_memory(tmp_path: Path) -> None:
    root = put(tmp_path, proc__meminfo="MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    assert machine.memory(root).level == OK
    assert "8.2 GB are free" in machine.memory(root).found
    put(root, proc__meminfo="MemTotal: 16000000 kB\nMemAvailable: 100000 kB\n")
    assert machine.memory(root).level == WARNING
    put(root, proc__self__cgroup="0::/\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/memory.max").write_text("300000000")
    assert "300.0 MB may be used" in machine.memory(root).found


def test_limits() -> None:
    assert machine.open_files(1024, 1 << 20).level == OK
    assert machine.open_files(1024, resource.RLIM_INFINITY).found.startswith("up to any number")
    low = machine.open_files(256, 1024)
    assert low.level == WARNING and "ulimit" in low.advice
    assert machine.address_space(resource.RLIM_INFINITY).level == OK
    assert machine.address_space(1 << 32).level == WARNING


def test_shared_memory_and_backlog(tmp_path: Path) -> None:
    assert machine.shared_memory(str(tmp_path / "none")).level == NOTE
    assert machine.shared_memory(str(tmp_path)).level in (OK, NOTE)
    put(tmp_path, proc__sys__net__core__somaxconn="128")
    assert machine.backlog(tmp_path).level == NOTE
    put(tmp_path, proc__sys__net__core__somaxconn="4096")
    assert machine.backlog(tmp_path).level == OK


def test_clock(tmp_path: Path) -> None:
    assert machine.clock(tmp_path, 1e9, 1e9 - 10).level == OK
    assert "before this program was installed" in machine.clock(tmp_path, 1e9, 2e9).found
    source = tmp_path / "sys/devices/system/clocksource/clocksource0"
    source.mkdir(parents=True)
    (source / "current_clocksource").write_text("hpet\n")
    assert machine.clock(tmp_path, 1e9, 1e9).level == NOTE
    (source / "current_clocksource").write_text("tsc\n")
    assert machine.clock(tmp_path, 1e9, 1e9).level == OK


# ---- software


def test_python_and_names() -> None:
    assert software.python((3, 11, 2), 64).level == OK
    assert software.python((3, 9, 2), 64).level == PROBLEM
    assert software.python((3, 12, 0), 32).level == PROBLEM
    assert software.locale("utf-8", {"LANG": "de_DE.UTF-8"}) == Check(
        "locale", OK, "de_DE.UTF-8, names are UTF-8"
    )
    assert software.locale("latin-1", {}).level == WARNING


def test_engines_are_opened(tmp_path: Path) -> None:
    broken = tmp_path / "libLiteRt.so"
    broken.write_bytes(b"no library" * 100)
    found = software.engines(Libraries({"tflite": str(broken)}, {"onnx": "ONNX Runtime not found"}))
    assert [one.level for one in found] == [PROBLEM, NOTE]
    assert f"{broken} does not load: " in found[0].found and "invalid ELF header" in found[0].found
    assert found[1].advice == 'pip install "servable[onnx]"'
    missing = Libraries({}, {"tensorflow": "TensorFlow not found: no package; install it"})
    (none,) = software.engines(missing)
    assert none.level == PROBLEM and none.advice.startswith("install it")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGILL)",
            "instructions that this processor does not have",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11"),
        ("raise SystemExit(3)", "status 3"),
        ("raise OSError('no such thing')", "OSError: no such thing"),
    ],
)
def test_a_library_that_ends_its_process_ends_nothing_else(program: str, words: str) -> None:
    tried = software._tried([sys.executable, "-c", program])
    assert isinstance(tried, tuple) and words in tried[0]


# ---- places


def test_ports() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        number = taken.getsockname()[1]
        found = places.port(number, "port", "gRPC")
        assert found.level == WARNING
        assert f"port {number} is taken by " in found.found and "--port=N" in found.advice
    assert places.port(number, "port", "gRPC").level == OK


def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = places.cache(str(tmp_path / "a" / "b"))
    assert found.level == OK and not (tmp_path / "a").exists()
    monkeypatch.setattr("os.access", lambda *_: False)
    assert places.cache(str(tmp_path)).level == WARNING


def test_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.models(str(tmp_path / "none")).level == PROBLEM
    assert "holds no version" in places.models(str(tmp_path)).found
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    assert places.models(str(tmp_path)) == Check("models", OK, f"{tmp_path}: 1 version, readable")
    assert places.models(str(tmp_path / "1")).level == OK
    assert places.models("s3://bucket/m").level == NOTE
    denied = str(tmp_path / "1" / "saved_model.pb")
    monkeypatch.setattr("os.access", lambda path, _: path != denied)
    found = places.models(str(tmp_path))
    assert found.level == PROBLEM and found.advice.startswith("chmod -R a+rX")


# ---- the command


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("python", OK, "3.11"), Check("ports", WARNING, "8501 is taken", "choose another")]
    assert described(checks, Colours(False)) == (
        "ok       python  3.11\nwarning  ports   8501 is taken\n                 -> choose another\n\n"
        "ready to serve (1 warning)\n"
    )
    checks.append(Check("engines", PROBLEM, "none"))
    assert described(checks, Colours(False)).endswith("a server would not serve (1 problem, 1 warning)\n")
    assert "\x1b[31mproblem" in described(checks, Colours(True))


def test_the_command_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from servable.engines import libraries

    monkeypatch.setattr(libraries, "find_all", lambda *_: Libraries({"tflite": "/no/such/library"}, {}))
    monkeypatch.setattr(software, "_tried", lambda _: '{"version": ""}')
    assert main(["doctor", "--json", str(tmp_path / "none")]) == 1
    fields = json.loads(capsys.readouterr().out)
    assert set(fields) == {"servable", "system", "ok", "checks"} and fields["ok"] is False
    assert all(set(one) == {"name", "level", "found", "advice"} for one in fields["checks"])
    assert {one["level"] for one in fields["checks"]} <= set(LEVELS)
    names = [one["name"] for one in fields["checks"]]
    assert {"python", "servable", "LiteRT", "processor", "cores", "memory", "open files"} <= set(names)
    assert {"port 8500", "port 8501", "cache", "models", "locale", "clock", "shared memory"} <= set(names)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    before = stat.S_IMODE((tmp_path / "m").stat().st_mode)
    places.all_of_places([str(tmp_path / "m")], str(tmp_path / "cache"), 0, 0)
    assert [one.name for one in tmp_path.iterdir()] == ["m"]
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == before
