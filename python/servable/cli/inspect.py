"""``servable inspect PATH``: shows the content of a model, or what is wrong with it.

PATH is a version's folder, or a base path, whose newest version is used, or a model's file. Of a SavedModel
only the files are read; any other model is loaded by its engine. Exit statuses: 0 fine, 1 it would not serve,
2 invalid command line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from servable.cli import inspect_artifact, inspect_other
from servable.cli.colour import Colours
from servable.cli.inspect_keras import inspect_keras
from servable.cli.printable import printable
from servable.cli.table import table
from servable.engines.description import describe, other_format
from servable.errors import StatusError
from servable.savedmodel import doctor, foreign
from servable.savedmodel.artifacts.artifact import Artifact
from servable.savedmodel.artifacts.misnamed import misnamed
from servable.savedmodel.artifacts.recognisers import recognise
from servable.savedmodel.example_request import curl_line
from servable.savedmodel.layout import (
    held_by,
    holds_saved_model,
    is_model_file,
    is_version_name,
    keras_file_at,
    model_name,
)
from servable.savedmodel.saved_model import MetaGraph, SavedModel, read
from servable.sizes import size_text

REST_AT = "localhost:8501"
MOST_OPS = 12


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="servable inspect",
        description="Show what a model offers, and what is wrong with it; of any other file or folder what "
        "it is, and how to make a model of it that is served.",
    )
    parser.add_argument("path", metavar="PATH", help="folder of a version, or of versions, or any file")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    return parser


def inspect(argv: Sequence[str]) -> int:
    """Runs the command."""
    given = parser().parse_args(argv)
    path = os.path.abspath(os.path.expanduser(given.path))
    try:
        path = version_folder(path)
        return _inspected(path, given.json)
    except StatusError as error:
        is_held = bool(held_by(path)) or is_model_file(path)
        found = misnamed(path) if is_held else recognise(path)
        says_more = found is not None and bool(found.program or found.commands)
        if found is not None and (says_more or not is_held):
            if is_held:
                print(f"servable: {error}", file=sys.stderr)
            return _shown(path, found, given.json)
        is_none = not is_held and not error.hint
        hint = foreign.found_instead(path) if is_none else error.hint or doctor.load_hint(path, error.message)
        if given.json:
            unknown = Artifact("unknown", "", hint, problem=str(error))
            print(json.dumps(inspect_artifact.fields(path, unknown), indent=2))
        print(printable(f"servable: {error}"), file=sys.stderr)
        if hint:
            print(printable(f"hint: {hint}"), file=sys.stderr)
        return 1


def _inspected(path: str, as_json: bool) -> int:
    """Shows the model in ``path``; returns the exit status. Raises ``StatusError``."""
    keras = keras_file_at(path)
    found = misnamed(path) if keras or holds_saved_model(path) else None
    if found is not None and found.kind not in _TOLD_BY_READERS:
        return _shown(path, found, as_json)
    if keras:
        return inspect_keras(keras, as_json)
    other = other_format(path)
    if other is not None:
        text, is_fine = inspect_other.shown(describe(path, other), REST_AT, as_json)
        print(printable(text))
        return 0 if is_fine else 1
    model = read(path)
    told = json.dumps(as_fields(model), indent=2) if as_json else described(model, model_name(model.path))
    print(printable(told))
    return 1 if model.problems else 0


_TOLD_BY_READERS = ("archive", "empty-file", "keras", "keras-hdf5", "saved-model-file")
"""Kinds of damage of which the readers of Keras files and SavedModels say more."""


def _shown(path: str, found: Artifact, as_json: bool) -> int:
    print(inspect_artifact.shown(path, found, as_json, Colours.of(sys.stdout)))
    return 1


def version_folder(path: str) -> str:
    """Returns ``path`` itself if it is or holds a model, or no version, otherwise its newest version."""
    if held_by(path) or not os.path.isdir(path):
        return path
    try:
        listed = os.listdir(path)
    except OSError:
        return path
    names = [one for one in listed if is_version_name(one)]
    if names:
        return os.path.join(path, max(names, key=int))
    message = doctor.no_versions(os.path.basename(path), path, listed)
    head, _, hint = message.partition("\n")
    if "versions are named by numbers" in hint or "folder of models" in hint:
        raise StatusError("NOT_FOUND", head, hint.strip())
    return path


def as_fields(model: SavedModel) -> dict[str, Any]:
    """Returns everything in machine-readable form."""
    return {
        "path": model.path,
        "graph_bytes": model.graph_bytes,
        "variables_bytes": model.variables_bytes,
        "assets": list(model.assets),
        "warmup_records": model.warmup_records,
        "problems": list(model.problems),
        "graphs": [
            {
                "tags": list(graph.tags),
                "tensorflow_version": graph.tensorflow_version,
                "functions": graph.functions,
                "ops": dict(graph.ops.most_common()),
                "signatures": {
                    one.name: {
                        "method_name": graph.methods[one.name],
                        "inputs": _as_fields(one.inputs),
                        "outputs": _as_fields(one.outputs),
                    }
                    for one in graph.signatures
                },
            }
            for graph in model.graphs
        ],
    }


def _as_fields(arguments: list[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    return {alias: {"dtype": dtype, "shape": shape} for alias, dtype, shape in arguments}


def described(model: SavedModel, name: str) -> str:
    """Returns everything in human-readable form."""
    sizes = f"graph {size_text(model.graph_bytes)}, variables {size_text(model.variables_bytes)}"
    warmup = "none" if model.warmup_records is None else f"{model.warmup_records} requests"
    lines = [model.path, f"  size      {sizes}"]
    if model.assets:
        lines.append(f"  assets    {', '.join(model.assets)}")
    lines.append(f"  warm-up   {warmup}")
    for graph in model.graphs:
        lines.extend(_described_graph(graph))
    serving = next((graph for graph in model.graphs if "serve" in graph.tags), model.graphs[0])
    curl = curl_line(name, list(serving.signatures), REST_AT)
    if curl:
        lines += ["", "ask it, once `servable serve` runs:", f"  {curl}"]
    lines += ["", *(f"problem: {one}" for one in model.problems)]
    if not model.problems:
        lines.append("nothing is wrong with it, as far as its files tell")
    return "\n".join(lines)


def _described_graph(graph: MetaGraph) -> list[str]:
    count = sum(graph.ops.values())
    ops = ", ".join(f"{op} {n}" if n > 1 else op for op, n in graph.ops.most_common(MOST_OPS))
    more = ", …" if len(graph.ops) > MOST_OPS else ""
    rows = []
    for signature in graph.signatures:
        head = signature.name
        for kind, arguments in (("in", signature.inputs), ("out", signature.outputs)):
            for alias, dtype, shape in arguments:
                rows.append((head, kind, alias, dtype, shape, graph.methods[signature.name] if head else ""))
                head = ""
    heads = ("SIGNATURE", "", "NAME", "DTYPE", "SHAPE", "METHOD")
    return [
        f"  tags      {', '.join(graph.tags) or '(none)'}",
        f"  made by   TensorFlow {graph.tensorflow_version or 'of unknown version'}",
        f"  ops       {count} in {graph.functions} functions: {ops}{more}",
        "",
        *table(heads, rows).splitlines(),
    ]
