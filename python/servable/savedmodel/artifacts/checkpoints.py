"""TensorFlow's checkpoints: variables by name, with the graph beside them (TensorFlow 1) or without."""

from __future__ import annotations

import os
import re
import struct

from servable.savedmodel.artifacts.artifact import COPY_AGAIN, Artifact, damaged, name_of, quoted
from servable.savedmodel.artifacts.graphs import Ends, graph_of_meta, is_meta_graph
from servable.savedmodel.artifacts.look import MOST_READ, Look
from servable.savedmodel.artifacts.protobuf import Outline
from servable.savedmodel.layout import held_by

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
MOST_KEYS = 500
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NOT_MODELS = (OBJECTS, "save_counter", "optimizer", "step", "epoch", "iter", "iterator")
_DATA = re.compile(r"(.+)\.data-\d{5}-of-(\d{5})")

META_PROGRAM = """\
import tensorflow as tf

tf.compat.v1.disable_eager_execution()
with tf.compat.v1.Session() as session:
    saver = tf.compat.v1.train.import_meta_graph({meta!r}, clear_devices=True)
    saver.restore(session, {prefix!r})
    tensor = session.graph.get_tensor_by_name
    # The ends of the graph, as far as they can be told: keep what clients send and ask for.
    tf.compat.v1.saved_model.simple_save(
        session,
        {target!r},
        inputs={inputs},
        outputs={outputs},
    )"""

OBJECTS_PROGRAM = """\
# In the program that knows the model: a checkpoint has its variables, and not what is computed with them.
import tensorflow as tf

model = build_model()
tf.train.Checkpoint({root}).restore({prefix!r}).expect_partial()
model.export({target!r})  # of Keras; of another tf.Module: tf.saved_model.save with signatures"""

NAMES_PROGRAM = """\
# In the program that knows the model: a checkpoint has its variables, and not what is computed with them.
import tensorflow as tf

tf.compat.v1.disable_eager_execution()
inputs, outputs = build_graph()  # dictionaries of tensors
with tf.compat.v1.Session() as session:
    tf.compat.v1.train.Saver().restore(session, {prefix!r})
    tf.compat.v1.saved_model.simple_save(session, {target!r}, inputs, outputs)"""


def part(look: Look) -> Artifact | None:
    """Recognises one file of a checkpoint: the index, data, or the list of the last ones."""
    folder = os.path.dirname(look.path)
    above = os.path.dirname(os.path.abspath(folder))
    if os.path.basename(os.path.abspath(folder)) == "variables" and held_by(above):
        advice = f"give the folder of the SavedModel: {above}"
        served = (f"servable serve {quoted(above)}",)
        return Artifact("inside-saved-model", "a part of a SavedModel's variables", advice, commands=served)
    data = _DATA.fullmatch(look.name)
    if look.ending == ".index" and look.tail.endswith(MAGIC):
        return checkpoint(os.path.join(folder, look.name.removesuffix(look.ending)))
    if data and os.path.isfile(os.path.join(folder, f"{data[1]}.index")):
        return checkpoint(os.path.join(folder, data[1]))
    if data:
        return damaged(
            "tensorflow-checkpoint",
            "the data of a checkpoint of TensorFlow",
            f"{data[1]}.index is not beside it",
            "copy all files of the checkpoint",
        )
    if look.name == "checkpoint" and look.head.startswith(b"model_checkpoint_path:"):
        prefix = _last(look.head.decode("utf-8", "replace"))
        if os.path.isfile(os.path.join(folder, f"{prefix}.index")):
            return checkpoint(os.path.join(folder, prefix))
    if look.tail.endswith(MAGIC):
        return Artifact(
            "tensorflow-checkpoint",
            "a checkpoint in TensorFlow's first format",
            "restore it in the program that has its graph, and save that as a SavedModel",
            NAMES_PROGRAM.format(prefix=look.path, target=f"models/{name_of(look.path)}/1"),
            ("tensorflow",),
            (f"servable serve {quoted(f'models/{name_of(look.path)}')}",),
        )
    return None


def meta_graph(look: Look, found: Outline) -> Artifact | None:
    """Recognises the graph of a checkpoint."""
    if not is_meta_graph(look, found):
        return None
    prefix = look.path.removesuffix(".meta")
    if look.ending == ".meta" and os.path.isfile(f"{prefix}.index"):
        return checkpoint(prefix)
    return damaged(
        "tensorflow-checkpoint",
        "the graph of a checkpoint of TensorFlow",
        "its variables (.index, .data-00000-of-00001) are not beside it",
        "copy all files of the checkpoint",
    )


