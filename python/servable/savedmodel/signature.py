"""Signatures as the control plane reports them to users."""

from __future__ import annotations

from typing import NamedTuple


class Signature(NamedTuple):
    """A signature of a ``LoadReport``: each input and output is (alias, dtype, shape text)."""

    name: str
    inputs: list[tuple[str, str, str]]
    outputs: list[tuple[str, str, str]]
