"""Reads the arguments of ``servable predict``: words, JSON and files, as inputs for the client.

Nothing is sent here, and numpy is imported only for its own files.
"""

from __future__ import annotations

import base64
import binascii
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any, TextIO

from servable.errors import ServableError, UsageError

_REQUEST_KEYS = {"signature_name", "instances", "inputs", "outputs"}


@dataclass(frozen=True)
class Inputs:
    """value: a mapping from names to values, or a bare value.

    signature, outputs: from a whole request; "" and None if it names none.
    """

    value: Any
    signature: str = ""
    outputs: list[str] | None = None


def read_inputs(values: Sequence[str], named: Sequence[str]) -> Inputs:
    """Reads VALUE… or NAME=VALUE…, one of which is required. Raises ``UsageError``, ``ServableError``."""
    if values and named:
        raise UsageError("expected values or --inputs NAME=VALUE, got both")
    if named:
        return Inputs(_named(named))
    if not values:
        raise UsageError("expected values or --inputs NAME=VALUE, got neither")
    read = [_value(text) for text in values]
    if len(read) > 1:
        if any(isinstance(one, Mapping) for one in read):
            raise UsageError("several values make a list, in which an object of inputs has no place")
        return Inputs(read)
    if isinstance(read[0], Mapping):
        return _request(read[0])
    scalar = isinstance(read[0], (str, int, float))
    return Inputs([read[0]] if scalar else read[0])


def _named(named: Sequence[str]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for text in named:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--inputs takes NAME=VALUE, got {text!r}")
        if name in inputs:
            raise UsageError(f"--inputs gives {name!r} twice")
        inputs[name] = _value(value)
    return inputs


def _value(text: str) -> Any:
    """Reads a file after ``@``, else JSON, else a number as in Python (``.5``, ``inf``), else text."""
    as_it_is, text = text, text.strip()
    if text.startswith("@"):
        return _file(text[1:])
    try:
        return _json(text)
    except (ValueError, RecursionError) as error:
        if text[:1] in ("[", "{", '"'):
            raise UsageError(f"{_shortened(text)} is not JSON: {error}") from None
    try:
        return _float(text)
    except ValueError:
        return as_it_is


def _float(text: str) -> float:
    """Parses a number. Raises ``ServableError`` for one that overflows to infinity."""
    number = float(text)
    if isinf(number) and "inf" not in text.lower():
        raise ServableError(f"{_shortened(text)} is larger than any float")
    return number


def _file(name: str) -> Any:
    if name == "-":
        return _json_document("standard input", _standard_input())
    path = Path(name)
    try:
        if path.suffix in (".npy", ".npz"):
            return _arrays(path)
        content = path.read_bytes()
    except OSError as error:
        raise ServableError(f"{name} cannot be read: {error.strerror or error}") from None
    return _json_document(name, content) if path.suffix == ".json" else content


def _standard_input() -> bytes:
    stdin: TextIO | None = sys.stdin
    if stdin is None:
        raise ServableError("standard input cannot be read: it is closed")
    try:
        return stdin.buffer.read()
    except OSError as error:
        raise ServableError(f"standard input cannot be read: {error.strerror or error}") from None


def _arrays(path: Path) -> Any:
    from servable.client.packages import load

    numpy = load("numpy")
    try:
        with path.open("rb") as file:
            loaded = numpy.load(file, allow_pickle=False)
            # By what it holds, whatever it is called.
            return dict(loaded) if hasattr(loaded, "files") else loaded
    except OSError:
        raise
    except MemoryError:
        raise ServableError(f"{path} cannot be read: there is not enough memory for what it holds") from None
    except Exception as error:  # numpy's, zipfile's and those of what it unpacks with
        raise ServableError(f"{path} is no numpy file that can be read: {error}") from None


def _json_document(name: str, content: bytes) -> Any:
    """Parses JSON. Invalid UTF-8 in strings becomes surrogates, which the client turns back into bytes."""
    try:
        return _json(content.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise ServableError(f"{name} is not JSON: {error}") from None


def _json(text: str) -> Any:
    return json.loads(text, object_hook=_bytes_or_object, parse_float=_float)


def _bytes_or_object(members: dict[str, Any]) -> Any:
    """Turns ``{"b64": …}`` into bytes, as in the REST API."""
    if set(members) != {"b64"} or not isinstance(members["b64"], str):
        return members
    try:
        return base64.b64decode(members["b64"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"{_shortened(members['b64'])} is not base64: {error}") from None


def _request(members: Mapping[str, Any]) -> Inputs:
    """Reads an object as inputs by name, or as a whole REST request."""
    if not set(members) <= _REQUEST_KEYS or len(set(members) & {"instances", "inputs"}) != 1:
        return Inputs(members)
    signature = members.get("signature_name", "")
    if not isinstance(signature, str):
        raise ServableError(f"signature_name is {signature!r}; expected text")
    outputs = members.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(name, str) for name in outputs):
        raise ServableError(f"outputs is {_shortened(json.dumps(outputs))}; expected a list of names")
    value = members["inputs"] if "inputs" in members else _columns(members["instances"])
    return Inputs(value, signature, outputs or None)


def _columns(rows: Any) -> Any:
    """Turns rows into one list per input."""
    if not isinstance(rows, list):
        raise ServableError("'instances' is no list")
    names = next((sorted(row) for row in rows if isinstance(row, Mapping)), None)
    if names is None:
        return rows
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or sorted(row) != names:
            raise ServableError(
                f"row {number} of 'instances' is no object with the inputs {', '.join(names)}, as others are"
            )
    return {name: [row[name] for row in rows] for name in names}


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
