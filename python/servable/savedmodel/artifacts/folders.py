"""Folders that are no version and hold none: what is in them, and where the model is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

from servable.savedmodel.artifacts.artifact import Artifact, damaged, name_of, quoted
from servable.savedmodel.artifacts.look import Look
from servable.savedmodel.layout import (
    MODEL_FILES,
    SAVED_MODEL_FOLDERS,
    has_model_ending,
    held_by,
    is_version_name,
)

MOST_INNER = 64
"""Entries of a folder that are looked into."""
MOST_VALUES = 8
"""Places that a file names at which a model is looked for."""
HUB_MARK = "tfhub_module.pb"

HUB_PROGRAM = """\
import tensorflow as tf

v1 = tf.compat.v1
with tf.Graph().as_default() as graph, v1.Session() as session:
    module = v1.saved_model.load(session, [], {path!r})
    signature = module.signature_def["default"]
    inputs, outputs = (
        {{name: graph.get_tensor_by_name(one.name) for name, one in infos.items()}}
        for infos in (signature.inputs, signature.outputs)
    )
    v1.saved_model.simple_save(session, {target!r}, inputs, outputs)"""

ORBAX_PROGRAM = """\
# In the program that knows the model: a checkpoint has its parameters, and not what is computed with them.
import orbax.checkpoint
import tensorflow as tf
from jax.experimental import jax2tf

