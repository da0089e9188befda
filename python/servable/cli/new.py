"""``servable new NAME``: a starter project that exports, serves and tests a model.

Exit statuses: 0 made, 1 something is there already, or cannot be written, 2 invalid command line.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files

FILES = {
    "README.md": "README.md.txt",
    "export.py": "export.py.txt",
    "test_model.py": "test_model.py.txt",
    "models/models.config": "models.config.txt",
    "compose.yaml": "compose.yaml.txt",
    "requirements.txt": "requirements.txt.txt",
    ".gitignore": "gitignore.txt",
}
"""Path in the project → its file in ``servable/starter``."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="servable new",
        description="Make a folder with all that serves a model of your own: an export script, a config "
        "file, a Compose file, a test and a README.",
    )
    parser.add_argument(
        "name", metavar="NAME", help="of the model, and of the folder: letters, digits, - and _"
    )
    parser.add_argument("--folder", metavar="FOLDER", default="", help="another folder (default: ./NAME)")
    return parser


def new(argv: Sequence[str]) -> int:
    """Runs the command."""
    commands = parser()
    given = commands.parse_args(argv)
    if not NAME.fullmatch(given.name):
        commands.error(
            f"a model is named by a letter, then up to 63 letters, digits, - and _; got {given.name!r}"
        )
    folder = os.path.abspath(os.path.expanduser(given.folder or given.name))
    if os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        print(f"servable: {folder} is there already, and nothing in it is overwritten", file=sys.stderr)
        print("hint: give another name, or another folder with --folder", file=sys.stderr)
        return 1
    try:
        write(folder, given.name)
    except OSError as error:
        print(f"servable: {error.filename or folder} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{folder}:")
    for path in FILES:
        print(f"  {path}")
    print(f"\nnext:\n  cd {os.path.relpath(folder)}\n  pip install -r requirements.txt\n  python export.py")
    print(f"  servable serve models/{given.name}")
    return 0


def write(folder: str, name: str) -> None:
    """Writes the project into a folder that is not there, or empty: all of it, or nothing.

    Raises ``OSError``.
    """
    source = files("servable.starter")
    was_there = os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    made: list[str] = []
    try:
        for path, template in FILES.items():
            target = os.path.join(folder, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            text = source.joinpath(template).read_text(encoding="utf-8").replace("@NAME@", name)
            with open(target, "x", encoding="utf-8") as file:
                made.append(target)
                file.write(text)
    except BaseException:
        # What others have put there meanwhile stays.
        for target in made:
            os.unlink(target)
        below = sorted(
            {os.path.dirname(os.path.join(folder, path)) for path in FILES} - {folder}, reverse=True
        )
        for empty in (*below, *(() if was_there else (folder,))):
            with suppress(OSError):
                os.rmdir(empty)
        raise
