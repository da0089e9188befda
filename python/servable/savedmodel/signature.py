"""A signature as the control plane tells it to people."""

from __future__ import annotations

from typing import NamedTuple


class Signature(NamedTuple):
    """A signature as ``LoadReport`` tells it: each input and output is (alias, dtype, shape text)."""

    name: str
    inputs: list[tuple[str, str, str]]
    outputs: list[tuple[str, str, str]]
