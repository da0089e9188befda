"""The effects of loading and unloading on the server's process (Linux)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from clients import await_versions
from conftest import Served
from servers import put_version, serving, until

pytestmark = [
    pytest.mark.needs_tensorflow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux"),
]


def niceness(served: Served) -> dict[str, int]:
    """Returns thread, by name and number → niceness (proc(5), field 19 of its stat)."""
    found = {}
    for task in Path(f"/proc/{served.process.pid}/task").iterdir():
        try:
            head, _, rest = (task / "stat").read_text().rpartition(") ")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        found[f"{head.partition('(')[2]} {task.name}"] = int(rest.split()[16])
    return found


def in_use(served: Served, folder: Path) -> set[str]:
    """Returns the files below ``folder`` that the process has open or mapped."""
    process = Path("/proc") / str(served.process.pid)
    opened = {str(fd.readlink()) for fd in (process / "fd").iterdir() if fd.is_symlink()}
    mapped = {line.split(maxsplit=5)[-1] for line in (process / "maps").read_text().splitlines()}
    return {path for path in opened | mapped if path.startswith(str(folder))}


def test_no_thread_keeps_the_low_priority_of_a_load(base: Path) -> None:
    """Threads inherit it, but those that TensorFlow makes with its first session must not."""
    with serving(f"m={base}") as served:
        put_version("half_plus_two", base, 2)
        await_versions(served, "m", 2)
        assert until(lambda: not any(name.startswith("servable-load") for name in niceness(served)))
        threads = niceness(served)
        assert len(threads) > 4 and len(set(threads.values())) == 1, threads


def test_an_unloaded_version_has_no_file_in_use(base: Path) -> None:
    with serving(f"m={base}") as served:
        put_version("half_plus_two", base, 2)
        await_versions(served, "m", 2)
        assert until(lambda: not in_use(served, base / "1")), in_use(served, base / "1")
        shutil.rmtree(base / "1")
