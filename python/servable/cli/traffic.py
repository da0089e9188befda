"""``servable traffic show``, ``set``, ``clear``, ``resume``: how a running server spreads a model's requests.

Through its administration, as in ``models.py``. Exit statuses: 0 success, 1 refused or failed, 2 invalid
command line.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import Any

from servable.cli.models import Administration, address_argument, asked, part
from servable.cli.printable import printable
from servable.cli.table import table

PATIENCE = 60.0
"""Seconds that the server may take."""

Fields = dict[str, Any]


def traffic(argv: Sequence[str]) -> int:
    """Runs the subcommand; returns the exit status."""
    top = parser()
    given = _given(top, argv)
    method, path, body = "GET", "", None
    if given.command == "set":
        try:
            method, body = "PUT", rules(given)
        except ValueError as error:
            top.error(str(error))
    elif given.command == "clear":
        method = "DELETE"
    elif given.command == "resume":
        method, path = "POST", "/resume"

    def work(server: Administration) -> int:
        fields = server.ask(method, f"/admin/models/{part(given.name)}/traffic{path}", body)
        print(json.dumps(fields, indent=2) if given.json else told(fields), end="\n" if given.json else "")
        return 0

    return asked(given, PATIENCE, work)


def _given(top: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Returns the arguments. Shares may come behind options, too, where argparse takes none."""
    given, more = top.parse_known_args(argv)
    if given.command == "set" and not any(one.startswith("-") for one in more):
        given.shares = [*given.shares, *more]
    elif more:
        top.error(f"unrecognized arguments: {' '.join(more)}")
    return given


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="servable traffic",
        description="Spread the requests to a model that name neither a version nor a label. A target is the "
        "number of a version, or a label.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, said in (
        ("show", "show how a model's traffic is spread, and what has become of it"),
        ("set", "spread it so from now on, and no longer as before"),
        ("clear", "spread it no longer: the latest version gets it"),
        ("resume", "give what was rolled back its share again"),
    ):
        one = commands.add_parser(name, help=said, description=said[0].upper() + said[1:] + ".")
        one.add_argument("name", help="the model")
        if name == "set":
            _rule_arguments(one)
        address_argument(one)
        one.add_argument("--json", action="store_true", help="print what the server said")
    return parser


def _rule_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shares", nargs="*", metavar="TARGET=PERCENT", help="its share: canary=5%%")
    parser.add_argument(
        "--default", metavar="TARGET", default="", help="who gets the rest (default: the newest not named)"
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE:TARGET",
        help="whatever has this header, or gRPC metadata, goes there",
    )
    parser.add_argument(
        "--key", metavar="HEADER", default="", help="the same value of this header has the same target"
    )
    parser.add_argument("--shadow", metavar="TARGET=PERCENT", help="gets copies, whose answers are compared")
    parser.add_argument("--tolerance", type=_as_number, help="difference of numbers that it may have (1e-5)")
    parser.add_argument("--shadow_timeout", type=_as_number, metavar="SECONDS", help="for its answers (10)")
    group = parser.add_argument_group("what has a target rolled back")
    for name, unit, said in (
        ("max_errors", "PERCENT", "more of its requests fail"),
        ("max_errors_above", "PERCENT", "that many more fail than of the default's"),
        ("max_p99", "MILLISECONDS", "its p99 is longer"),
        ("max_p99_ratio", "TIMES", "its p99 is that many times the default's"),
        ("window", "SECONDS", "in this time (60)"),
        ("for", "SECONDS", "all of this time (10)"),
    ):
        group.add_argument(f"--{name}", type=_as_number, metavar=unit, help=said)
    group.add_argument("--min_requests", type=int, metavar="N", help="once there were so many (100)")
    group.add_argument("--count_client_errors", action="store_true", help="also errors by a client's fault")


def _number(text: str) -> float:
    number = float(text.removesuffix("%"))
    if not math.isfinite(number):
        raise ValueError(f"expected a number, got {text!r}")
    return number


