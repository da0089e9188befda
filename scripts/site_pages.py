"""The pages of the reference, made from the one list of each subject: flags, errors, paths and methods, commands."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MEANINGS = {
    "CANCELLED": "The client left before it was answered.",
    "UNKNOWN": "The engine failed in a way that it did not name.",
    "INVALID_ARGUMENT": "The request is wrong, and will stay so: a name, dtype or shape that the signature does not have.",
    "DEADLINE_EXCEEDED": "The time of the request was over.",
    "NOT_FOUND": "There is no such model, version, label or signature, or it is not available.",
    "ALREADY_EXISTS": "What should be made is there already.",
    "PERMISSION_DENIED": "The token is not for this; or a base path is not allowed.",
    "RESOURCE_EXHAUSTED": "Too much at once: queues, memory for requests, a token's limits. Try again, later.",
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


def flags() -> str:
    """Returns the page of all flags, by group."""
    from servable.cli.usage import markdown_table
    from servable.config.flags import FLAGS, GROUPS

    head, rule, *rows = markdown_table().splitlines()
    named = {row.split("`")[1]: row for row in rows}
    parts = ["# Flags", ""]
    parts.append(
        "Of `servable serve`, and of `tensorflow_model_server`. Flags are written `--name=value` or `--name value`, with `_` or "
        "`-`. A default in the column `servable serve` differs from that of `tensorflow_model_server`. What behaves "
        "differently from TensorFlow Serving: [Migrating](../migrating.md)."
    )
    for group, title in GROUPS.items():
        found = [named[flag.name] for flag in FLAGS.values() if flag.group == group]
        parts += ["", f"## {title}", "", head, rule, *found]
    return "\n".join(parts) + "\n"


def error_kinds() -> list[tuple[int, str, int]]:
    """Returns code, name and HTTP status of every kind, as the core's table has them."""
    source = (ROOT / "src" / "error.rs").read_text(encoding="utf-8")
    codes = {kind: int(code) for kind, code in re.findall(r"^    (\w+) = (\d+),$", source, re.MULTILINE)}
    rows = re.findall(r'\(Kind::(\w+), "(\w+)", (\d+)\)', source)
    return [(codes[kind], name, int(status)) for kind, name, status in rows]


def errors() -> str:
    """Returns the page of the kinds of errors."""
    rows = [
        f"| {code} | `{name}` | {status} | {MEANINGS[name]} |" for code, name, status in error_kinds()
    ]
    return "\n".join(
        [
            "# Errors",
            "",
            "An error has one of these kinds, the canonical codes of gRPC. Over gRPC it is the call's status; over REST it is "
            "the status of HTTP, with a body `{\"error\": \"…\"}`. Texts are TensorFlow Serving's where it has one. Metrics, "
            "the access log and traces name the kind.",
            "",
            "| Code | Kind | HTTP | Usually |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "A few errors have another status over HTTP: bodies that are too large (413), methods that a path does not have "
            "(405), and overload, which is 503 with `Retry-After`, so that clients and load balancers know what to do "
            "([overload](../operating.md#overload)). "
            "`Retry-After`, or `grpc-retry-pushback-ms` over gRPC, stands where another try makes sense.",
            "",
            "The [Open Inference Protocol](../open-inference.md) has its own body and some of its own statuses.",
            "",
        ]
    )


def api() -> str:
    """Returns the page of paths and methods."""
    verbs = re.findall(r'Verb \{ word: "(\w+)"', _source("rest/verb.rs"))
    methods = re.findall(r'"/(tensorflow\.[\w.]+)/(\w+)"', _source("grpc/mod.rs"))
    v2 = re.findall(r'^        "(\w+)" =>', _source("grpc/v2/mod.rs"), re.MULTILINE)
    paths = [f"| `POST` | `/v1/models/NAME:{verb}` | a prediction, by `{verb}` |" for verb in verbs]
    services: dict[str, list[str]] = {}
    for service, method in methods:
        services.setdefault(service, []).append(method)
    services["inference.GRPCInferenceService"] = [*v2, "ModelStreamInfer"]
    services["grpc.health.v1.Health"] = ["Check", "Watch"]
    services["grpc.reflection.v1.ServerReflection"] = ["ServerReflectionInfo"]
    return "\n".join(
        [
            "# API",
            "",
            "## REST",
            "",
            "On `--rest_api_port` (8501). A version is chosen by `/versions/N` or `/labels/LABEL` after the name.",
            "",
            "| | path | |",
            "| --- | --- | --- |",
            *paths,
            "| `GET` | `/v1/models/NAME` | versions and their states |",
            "| `GET` | `/v1/models/NAME/metadata` | signatures: names, dtypes, shapes |",
            "| `GET` | `/livez`, `/readyz`, `/readyz/NAME` | [health](../operating.md#health) |",
            "| `GET` | `/metrics` | [metrics](../metrics.md) |",
            "| | `/v2/…` | the [Open Inference Protocol](../open-inference.md#over-rest) |",
            "",
            "Request and reply, in all detail: [the specification](../spec/rest.md). Arrays, MessagePack and pictures as "
            "bodies: [Bodies that are not JSON](../bodies.md).",
            "",
            "## gRPC",
            "",
            "On `--port` (8500), with the messages of TensorFlow Serving and of the Open Inference Protocol, which are in "
            "`proto/`.",
            "",
            "| service | methods |",
            "| --- | --- |",
            *(f"| `{service}` | {', '.join(f'`{one}`' for one in found)} |" for service, found in services.items()),
            "",
            "In all detail: [the specification](../spec/grpc.md).",
            "",
            "## Administration",
            "",
            "On `--admin_address`, which is off by default ([Operating](../operating.md#administration)):",
            "",
            "```text",
            *administration(),
            "```",
            "",
        ]
    )


def administration() -> list[str]:
    """Returns the paths of the administration, as ``servable/admin/http.py`` lists them."""
    source = (ROOT / "python" / "servable" / "admin" / "http.py").read_text(encoding="utf-8")
    described = ast.get_docstring(ast.parse(source)) or ""
    return [line[4:] for line in described.splitlines() if line.startswith("    ")]


def commands() -> str:
    """Returns the page of the commands of ``servable``."""
    from servable.cli import dispatch

    return "\n".join(
        [
            "# Commands",
            "",
            "`servable COMMAND --help` has the options of each.",
            "",
            "```text",
            dispatch.USAGE.rstrip(),
            "```",
            "",
            "`tensorflow_model_server` is the server with TensorFlow Serving's syntax and defaults: "
            "[Migrating](../migrating.md). Exit statuses: 0 when it did what it should, 1 for an error, 2 for a command line "
            "that is not understood.",
            "",
        ]
    )


def _source(path: str) -> str:
    return (ROOT / "src" / path).read_text(encoding="utf-8")


GENERATED = {
    "reference/flags.md": flags,
    "reference/errors.md": errors,
    "reference/api.md": api,
    "reference/commands.md": commands,
}
"""The pages of the reference that are made from lists, by their path on the site."""
