"""TensorFlow's graphs in files of their own: frozen ones, those of checkpoints, a SavedModel's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from servable.savedmodel.artifacts.artifact import Artifact, cut, name_of, quoted
from servable.savedmodel.artifacts.look import Look
from servable.savedmodel.artifacts.protobuf import BYTES, VARINT, Outline, fields, outline, text
from servable.savedmodel.layout import SAVED_MODEL_FILES

MOST_NODES = 20_000
MOST_ENDS = 8
"""Inputs and outputs that a program names."""
_NODES = 1
_SILENT = re.compile(
    r"NoOp|Const|Placeholder\w*|Assign\w*|Assert|Save\w*|Restore\w*|MergeV2Checkpoints|Merge\w*Summary|\w*Summary"
    r"|Apply\w*|ResourceApply\w*|VarIsInitializedOp|Variable\w*|VarHandleOp|ReadVariableOp|Initialize\w*"
    r"|IsVariableInitialized|FileWriter|WriteFile|Switch|Print\w*"
)
"""Operations whose values nobody asks for."""
_TRAINING = re.compile(
    r"(^|/)(save|gradients|train|init|Adam|report_uninitialized\w*)(_\d+)?(/|$)|Initializer/"
)

FROZEN_PROGRAM = """\
import tensorflow as tf

graph = tf.compat.v1.GraphDef.FromString(open({path!r}, "rb").read())
with tf.Graph().as_default() as built, tf.compat.v1.Session(graph=built) as session:
    tf.import_graph_def(graph, name="")
    tensor = built.get_tensor_by_name
    tf.compat.v1.saved_model.simple_save(
        session,
        {target!r},
        inputs={inputs},
        outputs={outputs},
    )"""
ANY_ENDS = "{'NAME': tensor('NAME:0')}"


@dataclass(frozen=True)
class Ends:
    """Names of a graph's placeholders, and of the nodes whose values no other node takes."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def as_code(self) -> tuple[str, str]:
        """Returns both as dictionaries of tensors; with a name to be filled in where they are not known."""
        return _as_code(self.inputs), _as_code(self.outputs)


def _as_code(names: tuple[str, ...]) -> str:
    if not names or len(names) > MOST_ENDS:
        return ANY_ENDS
    keys = [re.sub(r"\W+", "_", name, flags=re.ASCII) for name in names]
    return (
        "{"
        + ", ".join(f"{key!r}: tensor({name + ':0'!r})" for key, name in zip(keys, names, strict=True))
        + "}"
    )


def ends(nodes: Iterable[tuple[str, str, tuple[str, ...]]], training: bool = False) -> Ends:
    """Returns where a graph begins and ends; nothing of one too large to be read to its end.

    Nodes: name, operation, inputs. training: it holds that, too.
    """
    found = list(nodes)
    if len(found) >= MOST_NODES:
        return Ends((), ())
    used = {re.sub(r"^\^|:\d+$", "", one) for _, _, inputs in found for one in inputs}
    inputs = tuple(name for name, op, _ in found if op in ("Placeholder", "PlaceholderV2"))
    outputs = tuple(
        name
        for name, op, _ in found
        if name not in used and not _SILENT.fullmatch(op) and not (training and _TRAINING.search(name))
    )
    return Ends(inputs, outputs)


