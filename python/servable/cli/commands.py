"""The one list of commands: what runs each, what its help says, and what shells complete after it.

Like ``dispatch.py`` it imports nothing heavy: a command's module is imported when the command is used.
"""

from __future__ import annotations

from typing import NamedTuple

GROUPS = {
    "begin": "Begin",
    "models": "Models in files",
    "ask": "Ask a running server",
    "manage": "Manage a running server (one with --admin_address)",
    "tell": "This program",
}


class Command(NamedTuple):
    """One command.

    arguments: as the help shows them. help: lines. module and function: what runs it. parsers: functions of
    the module that return the parsers of ``argparse``, by the words after the command's name ("" for none).
    """

    name: str
    group: str
    arguments: str
    help: tuple[str, ...]
    module: str
    function: str
    parsers: tuple[tuple[str, str], ...] = ()


LIST = (
    Command(
        "new",
        "begin",
        "NAME",
        ("make a starter project: export, serve, test",),
        "new",
        "new",
        (("", "parser"),),
    ),
    Command(
        "serve",
        "begin",
        "PATH...",
        ("serve models over REST and gRPC (servable serve --help)",),
        "dispatch",
        "serve",
    ),
    Command(
        "ray",
        "begin",
        "run CONFIG",
        ("serve the models of a file by Ray Serve",),
        "ray",
        "ray",
        (("", "parser"),),
    ),
    Command(
        "doctor",
        "begin",
        "",
        ("look at this machine: engines, limits, ports, folders;", "what will hurt, and what to do"),
        "doctor",
        "doctor",
        (("", "parser"),),
    ),
    Command(
        "inspect",
        "models",
        "PATH",
        ("show what a model offers, or what is wrong with it;", "of any other file, how to convert it"),
        "inspect",
        "inspect",
        (("", "parser"),),
    ),
    Command(
        "optimize",
        "models",
        "PATH",
        ("find the fastest engine for a SavedModel ahead of time",),
        "optimize",
        "optimize",
    ),
    Command(
        "warmup",
        "models",
        "make PATH",
        (
            "write a warm-up file from requests; warmup record MODEL:",
            "from what a running server is asked; warmup show PATH",
        ),
        "warmup",
        "warmup",
        (("", "parser"),),
    ),
    Command(
        "predict",
        "ask",
        "MODEL",
        ("ask for a prediction (servable predict --help)",),
        "predict",
        "predict",
        (("", "parser"),),
    ),
    Command(
        "bench",
        "ask",
        "URL",
        ("put load on it: latencies, throughput, failures;", "bench compare URL URL: two servers by turns"),
        "bench",
        "bench",
        (("", "load_parser"), ("compare", "compare_parser")),
    ),
    Command(
        "openapi",
        "ask",
        "URL|PATH",
        ("print the OpenAPI document of it, of one of its models,", "or of a model's files"),
        "openapi",
        "openapi",
        (("", "parser"),),
    ),
    Command(
        "models",
        "manage",
        "",
        ("list models, versions, states; models prefetch NAME...:", "load what is loaded on demand"),
        "models",
        "models",
        (("", "models_parser"),),
    ),
    Command(
        "load", "manage", "NAME PATH", ("serve one more model",), "models", "load", (("", "load_parser"),)
    ),
    Command(
        "unload", "manage", "NAME", ("serve it no longer",), "models", "unload", (("", "unload_parser"),)
    ),
    Command(
        "label", "manage", "NAME LABEL=VERSION", ("move labels",), "models", "label", (("", "label_parser"),)
    ),
    Command(
        "reload",
        "manage",
        "NAME",
        ("load its versions again from their files",),
        "models",
        "reload",
        (("", "reload_parser"),),
    ),
    Command(
        "traffic",
        "manage",
        "set NAME TARGET=5%",
        ("spread a model's requests over its versions; traffic show,", "traffic clear, traffic resume"),
        "traffic",
        "traffic",
        (("", "parser"),),
    ),
    Command(
        "token",
        "manage",
        "new NAME",
        ("make a token for a client of a server with --auth_file;", "also token list, token remove"),
        "tokens",
        "token",
        (("", "parser"),),
    ),
    Command("flags", "tell", "", ("list every flag of servers (--markdown, --json)",), "dispatch", "flags"),
    Command(
        "completion",
        "tell",
        "SHELL",
        ("print what makes bash, zsh or fish complete commands",),
        "completion",
        "completion",
        (("", "parser"),),
    ),
    Command(
        "version",
        "tell",
        "",
        ("print the versions of Servable and of the engines (--json)",),
        "dispatch",
        "version",
    ),
    Command("help", "tell", "", ("print this text",), "dispatch", "help_text"),
)
"""In the order of the help."""

BY_NAME = {one.name: one for one in LIST}
_INDENT = 18


def usage() -> str:
    """Returns the text of ``servable help``."""
    lines = ["usage: servable COMMAND ..."]
    for group, title in GROUPS.items():
        lines += ["", f"{title}:"]
        for one in LIST:
            if one.group == group:
                lines += _entry(one)
    return "\n".join(lines) + "\n"


def _entry(command: Command) -> list[str]:
    head = f"  {command.name} {command.arguments}".rstrip()
    first, *more = command.help
    begun = [f"{head:<{_INDENT}}{first}"] if len(head) < _INDENT else [head, " " * _INDENT + first]
    return [*begun, *(" " * _INDENT + line for line in more)]
