"""``servable inspect`` of a Keras file: what it says of itself, and whether serving can convert it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from servable.cli.printable import printable
from servable.engines import export_process
from servable.errors import StatusError
from servable.savedmodel import keras_file
from servable.savedmodel.keras_file import KerasFile
from servable.sizes import size_text

CONVERTS = (
    "`servable serve {path}` converts it to a SavedModel with the installed Keras, once, and serves that"
)
NEEDS_CODE = "call model.export(FOLDER) in the program that made the model, and serve that folder"


def inspect_keras(path: str, as_json: bool) -> int:
    """Describes the file; returns the exit status: 0 fine, 1 it would not serve."""
    try:
        is_hdf5 = keras_file.is_hdf5(path)
        found = KerasFile() if is_hdf5 else keras_file.read(path)
    except (ValueError, OSError) as error:
        said = f"servable: DATA_LOSS: {path} cannot be read as a Keras file: {error}"
        print(printable(said), file=sys.stderr)
        print("hint: save it again with model.save(FILE), or copy it again", file=sys.stderr)
        return 1
    problems = problems_of(found, export_process.missing(("keras", "tensorflow")))
    if as_json:
        fields = {"path": path, "format": "hdf5" if is_hdf5 else "keras", "bytes": os.path.getsize(path)}
        print(json.dumps({**fields, **asdict(found), "problems": problems}, indent=2))
    else:
        print(printable(described(path, found, is_hdf5, problems)))
    return 1 if problems else 0


def problems_of(found: KerasFile, missing: StatusError | None) -> list[str]:
    """Returns why the file would not be served, as far as it tells. missing: what is not installed."""
    problems = []
    if found.lambdas:
        problems.append(f"Lambda layers ({', '.join(found.lambdas)}) have code in the file: {NEEDS_CODE}")
    if found.custom:
        problems.append(f"the code of {', '.join(found.custom)} is not in the file: {NEEDS_CODE}")
    if missing is not None:
        problems.append(f"{missing.message}: {missing.hint}")
    return problems


def described(path: str, found: KerasFile, is_hdf5: bool, problems: list[str]) -> str:
    """Returns everything in human-readable form."""
    installed = export_process.versions()
    kind = "a Keras model, or weights, in HDF5" if is_hdf5 else "a Keras model"
    lines = [path, f"  kind      {kind}", f"  size      {size_text(os.path.getsize(path))}"]
    if found.kind:
        lines.append(f"  model     {found.kind} {found.name}, {found.layers} layers")
    if found.keras_version:
        saved = f", {found.saved.replace('@', ' ')}" if found.saved else ""
        lines.append(f"  made by   Keras {found.keras_version}{saved}")
    if "keras" in installed:
        lines.append(f"  installed Keras {installed['keras']}")
    lines += ["", CONVERTS.format(path=path)]
    return "\n".join([*lines, *(f"problem: {one}" for one in problems)])
