"""Texts generated from the list of flags: ``--help`` of both commands, and the documentation's table."""

from __future__ import annotations

import json

from servable.config.flags import FLAGS, GROUPS, Flag, shown

SERVE_INTRO = """\
usage: servable serve PATH... [--flag=value ...]

Serve SavedModels, and ONNX, TensorFlow Lite and OpenVINO models, with TensorFlow Serving's REST and gRPC API.

PATH is a folder with numbered versions (half_plus_two/ with 1/ and 2/ in it: the newest is served, new ones
are picked up), or the folder of one version itself (the one with saved_model.pb, model.onnx, model.tflite or
model.xml), or a file that ends in .onnx, .tflite, .xml, .keras or .h5 (the last two are converted by the
installed Keras), which is served anew when it changes, or a folder with one such file. The model is named
after the folder or file; NAME=PATH names it otherwise. Without PATH, --model_base_path or
--model_config_file, $MODEL_BASE_PATH/$MODEL_NAME is served, as in TensorFlow Serving's container.

Flags are TensorFlow Serving's, with _ or -, as --flag=value or --flag value.
"""


def server_usage(program: str = "tensorflow_model_server") -> str:
    """Returns the text of ``tensorflow_model_server --help``, in TensorFlow's layout."""
    lines = [f"usage: {program}", "Flags:"]
    for flag in FLAGS.values():
        kind = {"port": "int32", "strings": "string", "choice": "string"}.get(flag.kind, flag.kind)
        value = f'"{shown(flag.default)}"' if kind == "string" else shown(flag.default)
        lines.append(f"\t--{f'{flag.name}={value}':<50}\t{kind}\t{flag.help}")
    return "\n".join(lines) + "\n"


def serve_usage() -> str:
    """Returns the help of ``servable serve``: flags under headings, with the defaults that apply to it."""
    parts = [SERVE_INTRO]
    for group, title in GROUPS.items():
        parts.append(f"{title}:")
        parts.extend(_entry(flag) for flag in FLAGS.values() if flag.group == group)
        parts.append("")
    return "\n".join(parts)


def _entry(flag: Flag) -> str:
    default = shown(flag.default_for(serve=True))
    kind = "|".join(flag.choices) or {
        "strings": "PATH",
        "string": "TEXT",
        "bool": "",
        "float": "SECONDS",
    }.get(flag.kind, "N")
    if flag.kind == "float" and "seconds" not in flag.name:
        kind = "X"
    head = f"  --{flag.name}" + (f"={kind}" if kind else "")
    note = "" if default in ("", "false") else f" (default {default})"
    return f"{head}\n        {flag.help}{note}"


def markdown_table() -> str:
    """Returns the table of flags for the documentation: one row per flag, Servable's own ones marked."""
    lines = [
        "| Flag | Type | Default | `servable serve` | Effect |",
        "| --- | --- | --- | --- | --- |",
    ]
    for flag in FLAGS.values():
        default = (
            "4 per core" if flag.name in ("rest_api_num_threads", "grpc_max_threads") else shown(flag.default)
        )
        default = "cores" if flag.name == "num_tflite_pools" else default
        serve = shown(flag.serve_default) if flag.serve_default is not None else ""
        effect = flag.help.replace("|", "\\|")
        effect += f". **No effect**: {flag.no_effect}" if flag.no_effect else ""
        effect += " *(Servable's own)*" if flag.own else ""
        kind = " \\| ".join(flag.choices) or flag.kind
        lines.append(f"| `{flag.name}` | {kind} | {_code(default)} | {_code(serve)} | {effect} |")
    return "\n".join(lines) + "\n"


def json_list() -> str:
    """Returns every flag as JSON: docs/command-line.md."""
    listed = [
        {
            "name": flag.name,
            "kind": flag.kind,
            "default": flag.default,
            "serve_default": flag.default_for(serve=True),
            "choices": list(flag.choices),
            "group": GROUPS[flag.group],
            "help": flag.help,
            "own": flag.own,
            "no_effect": flag.no_effect,
        }
        for flag in FLAGS.values()
    ]
    return json.dumps({"flags": listed}, indent=2) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
