"""Checks what is in a wheel and an sdist: all that the sources have, and nothing that does not belong there.

python scripts/check_distributions.py servable-….whl servable-….tar.gz
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "servable"
LEFT_OUT = (".so", ".pyc", ".new")
MOST_BYTES = {".whl": 40_000_000, ".gz": 20_000_000}
NEEDED_TO_BUILD = ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "LICENSE", "src/lib.rs")


def package_files() -> set[str]:
    """Returns the files of the Python package, such as ``servable/errors.py``, but nothing built."""
    found = (path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in LEFT_OUT)
    return {path.relative_to(PACKAGE.parent).as_posix() for path in found}


def names_in(distribution: Path) -> set[str]:
    """Returns the files of a wheel, or those of an sdist without their first folder."""
    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as wheel:
            return {name for name in wheel.namelist() if not name.endswith("/")}
    with tarfile.open(distribution) as sdist:
        return {one.name.partition("/")[2] for one in sdist.getmembers() if one.isfile()}


def complaints(distribution: Path, names: set[str], expected: set[str]) -> list[str]:
    """Returns what is wrong with a distribution of these files."""
    if distribution.suffix == ".whl":
        missing = {*expected, "servable/_core.abi3.so"} - names
        foreign = {name for name in names if not name.startswith(("servable/", "servable-"))}
    else:
        missing = {*(f"python/{name}" for name in expected), *NEEDED_TO_BUILD} - names
        foreign = {
            name for name in names if name.endswith(LEFT_OUT) or name.startswith(("build/", "target/"))
        }
    size = distribution.stat().st_size
    said = [f"{name} is missing" for name in sorted(missing)]
    said += [f"{name} does not belong there" for name in sorted(foreign)]
    if size > MOST_BYTES[distribution.suffix]:
        said.append(f"{size:,} bytes are more than {MOST_BYTES[distribution.suffix]:,}")
    return said


def main(paths: list[str]) -> int:
    """Checks each; returns the exit status."""
    failed = 0
    for path in map(Path, paths):
        names = names_in(path)
        said = complaints(path, names, package_files())
        for line in said:
            print(f"{path.name}: {line}", file=sys.stderr)
        failed += bool(said)
        print(f"{path.name}: {len(names)} files, {path.stat().st_size:,} bytes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
