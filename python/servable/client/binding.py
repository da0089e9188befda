"""Binds the arguments of predict to a signature: checks names, converts values to its dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from servable.client.answers import Metadata, Signature, TensorSpec
from servable.client.codecs.codec import BoundRequest, Choice
from servable.client.values.arrays import as_array
from servable.errors import invalid_argument

DEFAULT_SIGNATURE = "serving_default"

Value = Any
"""A number, text, bytes, a ``pathlib.Path`` (the file's bytes), nested lists of them, or an array."""


@dataclass(frozen=True)
class Given:
    """The arguments of predict. inputs: a mapping by alias, or a value for the only input."""

    choice: Choice
    inputs: Mapping[str, Value] | Value
    signature: str = ""
    outputs: str | Sequence[str] | None = None

    @property
    def bare(self) -> bool:
        """True for a value without a name, which is answered with an array without a name."""
        return not isinstance(self.inputs, Mapping)


def bind(given: Given, metadata: Metadata) -> BoundRequest:
    """Binds the values to the signature's inputs. Raises ``InvalidArgumentError``."""
    signature = signature_of(metadata, given.signature)
    inputs = {only_input(signature): given.inputs} if given.bare else given.inputs
    arrays = {
        alias: as_array(alias, value, _spec(alias, signature.inputs, "input"))
        for alias, value in inputs.items()
    }
    name = given.signature or DEFAULT_SIGNATURE
    return BoundRequest(given.choice, name, arrays, metadata, _wanted(given, signature))


def signature_of(metadata: Metadata, name: str) -> Signature:
    """Returns the signature called ``name``; "" is the default one. Raises ``InvalidArgumentError``."""
    name = name or DEFAULT_SIGNATURE
    if name not in metadata.signatures:
        raise invalid_argument(
            f'Serving signature name: "{name}" not found in signature def',
            _instead(name, metadata.signatures),
        )
    return metadata.signatures[name]


def only_input(signature: Signature) -> str:
    """Returns the name of the only input. Raises ``InvalidArgumentError`` if there are several, or none."""
    if len(signature.inputs) != 1:
        raise invalid_argument(
            f"a value without a name is for signatures with one input; this one is {signature}",
            "give a mapping from names to values",
        )
    return next(iter(signature.inputs))


def _wanted(given: Given, signature: Signature) -> tuple[str, ...]:
    """Returns the distinct outputs wanted, in the order of the request; empty for all of them."""
    asked = (given.outputs,) if isinstance(given.outputs, str) else given.outputs or ()
    outputs = tuple(dict.fromkeys(asked))
    for alias in outputs:
        _spec(alias, signature.outputs, "output")
    if given.bare and len(outputs or signature.outputs) != 1:
        raise invalid_argument(
            f"a value without a name is answered with one array; this signature is {signature}",
            "choose an output (outputs=NAME), or give a mapping from names to values",
        )
    return tuple(signature.outputs) if given.bare and not outputs else outputs


def _spec(alias: str, specs: Mapping[str, TensorSpec], side: str) -> TensorSpec:
    if alias not in specs:
        raise invalid_argument(f"the signature has no {side} {alias!r}", _instead(alias, specs))
    return specs[alias]


def _instead(name: str, known: Mapping[str, object]) -> str:
    listed = [one for one in known if not one.startswith("__")]
    close = get_close_matches(name, listed, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return f"{guess}there is: {', '.join(listed) or 'nothing'}"
