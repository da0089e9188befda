"""Keras' files: ``.keras``, and HDF5 with a model or with weights alone."""

from __future__ import annotations

import json
import os
import struct

from servable.savedmodel.artifacts.archives import Listing, zip_part
from servable.savedmodel.artifacts.artifact import Artifact, cut, name_of, quoted
from servable.savedmodel.artifacts.look import HEAD_BYTES, Look

HDF5 = b"\x89HDF\r\n\x1a\n"
LARGEST_METADATA = 1 << 16
_HEAD_BYTES = 1 << 20
"""Bytes at the beginning of an HDF5 file in which Keras' attributes lie: they are written first."""

WEIGHTS_PROGRAM = """\
# In the program that knows the model: its layers are not in the file.
model = build_model()
model.load_weights({path!r})
model.export({target!r})"""


def served_as(look: Look, ending: str) -> tuple[str, ...]:
    """Returns the command that serves a file, under a name with the ending that says what it is."""
    if look.ending == ending:
        return (f"servable serve {quoted(look.path)}",)
    target = os.path.join(os.path.dirname(look.path), f"{name_of(look.path)}{ending}")
    return (f"mv {quoted(look.path)} {quoted(target)}", f"servable serve {quoted(target)}")


def keras_zip(look: Look, listing: Listing) -> Artifact | None:
    """Recognises a ``.keras`` file."""
    if not {"config.json", "metadata.json"} <= listing.sizes.keys():
        return None
    facts = {}
    try:
        metadata = json.loads(zip_part(look, "metadata.json", LARGEST_METADATA))
        facts = {"made by": f"Keras {str(metadata['keras_version'])[:40]}"}
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return Artifact(
        "keras",
        "a Keras model",
        "`servable serve` converts it with the installed Keras, under a name that ends in .keras",
        commands=served_as(look, ".keras"),
        facts=facts,
    )


def hdf5(look: Look) -> Artifact | None:
    """Recognises HDF5: a model, weights, or other data."""
    if not look.head.startswith(HDF5):
        return None
    if _declared_end(look) > look.size:
        return cut("keras-hdf5", "an HDF5 file, as Keras writes them")
    head = look.read(0, _HEAD_BYTES)
    if b"model_config" in head:
        return Artifact(
            "keras-hdf5",
            "a Keras model in HDF5",
            "`servable serve` converts it with the installed Keras, under a name that ends in .h5",
            commands=served_as(look, ".h5"),
        )
    marks = (b"layer_names", b"layers\0", b"_layer_checkpoint_dependencies", b"keras_version")
    if any(mark in head for mark in marks) or look.name.lower().endswith((".weights.h5", ".weights.hdf5")):
        return _weights(look)
    return Artifact(
        "hdf5",
        "an HDF5 file without a Keras model",
        "it is data, or weights that another program wrote: export the model from the program that made it",
    )


def _weights(look: Look) -> Artifact:
    name = name_of(look.path).removesuffix(".weights")
    target = f"models/{name}/1"
    return Artifact(
        "keras-weights",
        "the weights of a Keras model, without the model",
        "load them into the model in the program that has it, and call model.export(FOLDER)",
        WEIGHTS_PROGRAM.format(path=look.path, target=target),
        ("tensorflow",),
        (f"servable serve {quoted(f'models/{name}')}",),
    )


def _declared_end(look: Look) -> int:
    """Returns the size that the superblock states; 0 if it has none that is understood."""
    head = look.head[:HEAD_BYTES]
    if len(head) < 64:
        return len(head) + 1
    version, offsets = head[8], head[13] if head[8] < 2 else head[9]
    if offsets != 8 or version > 3:
        return 0
    # Version 0: base, free space, end; version 1 has four more bytes before; 2 and 3: base, extension, end.
    at = {0: 24 + 16, 1: 28 + 16}.get(version, 12 + 16)
    end: int = struct.unpack_from("<Q", head, at)[0]
    return end if end < 1 << 62 else 0