def nodes(look: Look, start: int, end: int) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yields name, operation and inputs of the nodes of the GraphDef between two positions."""
    try:
        for one in fields(look, start, end, MOST_NODES):
            if (one.number, one.kind) == (_NODES, BYTES):
                yield _node(look, one.start, one.start + one.length)
    except ValueError:
        return


def _node(look: Look, start: int, end: int) -> tuple[str, str, tuple[str, ...]]:
    name = op = ""
    inputs = []
    for one in fields(look, start, end):
        if one.kind != BYTES or one.number > 3:  # the device and the attributes, which may be large
            break
        value = text(look, one)
        if one.number == 1:
            name = value
        elif one.number == 2:
            op = value
        else:
            inputs.append(value)
    return name, op, tuple(inputs)


def is_graph(look: Look, found: Outline) -> bool:
    """True if a message is a GraphDef: its first field is a node with a name and an operation."""
    node = found.fields[0] if found.fields else None
    if node is None or (node.number, node.kind) != (_NODES, BYTES):
        return False
    try:
        name, op, _ = _node(look, node.start, node.start + node.length)
    except ValueError:
        return False
    return bool(name and re.fullmatch(r"_?[A-Z]\w*(>\w+)*", op, re.ASCII))


def graph(look: Look, found: Outline) -> Artifact | None:
    """Recognises a frozen graph."""
    if not is_graph(look, found):
        return None
    if found.cut:
        return cut("tensorflow-graph", "a graph of TensorFlow")
    at = ends(nodes(look, 0, look.size))
    name = name_of(look.path)
    inputs, outputs = at.as_code()
    return Artifact(
        "tensorflow-graph",
        "a frozen graph of TensorFlow 1, without signatures",
        "save it as a SavedModel with TensorFlow, and say which tensors are its inputs and outputs",
        FROZEN_PROGRAM.format(path=look.path, target=f"models/{name}/1", inputs=inputs, outputs=outputs),
        ("tensorflow",),
        (f"servable serve {quoted(f'models/{name}')}",),
        _facts(at),
    )


def _facts(at: Ends) -> dict[str, str]:
    shown = {"inputs": at.inputs, "outputs": at.outputs}
    return {key: ", ".join(names[:MOST_ENDS]) for key, names in shown.items() if names}


def saved_model_file(look: Look, found: Outline) -> Artifact | None:
    """Recognises the file of a SavedModel, given instead of its folder."""
    version = found.first(1, VARINT)
    is_first = bool(found.fields) and found.fields[0] is version and version.value == 1
    if version is None or not is_first or found.first(2, BYTES) is None:
        return None
    if {one.number for one in found.fields} - {1, 2}:
        return None  # ONNX has more
    graphs = found.first(2, BYTES)
    assert graphs is not None
    inside = outline(look, graphs.start, graphs.start + graphs.length)
    if inside is None or inside.first(1, BYTES) is None:
        return None
    if found.cut:
        return cut("saved-model-file", "the graph of a SavedModel")
    if look.name == SAVED_MODEL_FILES[0]:
        return _in_its_folder(look)
    target = f"models/{name_of(look.path)}/1"
    return Artifact(
        "saved-model-file",
        "the graph of a SavedModel under another name",
        "put it into a folder as saved_model.pb, beside its variables/ and assets/ if it has any",
        commands=(
            f"mkdir -p {quoted(target)}",
            f"cp {quoted(look.path)} {quoted(target + '/saved_model.pb')}",
            f"servable serve {quoted(os.path.dirname(target))}",
        ),
    )


def saved_model_text(look: Look) -> Artifact | None:
    """Recognises the file of a SavedModel as text, by its name."""
    return _in_its_folder(look) if look.name == SAVED_MODEL_FILES[1] else None


def _in_its_folder(look: Look) -> Artifact:
    folder = os.path.dirname(look.path) or "."
    return Artifact(
        "saved-model-file",
        "the graph of a SavedModel",
        f"give the folder it is in: {folder}",
        commands=(f"servable serve {quoted(folder)}",),
    )


def graph_of_meta(look: Look) -> Ends:
    """Returns where the graph of a MetaGraphDef (``.meta``) begins and ends."""
    found = outline(look)
    graph = found.first(2, BYTES) if found is not None else None
    if graph is None:
        return Ends((), ())
    return ends(nodes(look, graph.start, graph.start + graph.length), training=True)


def is_meta_graph(look: Look, found: Outline) -> bool:
    """True if a message is a MetaGraphDef: its second field is a graph."""
    graph = found.first(2, BYTES)
    inside = outline(look, graph.start, graph.start + graph.length) if graph is not None else None
    return inside is not None and is_graph(look, inside)
