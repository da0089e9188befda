"""Limits of control groups, versions 1 and 2: each parent group may have a smaller one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def folders(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Yields the version and the folder of the process's group for ``controller``, and of its parents.

    root: the folder of ``proc`` and ``sys``.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        version = 2 if controllers == "" else 1
        if version == 1 and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup"
        mounts = [mount] if version == 2 else [mount / controllers, mount / controller]
        for one in mounts:
            # In a container the path may be that of the host, of which only the mount itself is visible.
            group = one / path.lstrip("/")
            for folder in {one, group, *group.parents}:
                if folder == one or one in folder.parents:
                    yield version, folder


def cores(root: Path) -> float | None:
    """Returns the processor time that the groups allow, in cores; None without a limit."""
    limits = [one for version, folder in folders(root, "cpu") if (one := _quota(version, folder)) is not None]
    return min(limits, default=None)


def _quota(version: int, folder: Path) -> float | None:
    if version == 2:
        quota, _, period = text(folder / "cpu.max").partition(" ")
    else:
        quota, period = text(folder / "cpu.cfs_quota_us"), text(folder / "cpu.cfs_period_us")
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return int(quota) / int(period)


def throttled(root: Path) -> float:
    """Returns the share of periods in which a group had to wait for its processor time; 0 without a limit."""
    shares = [0.0]
    for _, folder in folders(root, "cpu"):
        numbers = dict(line.split(" ", 1) for line in text(folder / "cpu.stat").splitlines() if " " in line)
        periods, waited = numbers.get("nr_periods", ""), numbers.get("nr_throttled", "")
        if periods.isdecimal() and waited.isdecimal() and int(periods):
            shares.append(int(waited) / int(periods))
    return max(shares)


def text(path: Path) -> str:
    """Returns the content of a small file of the kernel; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
