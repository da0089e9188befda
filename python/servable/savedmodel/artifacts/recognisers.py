"""The one list of what is recognised, and in which order: what says more of a file comes first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache

from servable.savedmodel.artifacts import (
    checkpoints,
    downloads,
    folders,
    graphs,
    keras,
    packed,
    pytorch,
    served,
    tables,
    weights,
)
from servable.savedmodel.artifacts.archives import Listing, zip_listing
from servable.savedmodel.artifacts.artifact import Artifact, cut
from servable.savedmodel.artifacts.look import Look
from servable.savedmodel.artifacts.protobuf import Outline, outline

Recogniser = Callable[[Look], Artifact | None]

ZIPS: tuple[Callable[[Look, Listing], Artifact | None], ...] = (
    keras.keras_zip,
    pytorch.torch_zip,
    weights.numpy_zip,
    packed.archive,
)
"""Of zip files, given what they list."""

MESSAGES: tuple[Callable[[Look, Outline], Artifact | None], ...] = (
    graphs.saved_model_file,
    served.onnx,
    served.core_ml_file,
    checkpoints.meta_graph,
    graphs.graph,
)
"""Of protobuf messages, given their first fields."""


def _zip(look: Look) -> Artifact | None:
    listing = zip_listing(look)
    if listing is None:
        return None
    if listing.cut:
        return cut("archive", "a zip file, as Keras, PyTorch and archives are")
    return _first(one(look, listing) for one in ZIPS)


def _message(look: Look) -> Artifact | None:
    found = outline(look)
    return _first(one(look, found) for one in MESSAGES) if found is not None and found.fields else None


FILES: tuple[Recogniser, ...] = (
    downloads.empty,
    downloads.git_lfs_pointer,
    downloads.web_page,
    downloads.unfinished,
    _zip,
    keras.hdf5,
    served.tensorflow_lite,
    weights.safetensors,
    weights.gguf,
    weights.numpy_array,
    pytorch.legacy,
    pytorch.executorch,
    tables.catboost,
    tables.lightgbm,
    served.openvino,
    tables.pmml,
    served.tensorflow_js,
    tables.xgboost,
    packed.tar,
    tables.pickled,
    packed.compressed,
    weights.flax,
    served.tensorrt,
    checkpoints.part,
    served.openvino_weights,
    graphs.saved_model_text,
    _message,
)

FOLDERS: tuple[Recogniser, ...] = (
    folders.empty,
    folders.hub_module,
    folders.inside_a_version,
    folders.mlflow,
    folders.triton,
    folders.orbax,
    folders.hugging_face,
    served.tensorflow_js,
    folders.core_ml,
    checkpoints.folder,
    folders.models_inside,
)


def _first(found: Iterable[Artifact | None]) -> Artifact | None:
    return next((one for one in found if one is not None), None)


def recognise(path: str) -> Artifact | None:
    """Returns what is at ``path``; None for what is not known, or cannot be read.

    Never raises. What was found is remembered while nothing there changes.
    """
    try:
        return _remembered(path, _stamp(path))
    except Exception:  # a defect of one recogniser must not keep a model's failure from being told
        return None


@lru_cache(maxsize=256)
def _remembered(path: str, stamp: object) -> Artifact | None:
    return looked_at(path)


def looked_at(path: str) -> Artifact | None:
    """Does the same as ``recognise``, each time. Raises ``OSError``, and ``ValueError`` for no path."""
    look = Look(path)
    try:
        return _first(one(look) for one in (FOLDERS if look.is_folder else FILES))
    finally:
        look.close()


def _stamp(path: str) -> object:
    """Returns what changes with a file, or with a folder and the first things in it."""
    found = os.stat(path)
    stamp = found.st_mtime_ns, found.st_size, found.st_ino
    if not os.path.isdir(path):
        return stamp
    inner = []
    with os.scandir(path) as entries:
        for _, entry in zip(range(folders.MOST_INNER), entries, strict=False):
            one = entry.stat(follow_symlinks=False)
            inner.append((entry.name, one.st_mtime_ns, one.st_size))
    return stamp, tuple(sorted(inner))