def folder(look: Look) -> Artifact | None:
    """Recognises a folder of checkpoints: the one that is named as the last, or the last by number."""
    prefixes = [name.removesuffix(".index") for name in look.names if name.endswith(".index")]
    if not prefixes:
        return None
    last = _last(look.text_of("checkpoint")) if "checkpoint" in look.names else ""
    chosen = last if last in prefixes else max(prefixes, key=_number)
    with look.inner(f"{chosen}.index") as index:
        if not index.tail.endswith(MAGIC):
            return None
    return checkpoint(os.path.join(look.path, chosen))


def _number(prefix: str) -> tuple[int, str]:
    digits = re.search(r"(\d{1,18})$", prefix)
    return int(digits[1]) if digits else -1, prefix


def _last(state: str) -> str:
    found = re.search(r'^model_checkpoint_path:\s*"([^"\n]+)"', state, re.MULTILINE)
    return os.path.basename(found[1]) if found else ""


def checkpoint(prefix: str) -> Artifact:
    """Returns what to do with the checkpoint whose files begin with ``prefix``."""
    missing = _missing_data(prefix)
    if missing:
        title = "a checkpoint of TensorFlow"
        return damaged("tensorflow-checkpoint", title, f"{missing} is not there", COPY_AGAIN)
    name = name_of(os.path.basename(prefix))
    target = f"models/{name}/1"
    commands = (f"servable serve {quoted(f'models/{name}')}",)
    meta = f"{prefix}.meta"
    if os.path.isfile(meta):
        at = _ends_of(meta)
        inputs, outputs = at.as_code()
        return Artifact(
            "tensorflow-checkpoint",
            "a checkpoint of TensorFlow 1, with its graph",
            "restore it with TensorFlow, and save it as a SavedModel",
            META_PROGRAM.format(meta=meta, prefix=prefix, target=target, inputs=inputs, outputs=outputs),
            ("tensorflow",),
            commands,
        )
    keys = _keys(f"{prefix}.index")
    if OBJECTS in keys:
        program = OBJECTS_PROGRAM.format(root=_root(keys), prefix=prefix, target=target)
    else:
        program = NAMES_PROGRAM.format(prefix=prefix, target=target)
    shown = [key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE") for key in keys if key and key != OBJECTS]
    return Artifact(
        "tensorflow-checkpoint",
        "a checkpoint of TensorFlow: variables without a graph",
        "restore it into its model in the program that has it, and export that",
        program,
        ("tensorflow",),
        commands,
        {"variables": ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")} if shown else {},
    )


def _ends_of(meta: str) -> Ends:
    look = Look(meta)
    try:
        return graph_of_meta(look)
    finally:
        look.close()


def _missing_data(prefix: str) -> str:
    """Returns the name of a file that the checkpoint lacks, by the names of those that it has; "" if none."""
    folder, base = os.path.split(prefix)
    try:
        names = set(os.listdir(folder or "."))
    except OSError:
        return ""
    counts = [int(found[2]) for one in names if (found := _DATA.fullmatch(one)) and found[1] == base]
    count = min(max(counts, default=1), 10_000)
    wanted = (f"{base}.data-{number:05d}-of-{count:05d}" for number in range(count))
    return next((one for one in wanted if one not in names), "")


def _keys(path: str) -> list[str]:
    # With the core, which has the checksums.
    from servable.savedmodel import tensor_bundle

    look = Look(path)
    try:
        if look.size > MOST_READ:
            return []
        return tensor_bundle.keys(look.read(0, look.size), MOST_KEYS)
    except (OSError, ValueError, tensor_bundle.CompressedError):
        return []
    finally:
        look.close()


def _root(keys: list[str]) -> str:
    """Returns how the model is given to ``tf.train.Checkpoint``: by the name that its variables are under."""
    heads = dict.fromkeys(key.partition("/")[0] for key in keys if "/" in key)
    named = [one for one in heads if one not in _NOT_MODELS and re.fullmatch(r"[A-Za-z]\w*", one)]
    layered = any(re.match(r"layer[-_]|layers$|variables$|keras_api$", one) for one in named)
    return "model" if layered or len(named) != 1 else f"{named[0]}=model"
