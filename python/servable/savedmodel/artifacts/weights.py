"""Weights in formats of no one framework: safetensors, GGUF, Flax' messages, numpy's arrays."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from typing import Any

from servable.savedmodel.artifacts.archives import Listing
from servable.savedmodel.artifacts.artifact import Artifact, cut, quoted
from servable.savedmodel.artifacts.look import MOST_READ, Look
from servable.savedmodel.artifacts.pytorch import SAFETENSORS_PROGRAM, convertible

LARGEST_HEADER = 100_000_000
"""What the format allows, in bytes."""


def safetensors(look: Look) -> Artifact | None:
    """Recognises safetensors: the length of a JSON header, the header, and the data."""
    if look.size < 10 or look.head[8:9] != b"{":
        return None
    (length,) = struct.unpack_from("<Q", look.head)
    if not 2 <= length <= LARGEST_HEADER:
        return None
    if 8 + length > look.size:
        is_known = b'"dtype"' in look.head or look.head[9:25] == b'"__metadata__":{'
        return (
            cut("safetensors", "weights in safetensors")
            if is_known or look.ending == ".safetensors"
            else None
        )
    header = _header(look, length)
    if header is None:
        return None
    ends = [_end(one) for key, one in header.items() if key != "__metadata__"]
    if max(ends, default=0) + 8 + length > look.size:
        return cut("safetensors", "weights in safetensors")
    found = convertible(
        look,
        "safetensors",
        "weights in safetensors, without the model",
        SAFETENSORS_PROGRAM,
        ("torch", "onnx"),
    )
    metadata = header.get("__metadata__")
    made = metadata.get("format") if isinstance(metadata, dict) else None
    facts = {"tensors": str(len(ends))} | ({"made for": str(made)[:20]} if made else {})
    advice = (
        "load them into the model in the program that has it, and export that; for a model of Hugging Face's "
        "transformers, `servable inspect` of its folder says how"
    )
    return replace(found, facts=facts, advice=advice)


def _header(look: Look, length: int) -> dict[str, Any] | None:
    """Returns the header; {} for one that is too long to be read here, None for what is none."""
    if length > MOST_READ:
        return {} if b'"dtype"' in look.head else None
    try:
        header = json.loads(look.read(8, length))
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def _end(tensor: object) -> int:
    offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
    last = offsets[-1] if isinstance(offsets, list) and offsets else 0
    return last if isinstance(last, int) else 0


def gguf(look: Look) -> Artifact | None:
    """Recognises a language model for llama.cpp."""
    if look.head[:4] not in (b"GGUF", b"tjgg", b"lmgg"):
        return None
    version = f"version {struct.unpack_from('<I', look.head, 4)[0]}" if len(look.head) >= 8 else ""
    name = re.search(rb"general\.architecture\x08\0\0\0(.{8})([a-z0-9]+)", look.head, re.DOTALL)
    facts = {"format": f"GGUF {version}".strip()} | ({"architecture": name[2].decode()[:40]} if name else {})
    return Artifact(
        "gguf",
        "a language model for llama.cpp",
        "no engine here takes it: llama.cpp's own server does",
        commands=(f"llama-server -m {quoted(look.path)}",),
        facts=facts,
    )


def flax(look: Look) -> Artifact | None:
    """Recognises parameters of Flax, a message of MessagePack."""
    if look.ending != ".msgpack" and not re.fullmatch(r"checkpoint_\d+", look.name):
        return None
    if not look.head or not (0x81 <= look.head[0] <= 0x8F or look.head[0] in (0xDE, 0xDF)):
        return None
    return Artifact(
        "flax",
        "parameters of a JAX model, written by Flax, without the model",
        "restore them in the program that has the model, and save that as a SavedModel with jax2tf "
        "(docs/exporting.md)",
    )


def numpy_array(look: Look) -> Artifact | None:
    """Recognises an array."""
    if not look.head.startswith(b"\x93NUMPY"):
        return None
    return Artifact(
        "numpy",
        "an array of numpy",
        "it is data, or weights without a model: export the model from the program that made it",
    )


def numpy_zip(_look: Look, listing: Listing) -> Artifact | None:
    """Recognises several arrays."""
    names = listing.sizes
    if not names or not all(one.endswith(".npy") for one in names):
        return None
    return Artifact(
        "numpy",
        "arrays of numpy",
        "they are data, or weights without a model: export the model from the program that made them",
        facts={"arrays": ", ".join(list(names)[:6])},
    )
