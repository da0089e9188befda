"""The memory limits of machines and containers, from files like those of Linux."""

from __future__ import annotations

from pathlib import Path

import pytest

from servable.config.memory_limit import LEAST, limit, share

GIB = 1 << 30


def system(root: Path, memory_kb: int, cgroup: str, **limits: str) -> Path:
    """Makes a root folder. limits: path below ``sys/fs/cgroup``, with ``__`` for ``/`` → content."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {memory_kb} kB\nMemFree: 1 kB\n")
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, content in limits.items():
        file = root / "sys/fs/cgroup" / name.replace("__", "/").replace("memory_", "memory.")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return root


MACHINE = 8 * GIB // 1024


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/\n", {}, 8 * GIB),
        ("0::/\n", {"memory_max": "max"}, 8 * GIB),
        ("0::/\n", {"memory_max": str(GIB)}, GIB),
        ("0::/a/b\n", {"a__b__memory_max": "max", "a__memory_max": str(2 * GIB)}, 2 * GIB),
        ("0::/a/b\n", {"a__b__memory_max": str(GIB), "a__memory_max": str(2 * GIB)}, GIB),
        # The host's path, in a container that sees its own group as the root.
        ("0::/kubepods/pod1\n", {"memory_max": str(GIB)}, GIB),
        ("4:memory:/docker/x\n3:cpu:/\n", {"memory__docker__x__memory_limit_in_bytes": str(GIB)}, GIB),
        ("4:memory:/docker/x\n", {"memory__memory_limit_in_bytes": str(GIB)}, GIB),
        ("4:memory:/x\n", {"memory__x__memory_limit_in_bytes": "9223372036854771712"}, 8 * GIB),
        ("0::/../..\n", {"memory_max": str(GIB)}, GIB),
        ("nonsense\n", {}, 8 * GIB),
        ("0::/\n", {"memory_max": "much"}, 8 * GIB),
    ],
)
def test_the_smallest_limit_counts(
    tmp_path: Path, cgroup: str, limits: dict[str, str], expected: int
) -> None:
    assert limit(system(tmp_path, MACHINE, cgroup, **limits)) == expected


def test_requests_get_a_quarter(tmp_path: Path) -> None:
    assert share(system(tmp_path, MACHINE, "0::/\n")) == 2 * GIB


def test_there_is_always_something(tmp_path: Path) -> None:
    assert share(system(tmp_path, 1000, "0::/\n")) == LEAST


def test_this_machine_has_some() -> None:
    assert limit() > LEAST
    assert limit(Path("/nowhere")) > 0
