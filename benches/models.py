"""The models to measure, created once in a folder, and the tensors behind their signatures.

    python benches/models.py FOLDER

imports TensorFlow, writes what is missing into FOLDER and, for the bare runs, ``endpoints.json``: the tensors
that each signature feeds and fetches. ``prepare`` calls this in a process of its own, so that the benchmarks'
process stays small. The MobileNets are taken from ``../shared/mobilenet`` if it is present; otherwise they
are exported with random weights, which run exactly as long. The other networks are in ``real_models.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import real_models
from process import BenchError
from real_models import SIGNATURE

ROOT = Path(__file__).resolve().parent.parent
SHARED_MOBILENET = ROOT.parent / "shared" / "mobilenet"
VERSION = "1"
MAKING_SECONDS = 900


@dataclass(frozen=True)
class Model:
    """A served model: its base folder, and its tensors as ``node:index``, the inputs by their aliases."""

    name: str
    base: Path
    inputs: dict[str, str]
    outputs: tuple[str, ...]

    @property
    def version_folder(self) -> Path:
        """The SavedModel itself."""
        return self.base / VERSION


def prepare(folder: Path) -> dict[str, Model]:
    """Creates what is missing in ``folder``; returns every model by its name."""
    listed = folder / "endpoints.json"
    made_by = Path(__file__)
    changed = max(source.stat().st_mtime for source in (made_by, Path(real_models.__file__)))
    if not listed.is_file() or listed.stat().st_mtime < changed:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making the models in {os.path.relpath(folder)} (once)", flush=True)
        log = folder / "making.log"
        with log.open("wb") as output:  # TensorFlow is chatty
            command = [sys.executable, str(made_by), str(folder)]
            made = subprocess.run(command, stdout=output, stderr=output, timeout=MAKING_SECONDS)
        if made.returncode != 0:
            raise BenchError(f"the models could not be made: see {log}")
    entries = json.loads(listed.read_text(encoding="utf-8"))
    return {
        entry["name"]: Model(entry["name"], Path(entry["base"]), entry["inputs"], tuple(entry["outputs"]))
        for entry in entries
    }


def _export_half_plus_two(version: Path) -> None:
    _run_example("half_plus_two", version)


def _run_example(name: str, version: Path) -> None:
    subprocess.run([sys.executable, ROOT / "examples" / name / "export.py", version], check=True)


def _export_function(version: Path, function: Callable[..., Any], spec: Any) -> None:
    import tensorflow as tf  # type: ignore[import-untyped]

    module = tf.Module()
    module.serve = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(version), signatures={SIGNATURE: module.serve})


def _export_echo_floats(version: Path) -> None:
    """x float32 [...] -> y float32 [...], the same."""
    import tensorflow as tf

    _export_function(version, lambda x: {"y": tf.identity(x)}, tf.TensorSpec(None, tf.float32, name="x"))


def _export_photo_stub(version: Path) -> None:
    """image_bytes string [N] -> label string [N]: the photo model's signature with nothing behind it."""
    import tensorflow as tf

    def label(image_bytes: Any) -> dict[str, Any]:
        return {"label": tf.fill(tf.shape(image_bytes), "giant panda")}

    _export_function(version, label, tf.TensorSpec([None], tf.string, name="image_bytes"))


def _export_floats_stub(version: Path) -> None:
    """images float32 [N,224,224,3] -> probabilities float32 [N,1000], from one number of each picture.

    As in the real model, no operation's cost depends on values, so it runs on the same threads as that.
    """
    import tensorflow as tf

    def probabilities(images: Any) -> dict[str, Any]:
        return {"probabilities": images[:, 0, 0, :1] * tf.constant(0.001, shape=(1, 1000))}

    _export_function(version, probabilities, tf.TensorSpec([None, 224, 224, 3], tf.float32, name="images"))


def _export_mobilenet_v2(version: Path) -> None:
    """image_bytes string [N] -> label string [N], with random weights."""
    sys.path.insert(0, str(ROOT / "examples" / "mobilenet_v2"))
    import keras  # type: ignore[import-untyped]
    from export import LABELS, export  # type: ignore[import-not-found]

    export(
        keras.applications.MobileNetV2(weights=None),
        LABELS.read_text(encoding="utf-8").splitlines(),
        str(version),
    )


def _export_mobilenet_v2_float(version: Path) -> None:
    """images float32 [N,224,224,3] -> probabilities float32 [N,1000], with random weights."""
    import keras
    import tensorflow as tf

    model = keras.applications.MobileNetV2(weights=None)
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec([None, 224, 224, 3], tf.float32, name="images")
    archive.add_endpoint(
        SIGNATURE, lambda images: {"probabilities": model(images, training=False)}, input_signature=[spec]
    )
    archive.write_out(str(version), verbose=False)


EXPORTS: dict[str, Callable[[Path], None]] = {
    "half_plus_two": _export_half_plus_two,
    "echo_floats": _export_echo_floats,
    "photo_stub": _export_photo_stub,
    "floats_stub": _export_floats_stub,
    "mobilenet_v2": _export_mobilenet_v2,
    "mobilenet_v2_float": _export_mobilenet_v2_float,
    **real_models.EXPORTS,
}


def _base(name: str, folder: Path) -> Path:
    shared = SHARED_MOBILENET / name
    return shared if shared.is_dir() else folder / name


def _endpoints(name: str, base: Path) -> dict[str, object]:
    """Reads the endpoints from the SavedModel's signature, outputs ordered by their tensors' names."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # type: ignore[import-untyped]

    saved = SavedModel.FromString((base / VERSION / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def[SIGNATURE]
    inputs = {alias: info.name for alias, info in sorted(signature.inputs.items())}
    outputs = sorted(info.name for info in signature.outputs.values())
    return {"name": name, "base": str(base), "inputs": inputs, "outputs": outputs}


def main() -> None:
    """Writes the models and ``endpoints.json`` into the folder named on the command line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    folder = Path(sys.argv[1]).resolve()
    entries = []
    for name, export in EXPORTS.items():
        base = _base(name, folder)
        if not (base / VERSION / "saved_model.pb").is_file():
            export(base / VERSION)
        entries.append(_endpoints(name, base))
    (folder / "endpoints.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