def _as_number(text: str) -> float:
    try:
        return _number(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def rules(given: argparse.Namespace) -> Fields:
    """Returns the TrafficSplit that is asked for. Raises ``ValueError``."""
    fields: Fields = {
        "share": [_share(text) for text in given.shares],
        "header": [_header(text) for text in given.header],
        "default_to": given.default,
        "key_header": given.key,
    }
    if given.shadow is not None:
        fields["shadow"] = {
            **_share(given.shadow),
            **_stated({"tolerance": given.tolerance, "timeout_seconds": given.shadow_timeout}),
        }
    elif given.tolerance is not None or given.shadow_timeout is not None:
        raise ValueError("--tolerance and --shadow_timeout need --shadow TARGET=PERCENT")
    stated = _stated(
        {
            "max_error_percent": given.max_errors,
            "max_error_percent_above_default": given.max_errors_above,
            "max_p99_milliseconds": given.max_p99,
            "max_p99_ratio_to_default": given.max_p99_ratio,
            "min_requests": given.min_requests,
            "window_seconds": given.window,
            "for_seconds": getattr(given, "for"),
        }
    )
    if stated or given.count_client_errors:
        fields["roll_back"] = {**stated, "count_client_errors": given.count_client_errors}
    return {name: value for name, value in fields.items() if value}


def _stated(values: Fields) -> Fields:
    return {name: value for name, value in values.items() if value is not None}


def _share(text: str) -> Fields:
    to, equals, percent = text.rpartition("=")
    try:
        return {"to": to, "percent": _number(percent)} if equals and to else _fail()
    except ValueError:
        raise ValueError(f"expected TARGET=PERCENT, such as canary=5%, got {text!r}") from None


def _fail() -> Fields:
    raise ValueError


def _header(text: str) -> Fields:
    rule, colon, to = text.rpartition(":")
    name, equals, value = rule.partition("=")
    if not (colon and equals and name and value and to):
        raise ValueError(f"expected NAME=VALUE:TARGET, such as x-canary=1:canary, got {text!r}")
    return {"name": name, "value": value, "to": to}


def told(fields: Fields) -> str:
    """Formats what the server said: a row per target, the shadow, and what was rolled back."""
    if "rules" not in fields:
        return f"the traffic of {fields['name']} is not spread: its latest version gets it\n"
    heads = ("TARGET", "VERSION", "SHARE", "STATE", "REQUESTS", "NOT SERVED", "ERRORS", "P99")
    rows, notes = [], []
    for one in fields["targets"]:
        rows.append(_row(one))
        if "rolled_back" in one:
            back = one["rolled_back"]
            notes.append(
                f"{one['to']}: version {back['version']} was rolled back at {back['at']}: {back['why']}"
            )
    rules = fields["rules"]
    for header in rules.get("header", []):
        notes.append(f"{header['name']}: {header['value']} goes to {header['to']}")
    if rules.get("key_header"):
        notes.append(f"the same {rules['key_header']} goes to the same target")
    if "shadow" in fields:
        notes += _shadow_notes(fields["shadow"])
    return table(heads, rows) + "".join(f"{printable(note)}\n" for note in notes)


def _row(one: Fields) -> tuple[str, ...]:
    requests, window = one["requests"], one.get("window", {})
    missed = sum(requests.get(reason, 0) for reason in ("unavailable", "rolled_back"))
    state = "ROLLED BACK" if "rolled_back" in one else "AVAILABLE" if one["available"] else "UNAVAILABLE"
    return (
        f"{one['to']} ({one['named']})" if "named" in one else one["to"],
        "-" if one["version"] is None else str(one["version"]),
        f"{one['percent']:g} %" if "percent" in one else "",
        state,
        str(sum(requests.values()) - missed),
        str(missed) if missed else "",
        f"{window['errors']} of {window['requests']}" if window else "",
        f"{window['p99_milliseconds']:g} ms" if "p99_milliseconds" in window else "",
    )


def _shadow_notes(shadow: Fields) -> list[str]:
    counts = ", ".join(f"{count} {name}" for name, count in shadow["requests"].items() if count)
    notes = [f"shadow {shadow['to']}: {counts or 'nothing yet'}"]
    for side in ("returned", "shadow"):
        times = shadow.get(f"{side}_milliseconds")
        if times:
            notes.append(f"  {side}: p50 {times['p50']:g} ms, p99 {times['p99']:g} ms")
    notes += [
        f"  {name.replace('_', ' ')}: {shadow[name]}"
        for name in ("last_error", "last_difference")
        if name in shadow
    ]
    return notes
