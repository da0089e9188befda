"""Describes what was found in place of a model, by content or file ending, with advice."""

from __future__ import annotations

import os

from servable.regular_files import open_file
from servable.savedmodel.layout import ENDINGS, OTHER_FILES, held_by

A_SAVED_MODEL = (
    "a SavedModel is a folder with saved_model.pb (or saved_model.pbtxt) and, for most models, variables/ "
    "and assets/"
)
A_MODEL = (
    f"{A_SAVED_MODEL}; models of other formats are a folder with {', '.join(OTHER_FILES[:-1])} or "
    f"{OTHER_FILES[-1]}, or a file that ends in {', '.join(ENDINGS)}"
)

_KERAS = (
    "a Keras file: `servable serve` converts one that ends in .keras or .h5; otherwise load it with Keras "
    "and call model.export(FOLDER)"
)
_LITE = "a TensorFlow Lite model: it is served under a name that ends in .tflite"
_CHECKPOINT = "a checkpoint, weights without a graph: load it into its model, and export that"
_TORCH = "a PyTorch file: export the model to ONNX (torch.onnx.export)"
_ONNX = "an ONNX model: give the file itself, or call it model.onnx"
_OPENVINO = "an OpenVINO model: give the file itself, or call it model.xml, with model.bin beside it"
_ARCHIVE = "an archive: unpack it, or serve it from a URL (http://…/model.tar.gz)"
_FROZEN = "a graph without signatures, as TensorFlow 1 froze them: save it with tf.saved_model.save"

_ENDINGS = (
    ((".keras", ".h5", ".hdf5"), _KERAS),
    ((".tflite",), _LITE),
    ((".onnx",), _ONNX),
    ((".xml",), _OPENVINO),
    ((".pt", ".pth", ".safetensors"), _TORCH),
    ((".ckpt", ".index", ".meta", "checkpoint"), _CHECKPOINT),
    ((".zip", ".tar", ".gz", ".tgz"), _ARCHIVE),
    ((".pb",), _FROZEN),
)
_HEADS = ((0, b"\x89HDF\r\n\x1a\n", _KERAS), (4, b"TFL3", _LITE), (0, b"\x1f\x8b", _ARCHIVE))
_MOST_NAMED = 6


def found_instead(path: str) -> str:
    """Describes what is at ``path``, which holds no model, and what a model consists of."""
    return f"{_found(path)}; {A_MODEL}"


def _found(path: str) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        return f"{path} is a link to {os.readlink(path)}, which does not exist"
    if not os.path.lexists(path):
        return f"{path} does not exist"
    if os.path.isdir(path):
        return _found_in(path)
    kind = kind_of_file(path)
    return (
        f"{path} is {kind or 'a file'}" if os.path.isfile(path) else f"{path} is neither a folder nor a file"
    )


def _found_in(folder: str) -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"{folder} cannot be listed ({error.strerror})"
    if not names:
        return f"{folder} is empty"
    inner = [one for one in names if held_by(os.path.join(folder, one))]
    if inner:
        return f"{folder} holds none itself, {inner[0]}/ in it does: give {os.path.join(folder, inner[0])}"
    known = ((one, kind_of_file(os.path.join(folder, one))) for one in names)
    named = next((f", of which {one} is {kind}" for one, kind in known if kind), "")
    more = f", … ({len(names)} in all)" if len(names) > _MOST_NAMED else ""
    return f"{folder} holds {', '.join(names[:_MOST_NAMED])}{more}{named}"


def kind_of_file(path: str) -> str:
    """Returns the kind of a file, with advice; "" for unknown files and for folders."""
    if not os.path.isfile(path):
        return ""
    try:
        with open_file(path) as file:
            head = file.read(16)
    except OSError:
        head = b""
    by_head = (kind for offset, mark, kind in _HEADS if head[offset:].startswith(mark))
    by_ending = (kind for endings, kind in _ENDINGS if path.lower().endswith(endings))
    return next(by_head, "") or next(by_ending, "")
