"""The client's answers, apart from arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Classification(NamedTuple):
    """One class of one example. label is "" and score 0 if the signature does not return them."""

    label: str
    score: float


@dataclass(frozen=True)
class VersionStatus:
    """The server's view of one version of a model.

    state: START, LOADING, AVAILABLE, UNLOADING or END. code and message: the error, or OK and "".
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    dtype: TensorFlow's lower-case name, such as ``float`` or ``string``. shape: a tuple with -1 for any
    length, or None if even the rank is unknown.
    """

    dtype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        """Formatted as in ``float[-1,3]``."""
        return self.dtype + ("" if self.shape is None else f"[{','.join(map(str, self.shape))}]")


@dataclass(frozen=True)
class Signature:
    """One signature of a version: its inputs and outputs by alias."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""

    def __str__(self) -> str:
        """Formatted as in ``(x: float[-1]) -> (y: float[-1])``."""
        sides = (self.inputs, self.outputs)
        shown = [", ".join(f"{alias}: {spec}" for alias, spec in sorted(side.items())) for side in sides]
        return f"({shown[0]}) -> ({shown[1]})"


@dataclass(frozen=True)
class Metadata:
    """The signatures of one version of a model, by name.

    accepts: the media types of bodies that the server says it takes, over REST.
    """

    model: str
    version: int
    signatures: Mapping[str, Signature]
    accepts: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
