"""PyTorch's files: TorchScript, modules, weights, exported programs; TorchServe's and ExecuTorch's."""

from __future__ import annotations

import re
from dataclasses import replace

from servable.savedmodel.artifacts.archives import Listing, zip_part
from servable.savedmodel.artifacts.artifact import Artifact, name_of, quoted
from servable.savedmodel.artifacts.look import Look
from servable.savedmodel.artifacts.pickles import MOST_BYTES, named

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number with which files of PyTorch before 1.6 begin, as a pickle."""
ADVICE = "export it to ONNX with PyTorch"
_PLAIN = re.compile(
    r"torch\.(_utils\._rebuild|\w+Storage|storage\.|Size|device|\w+$)|collections\.|_?codecs\.|numpy\."
)

_EXPORT = """\
example = torch.zeros(1, 3, 224, 224)  # a batch of one, in the shape that the model takes
torch.onnx.export(
    model, (example,), {target!r}, input_names=["x"], output_names=["y"],
    dynamic_axes={{"x": {{0: "batch"}}}}{more}
)"""

SCRIPT_PROGRAM = "import torch\n\nmodel = torch.jit.load({path!r}, map_location='cpu').eval()\n" + _EXPORT
MODULE_PROGRAM = (
    "import torch\n\n# Runs code of the file: only if you trust it, and with its classes there.\n"
    "model = torch.load({path!r}, map_location='cpu', weights_only=False).eval()\n" + _EXPORT
)
WEIGHTS_PROGRAM = (
    "import torch\n\nmodel = build_model()  # the program that knows the model has its class\n"
    "model.load_state_dict(torch.load({path!r}, map_location='cpu', weights_only=True))\nmodel.eval()\n"
    + _EXPORT
)
EXPORTED_PROGRAM = """\
import torch

program = torch.export.load({path!r})
torch.onnx.export(program, (), {target!r}, dynamo=True)"""
SAFETENSORS_PROGRAM = (
    "import torch\nfrom safetensors.torch import load_file\n\n"
    "model = build_model()  # the program that knows the model has its class\n"
    "model.load_state_dict(load_file({path!r}))\nmodel.eval()\n" + _EXPORT
)


def convertible(look: Look, kind: str, title: str, program: str, packages: tuple[str, ...]) -> Artifact:
    """Returns the artifact of a model that is exported to ONNX by ``program``."""
    target = f"{name_of(look.path)}.onnx"
    # The exporter that needs no example of each operator, and no further package.
    text = program.format(path=look.path, target=target, more=", dynamo=False")
    return Artifact(kind, title, ADVICE, text, packages, (f"servable serve {quoted(target)}",))


def torch_zip(look: Look, listing: Listing) -> Artifact | None:
    """Recognises a file of PyTorch since 1.6, a zip file."""
    names = listing.sizes.keys()
    if "MAR-INF/MANIFEST.json" in names:
        return Artifact(
            "torchserve-archive",
            "an archive for TorchServe",
            "unpack it, and export the model file in it to ONNX: `servable inspect` of that file says how",
            commands=(f"python3 -m zipfile -e {quoted(look.path)} {quoted(name_of(look.path))}",),
        )
    roots = {name.partition("/")[0] for name in names}
    root = next(iter(roots)) if len(roots) == 1 else ""
    if any(re.search(r"(^|/)(serialized_exported_program\.json|models/[^/]+\.json)$", one) for one in names):
        return convertible(
            look,
            "pytorch-exported",
            "a program that torch.export saved",
            EXPORTED_PROGRAM,
            ("torch", "onnxscript"),
        )
    pickle = f"{root}/data.pkl" if root else "data.pkl"
    if pickle not in names:
        return None
    if f"{root}/constants.pkl" in names and any(one.startswith(f"{root}/code/") for one in names):
        return convertible(
            look, "pytorch-torchscript", "a PyTorch model in TorchScript", SCRIPT_PROGRAM, ("torch", "onnx")
        )
    return _by_pickle(look, named(zip_part(look, pickle, MOST_BYTES)))


def legacy(look: Look) -> Artifact | None:
    """Recognises a file of PyTorch before 1.6."""
    return _by_pickle(look, named(look.head[len(LEGACY) :])) if look.head.startswith(LEGACY) else None


def _by_pickle(look: Look, names: tuple[str, ...]) -> Artifact:
    """Tells weights from a whole module by what the pickle names."""
    classes = [one for one in names if not _PLAIN.match(one)]
    if not classes:
        return convertible(
            look,
            "pytorch-weights",
            "the weights of a PyTorch model, without the model",
            WEIGHTS_PROGRAM,
            ("torch", "onnx"),
        )
    found = convertible(look, "pytorch-module", "a pickled PyTorch model", MODULE_PROGRAM, ("torch", "onnx"))
    facts = {"classes": ", ".join(classes[:6]) + (", …" if len(classes) > 6 else "")}
    return replace(found, facts=facts)


def executorch(look: Look) -> Artifact | None:
    """Recognises a program of ExecuTorch."""
    if look.head[4:8] not in (b"ET12", b"ET11"):
        return None
    return Artifact(
        "executorch",
        "a program for ExecuTorch, PyTorch's runtime for devices",
        "no engine here takes it: export the model again, to ONNX",
    )
