"""Python environments of the rivals, made once and used again.

Each is made by uv in ``build/bench/rivals/NAME`` and gets the packages that its ``requirements-NAME.txt``
pins. These were resolved with TensorFlow, so all versions fit it, but leave out TensorFlow itself: its 1.3
GB are shared. A ``.pth`` file in each environment puts the packages of the interpreter that runs the
benchmark behind its own; from there TensorFlow is imported, the very libraries that Servable runs. (An
environment made with ``--system-site-packages`` would see those of the base interpreter, not those of a
virtual environment.) To pin again, with NAME for the rival's:

    python -m uv pip compile --universal --python-version 3.10 --no-header --no-annotate \\
        --no-emit-package tensorflow-cpu -o requirements-NAME.txt requirements-NAME.in
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from process import BenchError

FOLDER = Path(__file__).resolve().parent
BUILD = FOLDER.parent.parent / "build" / "bench" / "rivals"
SHARED = "packages_of_the_benchmark.pth"
INSTALLING_SECONDS = 1800


@dataclass(frozen=True)
class Environment:
    """The environment for one file of pinned requirements. shared: sees TensorFlow too."""

    requirements: Path
    shared: bool = True

    @property
    def name(self) -> str:
        """Returns the NAME of ``requirements-NAME.txt``."""
        return self.requirements.stem.removeprefix("requirements-")

    @property
    def folder(self) -> Path:
        """Returns where it is made."""
        return BUILD / self.name

    @property
    def programs(self) -> Path:
        """Returns the folder of its interpreter and commands."""
        return self.folder / "bin"

    def install(self) -> None:
        """Makes the environment, unless it is there as wanted; raises ``BenchError`` with the reason."""
        made_of, wanted = self.folder / "made_of.txt", self._made_of()
        if made_of.is_file() and made_of.read_text(encoding="utf-8") == wanted:
            return
        print(f"installing {self.name} in build/bench/rivals (once)", flush=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        _uv("venv", "--python", sys.executable, str(self.folder))
        python = str(self.programs / "python")
        _uv("pip", "install", "--python", python, "--requirements", str(self.requirements))
        if self.shared:
            (packages,) = self.folder.glob("lib/python3*/site-packages")
            (packages / SHARED).write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        made_of.write_text(wanted, encoding="utf-8")

    def _made_of(self) -> str:
        return (
            f"{sys.version}\n{sysconfig.get_path('purelib')}\n{self.requirements.read_text(encoding='utf-8')}"
        )

    def version(self, package: str) -> str:
        """Returns the installed version of a package."""
        found = next(self.folder.glob(f"lib/python3*/site-packages/{package}-*.dist-info"), None)
        return "" if found is None else found.name.removeprefix(f"{package}-").removesuffix(".dist-info")


def _uv(*arguments: str) -> None:
    if importlib.util.find_spec("uv") is None:
        raise BenchError("uv is not installed in this environment: `make dev`")
    command = [sys.executable, "-m", "uv", *arguments, "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING_SECONDS)
    if ran.returncode != 0:
        lines = re.sub(r"\x1b\[[\d;]*m", "", ran.stderr).strip().splitlines() or [
            "uv failed and said nothing"
        ]
        raise BenchError(lines[-1].strip())
