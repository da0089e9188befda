"""A control plane for all tests of this folder, and releases of the chart on it. Run by `make
test-kubernetes`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_plane import ControlPlane, running
from releases import Models
from servers import MODELS, put_version

ADDRESS = "10.77.0.1"
"""This machine's address on the bridge of the pods; run.sh makes both."""

PYTHON = """\
#!/bin/sh
exec env PYTHONPATH={path} {python} -c {program} "$@"
"""
PROGRAMS = {
    "servable": "import sys; from servable.cli import main; sys.exit(main())",
    "tensorflow_model_server": "import sys; from servable.cli import tensorflow_model_server as server; "
    "sys.exit(server())",
    # KServe's: python/storage-initializer/scripts/initializer-entrypoint.
    "storage-initializer": "import sys; from kserve_storage import Storage; "
    "Storage.download_files(sys.argv[1::2], sys.argv[2::2])",
}

if "SERVABLE_KUBERNETES_RUN" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def run_folder() -> Path:
    """A folder in memory, which is not on this machine's disk."""
    return Path(os.environ["SERVABLE_KUBERNETES_RUN"])


@pytest.fixture(scope="session")
def plane(run_folder: Path) -> Iterator[ControlPlane]:
    """The control plane."""
    folder = run_folder / "plane"
    folder.mkdir()
    with running(folder, ADDRESS) as started:
        yield started


@pytest.fixture(scope="session")
def layer(run_folder: Path) -> Path:
    """What the image has on top of this machine's files: its commands."""
    folder = run_folder / "layer"
    commands = folder / "usr" / "bin"
    commands.mkdir(parents=True)
    for name, program in PROGRAMS.items():
        file = commands / name
        path = [one for one in sys.path if one.endswith("/python")]
        if name == "storage-initializer":
            path = [os.environ["SERVABLE_KSERVE_STORAGE"]]
        file.write_text(PYTHON.format(path=":".join(path), python=sys.executable, program=f"'{program}'"))
        file.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def models(run_folder: Path) -> Models:
    """The models that pods serve, as the content of volumes."""
    folder = run_folder / "models"
    for name in ("half_plus_two", "loop"):
        (folder / name).mkdir(parents=True)
        put_version(name, folder / name, 1)
    return Models(folder, MODELS)
