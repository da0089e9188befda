"""Memory that comes back: what a server holds after each of many loads and unloads of one large model.

    python benches/memory.py [--formats saved_model onnx tflite openvino] [--cycles 20] [--megabytes 100]
                             [--keep FOLDER] [--flag=--engine=auto]

Each format has a server of its own. Ends with status 1 where the last cycle left more than 1.1 times what the
first one left. Needs Linux and, for each format, the packages that write and serve it. ``tflite`` needs
TensorFlow to be written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from large import FORMATS, large_model, serving
from process import memory_bytes, wait_until

LIMIT = 1.1
SETTLE_SECONDS = 10.0


def still_open(pid: int, folder: Path) -> list[str]:
    """Returns the files below ``folder`` that the process has open or mapped."""
    process = Path("/proc") / str(pid)
    opened = [str(fd.readlink()) for fd in (process / "fd").iterdir() if fd.is_symlink()]
    mapped = [line.split(maxsplit=5)[-1] for line in (process / "maps").read_text().splitlines()]
    return sorted({path for path in opened + mapped if path.startswith(str(folder))})


def run(
    folder: Path, cycles: int, megabytes: int, form: str = "saved_model", flags: Sequence[str] = ()
) -> list[int]:
    """Returns the resident bytes after each cycle, with a model of so many megabytes in ``folder``."""
    resident: list[int] = []
    large = large_model(folder, megabytes, form)
    with serving(folder, large, *flags) as server:
        pid = server.process.pid
        print(f"{form}, before: {memory_bytes(pid, 'VmRSS') / 1e6:.0f} MB", flush=True)
        for cycle in range(cycles):
            server.come_and_go()
            wait_until(lambda: not still_open(pid, large), SETTLE_SECONDS, f"the files of {large} to close")
            resident.append(memory_bytes(pid, "VmRSS"))
            print(f"cycle {cycle + 1}: {resident[-1] / 1e6:.0f} MB", flush=True)
    return resident


def main() -> int:
    """Prints each cycle and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=["saved_model"])
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--keep", type=Path, help="where the large model is kept for the next time")
    parser.add_argument("--flag", action="append", default=[], help="of the server; may be repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        ratios = {}
        for form in options.formats:
            resident = run(folder, options.cycles, options.megabytes, form, options.flag)
            ratios[form] = resident[-1] / resident[0]
    for form, ratio in ratios.items():
        print(f"{form}: after {options.cycles} cycles {ratio:.2f} times what the first left")
    return 0 if max(ratios.values()) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