parameters = orbax.checkpoint.StandardCheckpointer().restore({path!r})
served = jax2tf.convert(
    lambda x: predict(parameters, x), polymorphic_shapes=["(batch, ...)"], with_gradient=False
)
module = tf.Module()
module.serve = tf.function(served, input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
tf.saved_model.save(module, {target!r}, signatures=module.serve)"""

HUGGING_FACE_COMMANDS = (
    "pip install 'optimum[onnxruntime]'",
    "optimum-cli export onnx --model {source} {target}",
    "servable serve {served}",
)


def empty(look: Look) -> Artifact | None:
    """Recognises a folder without anything in it."""
    if look.names:
        return None
    return damaged(
        "empty-folder",
        "a folder",
        "it is empty",
        "copy the model into it, under another name first, and rename that to 1 once it is complete",
    )


def inside_a_version(look: Look) -> Artifact | None:
    """Recognises the variables or assets of a SavedModel, given instead of the folder above."""
    above = os.path.dirname(os.path.abspath(look.path))
    if look.name not in SAVED_MODEL_FOLDERS or not held_by(above):
        return None
    return Artifact(
        "inside-saved-model",
        f"the {look.name} of a SavedModel",
        f"give the folder above: {above}",
        commands=(f"servable serve {quoted(above)}",),
    )


def hub_module(look: Look) -> Artifact | None:
    """Recognises a module of TensorFlow Hub in the format of TensorFlow 1."""
    if not {HUB_MARK, "saved_model.pb"} <= set(look.names):
        return None
    name = name_of(look.path)
    return Artifact(
        "tensorflow-hub-module",
        "a module of TensorFlow Hub in the format of TensorFlow 1",
        "save it as a SavedModel with TensorFlow",
        HUB_PROGRAM.format(path=look.path, target=f"models/{name}/1"),
        ("tensorflow",),
        (f"servable serve {quoted(f'models/{name}')}",),
    )


def models_inside(look: Look) -> Artifact | None:
    """Recognises a folder above that of a model: of several, of one without a number, or deeper yet."""
    inner = [one for one in look.names[:MOST_INNER] if not is_version_name(one)]
    bases = [one for one in inner if _has_versions(os.path.join(look.path, one))]
    lone = [one for one in inner if held_by(os.path.join(look.path, one))]
    if bases or lone:
        found = [*bases, *lone]
        paths = " ".join(quoted(os.path.join(look.path, one)) for one in found[:8])
        more = ", …" if len(found) > 8 else ""
        title = "a folder of models" if len(found) > 1 else f"a folder whose model is in {found[0]}/"
        return Artifact(
            "folder-of-models",
            title,
            f"give the folder of each: {', '.join(found[:8])}{more}",
            commands=(f"servable serve {paths}",),
        )
    deeper = next(_deeper(look, inner), "")
    if not deeper:
        return None
    return Artifact(
        "nested-model",
        f"a folder whose model is deeper, in {os.path.relpath(deeper, look.path)}",
        f"give that folder: {deeper}",
        commands=(f"servable serve {quoted(deeper)}",),
    )


def _has_versions(path: str) -> bool:
    """True if a folder has a version that holds a model."""
    try:
        with os.scandir(path) as entries:
            names = [one.name for _, one in zip(range(MOST_INNER), entries, strict=False)]
    except OSError:
        return False
    return any(is_version_name(one) and held_by(os.path.join(path, one)) for one in names)


def _deeper(look: Look, inner: list[str]) -> Iterator[str]:
    """Yields the folders of models below those in the folder, down to the third level."""
    level = [os.path.join(look.path, one) for one in look.names if one in inner or is_version_name(one)]
    for _ in range(2):
        below: list[str] = []
        for path in level[:MOST_INNER]:
            try:
                with os.scandir(path) as entries:
                    below += [
                        one.path for _, one in zip(range(MOST_INNER), entries, strict=False) if one.is_dir()
                    ]
            except OSError:
                continue
        below.sort()
        yield from (one for one in below if held_by(one))
        level = below


def triton(look: Look) -> Artifact | None:
    """Recognises a model of Triton's repository: its versions hold files under Triton's names."""
    if "config.pbtxt" not in look.names:
        return None
    versions = sorted((one for one in look.names if is_version_name(one)), key=int)
    for version in reversed(versions):
        for name in ("model.savedmodel", *MODEL_FILES):
            path = os.path.join(look.path, version, name)
            if held_by(path) or (has_model_ending(path) and os.path.isfile(path)):
                served = path if name == "model.savedmodel" else look.path
                return Artifact(
                    "triton-model",
                    "a model of Triton's repository",
                    f"serve {served} (config.pbtxt has no effect; docs/migrating.md)",
                    commands=(f"servable serve {quoted(f'{name_of(look.path)}={served}')}",),
                )
    return None


def mlflow(look: Look) -> Artifact | None:
    """Recognises a model that MLflow saved: what it holds is named in ``MLmodel``."""
    if "MLmodel" not in look.names:
        return None
    text = look.text_of("MLmodel")
    flavors = tuple(
        dict.fromkeys(re.findall(r"^  ([a-z][a-z_0-9]*):", _section(text, "flavors"), re.MULTILINE))
    )
    data = next(_mlflow_models(look, text), "")
    facts = {"flavors": ", ".join(flavors[:8])} if flavors else {}
    name = name_of(look.path)
    if data:
        commands = (f"servable serve {quoted(f'{name}={data}')}",)
        return Artifact(
            "mlflow", "a model that MLflow saved", f"what is served is {data}", commands=commands, facts=facts
        )
    return Artifact(
        "mlflow",
        "a model that MLflow saved",
        "load it with mlflow and export what it loads; `servable inspect` of the file in it says how",
        facts=facts,
    )


def _section(text: str, name: str) -> str:
    """Returns the indented lines below ``name:`` in a YAML file."""
    found = re.search(rf"^{name}:[ ]*\n((?:[ ].*\n?|\n)*)", text, re.MULTILINE)
    return found[1] if found else ""


def _mlflow_models(look: Look, text: str) -> Iterator[str]:
    for key in ("saved_model_dir", "data", "model_data"):
        for value in re.findall(rf"^[ ]+{key}: ['\"]?([\w./-]+)", text, re.MULTILINE)[:MOST_VALUES]:
            for path in (os.path.join(look.path, value), *_files_in(os.path.join(look.path, value))):
                # The file says where, and it may say anything.
                is_inside = os.path.realpath(path).startswith(os.path.realpath(look.path) + os.sep)
                if is_inside and (held_by(path) or (has_model_ending(path) and os.path.isfile(path))):
                    yield path


def _files_in(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(one.path for _, one in zip(range(MOST_INNER), entries, strict=False))
    except OSError:
        return []


def orbax(look: Look) -> Artifact | None:
    """Recognises a checkpoint of JAX, as Orbax writes them."""
    names = set(look.names)
    if not names & {"_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt"}:
        return None
    if not names & {
        "d",
        "_METADATA",
        "manifest.ocdbt",
        "default",
        "state",
        "params",
        "_sharding",
        "ocdbt.process_0",
    }:
        return None
    name = name_of(look.path)
    # A step of a CheckpointManager has its items in folders.
    item = os.path.join(os.path.abspath(look.path), *(("default",) if "default" in names else ()))
    return Artifact(
        "jax-checkpoint",
        "a checkpoint of JAX, written by Orbax",
        "restore it in the program that has the model, and save that as a SavedModel with jax2tf",
        ORBAX_PROGRAM.format(path=item, target=f"models/{name}/1"),
        ("jax", "orbax-checkpoint", "tensorflow"),
        (f"servable serve {quoted(f'models/{name}')}",),
    )


def hugging_face(look: Look) -> Artifact | None:
    """Recognises a model of Hugging Face's transformers: its configuration, and weights beside it."""
    if "config.json" not in look.names:
        return None
    weights = [one for one in look.names if re.search(r"\.safetensors$|^(pytorch|tf|flax)_model[.-]", one)]
    try:
        config = json.loads(look.text_of("config.json", 1 << 20))
    except (ValueError, RecursionError):
        return None
    if not weights or not isinstance(config, dict) or not (config.keys() & {"architectures", "model_type"}):
        return None
    architectures = config.get("architectures")
    named = (
        architectures[0] if isinstance(architectures, list) and architectures else config.get("model_type")
    )
    target = f"models/{name_of(look.path)}"
    served = f"{name_of(look.path)}={target}/model.onnx"
    words = {"source": quoted(look.path), "target": quoted(target), "served": quoted(served)}
    return Artifact(
        "hugging-face",
        "a model of Hugging Face's transformers",
        "export it to ONNX with optimum",
        commands=tuple(one.format(**words) for one in HUGGING_FACE_COMMANDS),
        facts={"architecture": str(named)[:80], "weights": ", ".join(weights[:4])},
    )


def core_ml(look: Look) -> Artifact | None:
    """Recognises a package of Apple's Core ML."""
    if not (look.ending == ".mlpackage" or {"Manifest.json", "Data"} <= set(look.names)):
        return None
    return Artifact(
        "core-ml",
        "a model for Apple's Core ML",
        "no engine here takes it: export it again from the program that made it, to ONNX or a SavedModel",
    )
