"""What the client answers with, apart from arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Classification(NamedTuple):
    """One class of one example. label is "" and score 0 where the signature does not give them."""

    label: str
    score: float


@dataclass(frozen=True)
class VersionStatus:
    """One version of a model, as the server sees it.

    state: START, LOADING, AVAILABLE, UNLOADING or END. code and message: OK and "", or why it failed.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    dtype: TensorFlow's lower-case name, such as ``float`` or ``string``. shape: a tuple in which -1 is any
    length, or None where not even the rank is known.
    """

    dtype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        """As in ``float[-1,3]``."""
        return self.dtype + ("" if self.shape is None else f"[{','.join(map(str, self.shape))}]")


@dataclass(frozen=True)
class Signature:
    """One signature of a version: what goes in and what comes out, by alias."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""

    def __str__(self) -> str:
        """As in ``(x: float[-1]) -> (y: float[-1])``."""
        sides = (self.inputs, self.outputs)
        shown = [", ".join(f"{alias}: {spec}" for alias, spec in sorted(side.items())) for side in sides]
        return f"({shown[0]}) -> ({shown[1]})"


@dataclass(frozen=True)
class Metadata:
    """The signatures of one version of a model, by name."""

    model: str
    version: int
    signatures: Mapping[str, Signature]
