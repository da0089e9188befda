"""Models that an engine takes, by content: ONNX, TensorFlow Lite, OpenVINO; and others' forms of them."""

from __future__ import annotations

import os
import re
import struct

from servable.savedmodel.artifacts.artifact import Artifact, cut, damaged, quoted
from servable.savedmodel.artifacts.keras import served_as
from servable.savedmodel.artifacts.look import Look
from servable.savedmodel.artifacts.protobuf import BYTES, VARINT, Outline, text

_ONNX_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
_NEWEST_IR = 100


def onnx(look: Look, found: Outline) -> Artifact | None:
    """Recognises ONNX: a version of the format, a graph, sets of operators."""
    version = found.first(1, VARINT)
    if version is None or not 1 <= version.value <= _NEWEST_IR or found.first(7, BYTES) is None:
        return None
    if {one.number for one in found.fields} - _ONNX_FIELDS:
        return None
    if found.cut:
        return cut("onnx", "an ONNX model")
    made = " ".join(text(look, one) for number in (2, 3) if (one := found.first(number, BYTES)))
    return Artifact(
        "onnx",
        "an ONNX model",
        "ONNX Runtime serves it, under a name that ends in .onnx",
        commands=served_as(look, ".onnx"),
        facts={"made by": made[:80]} if made.strip() else {},
    )


def tensorflow_lite(look: Look) -> Artifact | None:
    """Recognises TensorFlow Lite."""
    if look.head[4:8] != b"TFL3":
        return None
    (root,) = struct.unpack_from("<I", look.head)
    if root + 4 > look.size:
        return cut("tflite", "a TensorFlow Lite model")
    return Artifact(
        "tflite",
        "a TensorFlow Lite model",
        "LiteRT serves it, under a name that ends in .tflite",
        commands=served_as(look, ".tflite"),
    )


def openvino(look: Look) -> Artifact | None:
    """Recognises OpenVINO's graph, in XML; its weights lie beside it."""
    head = look.head[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not re.match(rb"(<\?xml[^>]*>\s*)?<net\s[^>]*version=", head):
        return None
    if b"</net>" not in look.tail:
        return cut("openvino", "an OpenVINO model")
    weights = os.path.splitext(look.path)[0] + ".bin"
    if not os.path.isfile(weights):
        return damaged(
            "openvino",
            "an OpenVINO model",
            f"its weights, {os.path.basename(weights)}, are not beside it",
            "copy both files",
        )
    return Artifact(
        "openvino",
        "an OpenVINO model",
        "OpenVINO serves it, under a name that ends in .xml, with the .bin beside it",
        commands=served_as(look, ".xml"),
    )


def openvino_weights(look: Look) -> Artifact | None:
    """Recognises the weights of an OpenVINO model by the graph beside them."""
    graph = os.path.splitext(look.path)[0] + ".xml"
    if look.ending != ".bin" or not os.path.isfile(graph):
        return None
    return Artifact(
        "openvino-weights",
        "the weights of an OpenVINO model",
        f"give the graph beside them: {graph}",
        commands=(f"servable serve {quoted(graph)}",),
    )


def tensorrt(look: Look) -> Artifact | None:
    """Recognises an engine of TensorRT."""
    if look.head[:4] not in (b"ptrt", b"ftrt") and look.ending not in (".engine", ".plan", ".trt"):
        return None
    return Artifact(
        "tensorrt",
        "an engine of NVIDIA's TensorRT",
        "no engine here takes it, and it fits one kind of GPU: serve the ONNX model that it was built from",
    )


def core_ml_file(_look: Look, found: Outline) -> Artifact | None:
    """Recognises a file of Apple's Core ML: a version, a description, and one kind of model."""
    version = found.first(1, VARINT)
    kinds = {one.number for one in found.fields if one.kind == BYTES and one.number >= 200}
    if version is None or not 1 <= version.value <= 20 or found.first(2, BYTES) is None or not kinds:
        return None
    return Artifact(
        "core-ml",
        "a model for Apple's Core ML",
        "no engine here takes it: export it again from the program that made it, to ONNX or a SavedModel",
    )


TFJS_LAYERS_COMMANDS = (
    "pip install tensorflowjs  # in an environment of its own: it wants an older TensorFlow",
    "tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras_saved_model "
    "{source} {target}",
    "servable serve {served}",
)
TFJS_GRAPH_COMMANDS = (
    "pip install tfjs-graph-converter  # in an environment of its own: it wants an older TensorFlow",
    "tfjs_graph_converter --output_format tf_saved_model {folder} {target}",
    "servable serve {served}",
)


def tensorflow_js(look: Look) -> Artifact | None:
    """Recognises ``model.json`` of TensorFlow.js; of a folder, the one in it."""
    if look.is_folder:
        if "model.json" not in look.names:
            return None
        with look.inner("model.json") as file:
            return tensorflow_js(file)
    head = look.head
    kind = re.search(rb'"format"\s*:\s*"(layers-model|graph-model)"', head)
    is_layers = kind[1] == b"layers-model" if kind else b'"keras_version"' in head
    if not head.lstrip().startswith(b"{") or not (kind or b'"modelTopology"' in head):
        return None
    folder = os.path.dirname(look.path)
    name = re.sub(r"[^\w.-]+", "_", os.path.basename(folder), flags=re.ASCII).strip("._-") or "model"
    words = {
        "source": quoted(look.path),
        "folder": quoted(folder or "."),
        "target": quoted(f"models/{name}/1"),
        "served": quoted(f"models/{name}"),
    }
    commands = TFJS_LAYERS_COMMANDS if is_layers else TFJS_GRAPH_COMMANDS
    return Artifact(
        "tensorflow-js",
        f"a {'layers' if is_layers else 'graph'} model of TensorFlow.js",
        "better export it again from the program that made it; otherwise convert it back",
        commands=tuple(one.format(**words) for one in commands),
    )
