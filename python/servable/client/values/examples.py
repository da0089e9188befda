"""Examples for classify, regress and multi-inference: mappings from feature names to values.

A feature is a number, a string or bytes, or a flat list or array of one kind. Integers and bools become int64
lists, numbers with a fraction float lists (one float makes them all floats), text and bytes lists of bytes:
the three kinds of tensorflow.Example.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from servable.client.answers import TensorSpec
from servable.client.text import check_text, shown
from servable.client.values.arrays import as_array, as_bytes
from servable.errors import invalid_argument
from servable.messages import message_class

Features = Mapping[str, Any]
"""One example: feature name → value or flat list of values."""


@dataclass(frozen=True)
class Feature:
    """kind: ``int64_list``, ``float_list`` or ``bytes_list``, as in tensorflow.Feature."""

    kind: str
    values: list[Any]


@dataclass(frozen=True)
class Examples:
    """Examples in the form that both protocols use; context: features shared by all, or None."""

    rows: list[dict[str, Feature]]
    context: dict[str, Feature] | None = None


def read_examples(examples: Features | Iterable[Features], context: Features | None) -> Examples:
    """Reads a caller's examples; a single mapping is one example. Raises ``InvalidArgumentError``."""
    rows = [examples] if isinstance(examples, Mapping) else list(examples)
    return Examples(
        [_features(f"example {number}", row) for number, row in enumerate(rows)],
        None if context is None else _features("context", context),
    )


def _features(where: str, row: object) -> dict[str, Feature]:
    if not isinstance(row, Mapping):
        raise invalid_argument(
            f"{where} is a {type(row).__name__}; expected a mapping from feature names to values"
        )
    for name in row:
        check_text(f"{where}: a feature's name", str(name))
    return {str(name): _feature(f"{where}, feature {name!r}", value) for name, value in row.items()}


def _feature(where: str, value: object) -> Feature:
    if isinstance(value, (str, bytes, bytearray, memoryview, PathLike)):
        return Feature("bytes_list", [as_bytes(where, value)])
    values = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else value
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    plain = [one.item() if isinstance(one, np.generic) else one for one in values]
    if all(isinstance(one, int) for one in plain):
        return _integers(where, plain)
    if all(isinstance(one, (int, float)) for one in plain):
        return _floats(where, plain)
    if all(isinstance(one, (str, bytes, bytearray, memoryview, PathLike)) for one in plain):
        return Feature("bytes_list", [as_bytes(where, one) for one in plain])
    kinds = sorted({type(one).__name__ for one in plain})
    raise invalid_argument(f"{where} holds {', '.join(kinds)}; expected integers, floats, or text and bytes")


def _integers(where: str, values: list[Any]) -> Feature:
    for one in values:
        if not -(2**63) <= one < 2**63:
            raise invalid_argument(f"{where} holds {shown(one)}, which is outside of int64")
    return Feature("int64_list", [int(one) for one in values])


def _floats(where: str, values: list[Any]) -> Feature:
    as_array(where, values, TensorSpec("float", None))
    return Feature("float_list", [float(one) for one in values])


def write_input(proto: Any, examples: Examples) -> None:
    """Writes the examples to an empty tensorflow.serving.Input."""
    kind = proto.example_list if examples.context is None else proto.example_list_with_context
    kind.SetInParent()
    kind.examples.extend(_example(row) for row in examples.rows)
    if examples.context is not None:
        kind.context.CopyFrom(_example(examples.context))


def _example(row: dict[str, Feature]) -> Any:
    example = message_class("tensorflow.Example")()
    for name, feature in row.items():
        target = example.features.feature[name]
        # An empty list of no kind: the feature is present without a choice, like `[]` in JSON.
        target.SetInParent()
        if feature.values:
            getattr(target, feature.kind).value.extend(feature.values)
    return example


def json_body(examples: Examples) -> dict[str, Any]:
    """Returns the members ``examples`` and, if there is one, ``context`` of a REST request."""
    body: dict[str, Any] = {} if examples.context is None else {"context": _json_row(examples.context)}
    return {**body, "examples": [_json_row(row) for row in examples.rows]}


def _json_row(row: dict[str, Feature]) -> dict[str, Any]:
    return {name: [_json_value(feature.kind, one) for one in feature.values] for name, feature in row.items()}


def _json_value(kind: str, value: Any) -> Any:
    return {"b64": base64.b64encode(value).decode()} if kind == "bytes_list" else value
