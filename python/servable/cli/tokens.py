"""``servable token new``, ``list``, ``remove``: the lines of a server's ``--auth_file``.

A token is ``servable.NAME.SECRET``; the file has the salted hash of the secret only (``src/auth/token.rs``),
so a token is printed once, when it is made. A running server takes a changed file over by itself. Exit
statuses: 0 success, 1 refused or failed, 2 invalid command line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import secrets
import sys
from collections.abc import Sequence

from servable.cli.table import table
from servable.cli.token_file import change, read
from servable.errors import StatusError, invalid_argument

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SECRET_BYTES = 32
"""256 random bits, which nobody can guess: they need no slow hash."""
SALT_BYTES = 9
HEADER = "# Tokens of servable, one a line: a name, the hash of its secret, and what it is for.\n"
SETTINGS = ("scopes", "models", "rate", "burst", "in_flight")


def token(argv: Sequence[str]) -> int:
    """Runs the subcommand; returns the exit status."""
    given = parser().parse_args(argv)
    try:
        {"new": _new, "list": _list, "remove": _remove}[given.command](given)
    except StatusError as error:
        print(f"servable token: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="servable token", description="Tokens for clients of servers with --auth_file."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser(
        "new",
        help="make a token",
        description="Make a token. With --auth_file its line is added to the file, and the token printed; "
        "otherwise both are printed, the line first.",
    )
    new.add_argument("name", help="who will use it: letters, digits, - and _")
    new.add_argument(
        "--scopes",
        default="predict,read",
        help="some of predict, read and manage, between commas (default %(default)s)",
    )
    new.add_argument(
        "--models", default="*", help="names of models between commas, * for any text (default %(default)s)"
    )
    new.add_argument("--rate", metavar="N/s", help="most requests in a second (s), minute (m) or hour (h)")
    new.add_argument(
        "--burst", metavar="N", help="most requests at once after a pause (default: those of --rate)"
    )
    new.add_argument("--in_flight", "--in-flight", metavar="N", help="most requests at the same time")
    _file_argument(new, required=False)
    listing = commands.add_parser("list", help="show the tokens of a file")
    listing.add_argument("--json", action="store_true", help="the same as JSON")
    _file_argument(listing)
    remove = commands.add_parser("remove", help="take a token out of a file")
    remove.add_argument("name")
    _file_argument(remove)
    return parser


def _file_argument(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--auth_file", "--auth-file", metavar="FILE", required=required, help="the server's --auth_file"
    )


def _new(given: argparse.Namespace) -> None:
    line, made = new_line(given.name, {key: getattr(given, key) for key in SETTINGS})
    if given.auth_file is None:
        print(
            "# the line for --auth_file, then the token, which is shown this once:",
            file=sys.stderr,
            flush=True,
        )
        print(line)
        print(made, flush=True)
        return

    def added(text: str) -> str:
        # Refuses a file that the server would refuse, and a name that is there.
        names = {name for _, name, _ in _tokens(text, given.auth_file)} if text.strip() else set()
        if given.name in names:
            raise StatusError(
                "ALREADY_EXISTS",
                f"{given.auth_file} has a token {given.name}",
                f"choose another name, or servable token remove {given.name} --auth_file {given.auth_file}",
            )
        text = text or HEADER
        return text + ("" if text.endswith("\n") else "\n") + line + "\n"

    change(given.auth_file, added, create=True)
    print("# the token, which is shown this once:", file=sys.stderr, flush=True)
    print(made, flush=True)


def new_line(name: str, settings: dict[str, str | None]) -> tuple[str, str]:
    """Makes a token; returns its line and itself. Raises ``InvalidArgumentError``."""
    if not NAME.fullmatch(name):
        raise invalid_argument(
            f"a token cannot be called {name!r}: expected up to 64 letters, digits, - and _, the first "
            "a letter or a digit"
        )
    for key, value in settings.items():
        if value is not None and re.search(r"\s", value):
            raise invalid_argument(f"--{key} expects no spaces, got {value!r}", "a space in a name is %20")
    salt, secret = secrets.token_urlsafe(SALT_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    digest = hashlib.sha256((salt + secret).encode()).hexdigest()
    words = [f"{key}={value}" for key, value in settings.items() if value is not None]
    line = " ".join([name, f"sha256:{salt}:{digest}", *words])
    try:
        _tokens(line, "")
    except StatusError as error:
        raise invalid_argument(error.message.removeprefix("line 1: ")) from None
    return line, f"servable.{name}.{secret}"


def _list(given: argparse.Namespace) -> None:
    tokens = _tokens(read(given.auth_file), given.auth_file)
    if given.json:
        print(json.dumps({"tokens": [{"name": name, **settings} for _, name, settings in tokens]}, indent=2))
        return
    rows = [(name, *(settings.get(key, "") for key in SETTINGS)) for _, name, settings in tokens]
    print(table(("NAME", *(key.upper() for key in SETTINGS)), rows), end="")


def _remove(given: argparse.Namespace) -> None:
    def removed(text: str) -> str:
        numbers = {name: number for number, name, _ in _tokens(text, given.auth_file)}
        if given.name not in numbers:
            raise StatusError(
                "NOT_FOUND",
                f"{given.auth_file} has no token {given.name}",
                f"servable token list --auth_file {given.auth_file}",
            )
        # Lines as the core counts them: str.splitlines also ends one at other characters.
        lines = re.findall(r"[^\n]*\n|[^\n]+", text)
        del lines[numbers[given.name] - 1]
        # A file without a token has a comment, so that nobody takes it for one that is being written.
        return "".join(lines) if "".join(lines).strip() else HEADER

    change(given.auth_file, removed)
    print(f"{given.name} is no token of {given.auth_file} any more")


def _tokens(text: str, path: str) -> list[tuple[int, str, dict[str, str]]]:
    """Returns number of the line, name and settings of each token, read as the server reads them."""
    from servable import _core

    try:
        return [(number, name, dict(settings)) for number, name, settings in _core.tokens(text)]
    except _core.CoreError as error:
        raise invalid_argument(f"{path}: {error.message}" if path else error.message) from None
