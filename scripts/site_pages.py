"""The tables of the reference, made from the one list of each subject: flags, errors, paths, commands."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MEANINGS = {
    "CANCELLED": "The client left before it was answered.",
    "UNKNOWN": "The engine failed in a way that it did not name.",
    "INVALID_ARGUMENT": "The request is wrong, and stays so: a name, dtype or shape is not the signature's.",
    "DEADLINE_EXCEEDED": "The time of the request was over.",
    "NOT_FOUND": "There is no such model, version, label or signature, or it is not available.",
    "ALREADY_EXISTS": "What should be made is there already.",
    "PERMISSION_DENIED": "The token is not for this; or a base path is not allowed.",
    "RESOURCE_EXHAUSTED": "Too much at once: queues, memory for requests, a token's limits. Try again later.",
    "FAILED_PRECONDITION": "The model cannot be asked so: for instance classify, of a signature for predict.",
    "ABORTED": "Something else changed at the same time.",
    "OUT_OF_RANGE": "A value is beyond what the model takes.",
    "UNIMPLEMENTED": "There is no such method, or this build has no engine for it.",
    "INTERNAL": "A fault of the server; its log has the reason.",
    "UNAVAILABLE": "The server stops, is not ready yet, or the model is being replaced. Try again.",
    "DATA_LOSS": "A file of the model is damaged.",
    "UNAUTHENTICATED": "There is no valid token in the request.",
}
"""What each kind of error usually means to a client; the kinds themselves are those of ``src/error.rs``."""

_MARKER = re.compile(r"^<!-- table: (\w+) -->$", re.MULTILINE)


def filled(page: str) -> str:
    """Returns a page of the reference with its tables in place of their markers."""
    return _MARKER.sub(lambda found: TABLES[found[1]](), page)


def flags() -> str:
    """Returns a table of flags for each group, under its title."""
    from servable.cli.usage import markdown_table
    from servable.config.flags import FLAGS, GROUPS

    head, rule, *rows = markdown_table().splitlines()
    named = {row.split("`")[1]: row for row in rows}
    parts = []
    for group, title in GROUPS.items():
        found = [named[flag.name] for flag in FLAGS.values() if flag.group == group]
        parts += [f"## {title}", "", head, rule, *found, ""]
    return "\n".join(parts)


def error_kinds() -> list[tuple[int, str, int]]:
    """Returns code, name and HTTP status of every kind, as the core's table has them."""
    source = _source("error.rs")
    codes = {kind: int(code) for kind, code in re.findall(r"^    (\w+) = (\d+),$", source, re.MULTILINE)}
    rows = re.findall(r'\(Kind::(\w+), "(\w+)", (\d+)\)', source)
    return [(codes[kind], name, int(status)) for kind, name, status in rows]


def errors() -> str:
    """Returns the table of the kinds of errors."""
    rows = [f"| {code} | `{name}` | {status} | {MEANINGS[name]} |" for code, name, status in error_kinds()]
    return "\n".join(["| Code | Kind | HTTP | Usually |", "| --- | --- | --- | --- |", *rows])


def rest() -> str:
    """Returns the table of paths of TensorFlow Serving's API."""
    verbs = re.findall(r'Verb \{ word: "(\w+)"', _source("rest/verb.rs"))
    return "\n".join(
        [
            "| | path | |",
            "| --- | --- | --- |",
            *(f"| `POST` | `/v1/models/NAME:{verb}` | a prediction |" for verb in verbs),
            "| `GET` | `/v1/models/NAME` | versions and their states |",
            "| `GET` | `/v1/models/NAME/metadata` | signatures: names, dtypes, shapes |",
        ]
    )


def grpc_methods() -> dict[str, list[str]]:
    """Returns the methods of every service on the gRPC port."""
    services: dict[str, list[str]] = {}
    for service, method in re.findall(r'"/(tensorflow\.[\w.]+)/(\w+)"', _source("grpc/mod.rs")):
        services.setdefault(service, []).append(method)
    inference = re.findall(r'^        "(\w+)" =>', _source("grpc/v2/mod.rs"), re.MULTILINE)
    services["inference.GRPCInferenceService"] = [*inference, "ModelStreamInfer"]
    services["grpc.health.v1.Health"] = ["Check", "Watch"]
    services["grpc.reflection.v1.ServerReflection"] = ["ServerReflectionInfo"]
    return services


def grpc() -> str:
    """Returns the table of services and their methods."""
    rows = [
        f"| `{service}` | {', '.join(f'`{method}`' for method in methods)} |"
        for service, methods in grpc_methods().items()
    ]
    return "\n".join(["| service | methods |", "| --- | --- |", *rows])


def administration() -> str:
    """Returns the paths of the administration, as ``servable/admin/http.py`` lists them."""
    source = (ROOT / "python" / "servable" / "admin" / "http.py").read_text(encoding="utf-8")
    described = ast.get_docstring(ast.parse(source)) or ""
    return _as_text(line[4:] for line in described.splitlines() if line.startswith("    "))


def commands() -> str:
    """Returns the text of ``servable help``."""
    from servable.cli import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main(["help"])
    return _as_text(printed.getvalue().rstrip().splitlines())


def _as_text(lines: Iterable[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


def _source(path: str) -> str:
    return (ROOT / "src" / path).read_text(encoding="utf-8")


TABLES: dict[str, Callable[[], str]] = {
    "flags": flags,
    "errors": errors,
    "rest": rest,
    "grpc": grpc,
    "administration": administration,
    "commands": commands,
}
"""The tables, by the names that markers in ``docs/reference`` give them."""
