"""Makes SavedModels with Keras and TensorFlow: the only module that imports them, in a process of its own.

``export_process.py`` starts it with a job and reads its messages. It ends when its standard input is closed,
which is when the server ends, however that happens.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import tempfile
import threading
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from servable.savedmodel import keras_file

PRIORITY = 10
"""How much this process gives way to others: a server may be answering beside it."""
TOLERANCE = 1e-5
"""Largest difference of answers before and after, as a part of the largest value."""
SAFE_SINCE = 3, 12
"""The first Keras 3 whose safe mode has no known way around it."""
Say = Callable[[str], None]

EXPORT = "call model.export(FOLDER) in the program that made the model, and serve that folder"
WEIGHTS = (
    "build the model in a program, load them with model.load_weights(FILE), call model.export(FOLDER), and "
    "serve that folder"
)


class Refused(Exception):  # noqa: N818 - it is an answer
    """The job cannot be done. code: as in ``errors.CODES``. hint: what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def main() -> None:
    """Does the job in the first argument, which is JSON: kind, source, target."""
    job = json.loads(sys.argv[-1])
    send = _take_standard_output()
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    with suppress(OSError):
        os.nice(PRIORITY)
    try:
        with _own_temporary_files():
            result = JOBS[job["kind"]](job, lambda phase: send({"phase": phase}))
    except Refused as refused:
        send({"code": refused.code, "message": refused.message, "hint": refused.hint})
    except BaseException as error:
        traceback.print_exc()
        code, message, hint = explained(error)
        send({"code": code, "message": message, "hint": hint})
    else:
        send({"result": result})
    sys.stderr.flush()
    # TensorFlow's threads and destructors have nothing left to do.
    os._exit(0)


@contextmanager
def _own_temporary_files() -> Iterator[None]:
    """Removes temporary files at the end: autograph leaves each function that it rewrote in one."""
    with tempfile.TemporaryDirectory(prefix="servable-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = None


def _take_standard_output() -> Callable[[Mapping[str, Any]], None]:
    """Returns what sends a message; whatever else is printed goes to standard error from now on."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: Mapping[str, Any]) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    return send


def _end_with_the_server() -> None:
    while os.read(0, 4096):
        continue
    os._exit(1)


def explained(error: BaseException) -> tuple[str, str, str]:
    """Returns code, message and advice for what Keras or TensorFlow raised."""
    text = str(error).strip() or type(error).__name__
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in text:
        return "RESOURCE_EXHAUSTED", "the disk is full", ""
    if isinstance(error, MemoryError):
        return "RESOURCE_EXHAUSTED", "there is not enough memory", ""
    for pattern, message, hint in _EXPLANATIONS:
        if re.search(pattern, text):
            return "FAILED_PRECONDITION", f"{message}: {_first_lines(text)}", hint
    return "UNKNOWN", f"{type(error).__name__}: {_first_lines(text)}", EXPORT


_EXPLANATIONS = (
    (
        r"No model config found|not a valid Keras model|does not contain a model",
        "the file holds weights alone, without the model",
        WEIGHTS,
    ),
    (
        r"has not yet been built|must be built|must be called|has never been called",
        "the model has no input shape yet",
        f"call it once, or begin it with keras.Input(shape), before it is saved; or {EXPORT}",
    ),
    (
        r"could not be deserialized|Could not (deserialize|locate)|Unknown \w+: |Cannot deserialize"
        r"|custom_object|register_keras_serializable",
        "the model needs code that is not in the file, or another version of Keras",
        f"{EXPORT}: a SavedModel needs no code",
    ),
)
"""Texts of Keras, what they mean, and what to do."""


def _first_lines(text: str, most: int = 300) -> str:
    head = text.partition("\n\n")[0].replace("\n", " ")
    return head if len(head) <= most else head[:most] + "…"


# ---- a Keras file


def convert(job: Mapping[str, str], say: Say) -> dict[str, Any]:
    """Exports the Keras file ``source`` as the SavedModel ``target``, as ``model.export`` does."""
    source, target = job["source"], job["target"]
    found = _read_file(source)
    if found.lambdas:
        raise Refused(
            "FAILED_PRECONDITION",
            f"the model has {_named('Lambda layer', found.lambdas)}: loading such a layer runs code from the "
            "file, which a server does not do",
            f"{EXPORT}; or put a layer of a class in its place",
        )
    if found.custom:
        raise Refused(
            "FAILED_PRECONDITION",
            f"the model has {_named('class', found.custom)} that Keras does not have, and whose code is not "
            "in the file",
            f"{EXPORT}: a SavedModel needs no code",
        )
    say("Keras is being imported")
    keras = _keras_for(found.keras_version)
    say("the model is being read")
    model = _load(keras, source, found.keras_version)
    say("the model is being exported")
    _export(model, target)
    return {"made_by": f"Keras {keras.__version__}", "name": str(getattr(model, "name", ""))}


def _load(keras: Any, source: str, version: str) -> Any:
    """Returns the model, read in Keras' safe mode."""
    try:
        return keras.models.load_model(source, compile=False, safe_mode=True)
    except Exception as error:
        if not version.startswith("2.") or keras.__version__.startswith("2."):
            raise
        raise Refused(
            "FAILED_PRECONDITION",
            f"the file was written by Keras {version}, and Keras {keras.__version__} reads only part of "
            f"those: {_first_lines(str(error))}",
            f"pip install tf_keras, which is Keras 2 and is used for such files; or {EXPORT}",
        ) from None


def _read_file(path: str) -> keras_file.KerasFile:
    """Returns what the file says of itself. Raises ``Refused`` if it is none of Keras'."""
    try:
        is_hdf5, is_zip = keras_file.is_hdf5(path), zipfile.is_zipfile(path)
        # Keras could read the other one of them.
        if (is_hdf5 and is_zip) or (is_zip and not path.lower().endswith(".keras")):
            raise ValueError("it is a zip file, and HDF5 too, or named so")
        if is_hdf5:
            return keras_file.of_config(*_hdf5_config(path))
        return keras_file.read(path)
    except (ValueError, OSError, KeyError, EOFError) as error:
        if isinstance(error, PermissionError):
            raise Refused("PERMISSION_DENIED", f"{path} may not be read", f"chmod a+r {path}") from None
        raise Refused(
            "DATA_LOSS",
            f"{path} cannot be read as a Keras file: {_first_lines(str(error))}",
            "it is damaged, was only half copied, or is something else: save it again with model.save(FILE)",
        ) from None


def _hdf5_config(path: str) -> tuple[Any, str]:
    """Returns the configuration and the version of Keras in an HDF5 file; ``{}`` if it has weights alone."""
    import h5py  # type: ignore[import-untyped]

    with h5py.File(path, "r") as file:
        config, version = file.attrs.get("model_config", b"{}"), file.attrs.get("keras_version", b"")
    return json.loads(_text(config)), _text(version)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _keras_for(version: str) -> Any:
    """Returns the Keras that reads files of ``version``: Keras 2 is kept alive as ``tf_keras``."""
    from importlib import import_module
    from importlib.util import find_spec

    if version.startswith("2.") and find_spec("tf_keras") is not None:
        keras = import_module("tf_keras")
        check_safe(keras, "tf_keras")
        return keras
    keras = import_module("keras")
    check_safe(keras, "keras")
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise Refused(
            "FAILED_PRECONDITION", f"Keras runs on {backend} here, and on TensorFlow it exports SavedModels"
        )
    return keras


def check_safe(keras: Any, package: str) -> None:
    """Raises ``Refused`` if this Keras has no safe mode, or one that is known to run code of a file."""
    numbers = [int(one) for one in re.findall(r"\d+", keras.__version__)[:2]]
    old = numbers < list(SAFE_SINCE) if numbers[:1] == [3] else numbers < [2, 13]
    if old:
        raise Refused(
            "FAILED_PRECONDITION",
            f"Keras {keras.__version__} may run code that is in a file",
            f"pip install -U {package}",
        )


def _named(what: str, names: tuple[str, ...]) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"a {what} ({names[0]})" if len(names) == 1 else f"{plural} ({', '.join(names[:6])})"


def _export(model: Any, target: str) -> None:
    if hasattr(model, "export"):
        model.export(target)
        return
    from importlib import import_module

    # Keras before 2.13.
    import_module("tensorflow").saved_model.save(model, target)


# ---- a SavedModel whose signatures do not see its variables


def heal(job: Mapping[str, str], say: Say) -> dict[str, Any]:
    """Writes the SavedModel ``source`` again as ``target``, such that its signatures see its variables.

    ``tf.saved_model.load`` follows the objects, as training does, and finds each variable where the
    checkpoint has it; saved again, the variables are those that the signatures read.
    """
    say("TensorFlow is being imported")
    import tensorflow as tf  # type: ignore[import-untyped]

    tf.get_logger().setLevel("ERROR")
    say("the model is being read")
    loaded = tf.saved_model.load(job["source"])
    signatures = dict(loaded.signatures)
    unset = [one.name for function in signatures.values() for one in function.variables if not _is_set(one)]
    if unset:
        raise Refused("FAILED_PRECONDITION", f"its checkpoint has no values for {', '.join(unset[:6])}")
    say("the model is being saved again")
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(loaded, job["target"], signatures=signatures, options=options)
    say("the answers are being compared")
    compared = _compare(tf, job["source"], job["target"], signatures)
    variables = {id(one) for function in signatures.values() for one in function.variables}
    return {"made_by": f"TensorFlow {tf.__version__}", "variables": len(variables), "compared": compared}


def _is_set(variable: Any) -> bool:
    return bool(variable.is_initialized())


def _compare(tf: Any, source: str, target: str, signatures: Mapping[str, Any]) -> list[str]:
    """Returns the signatures that were asked and gave the same answers, before and after.

    Raises ``Refused`` if the signatures differ, a variable is empty, or an answer is another one.
    """
    if _signature_defs(source) != _signature_defs(target):
        raise Refused("FAILED_PRECONDITION", "its signatures are others when it is saved again")
    inputs = {name: _made_up(function) for name, function in signatures.items()}
    asked = {name: _asked_before(tf, function, inputs[name]) for name, function in signatures.items()}
    expected = {name: answer for name, answer in asked.items() if answer is not None}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], target)
        handles = [one.outputs[0] for one in session.graph.get_operations() if one.type == "VarHandleOp"]
        if not all(session.run([tf.raw_ops.VarIsInitializedOp(resource=one) for one in handles])):
            raise Refused("FAILED_PRECONDITION", "variables are still empty when it is saved again")
        for name, answer in expected.items():
            definition = graph.signature_def[name]
            fed = {definition.inputs[key].name: value for key, value in inputs[name].items()}
            got = session.run({key: one.name for key, one in definition.outputs.items()}, fed)
            if not all(_same(answer[key], value) for key, value in got.items()):
                raise Refused("FAILED_PRECONDITION", f"signature {name} answers otherwise when saved again")
    return sorted(expected)


def _signature_defs(path: str) -> dict[str, Any]:
    """Returns what clients see of the signatures: methods, names, dtypes and shapes."""
    from tensorflow.python.saved_model import loader_impl  # type: ignore[import-untyped]

    model = loader_impl.parse_saved_model(path)
    return {
        name: (
            one.method_name,
            *(
                sorted((key, info.dtype, str(info.tensor_shape)) for key, info in side.items())
                for side in (one.inputs, one.outputs)
            ),
        )
        for name, one in model.meta_graphs[0].signature_def.items()
        if not name.startswith("__")
    }


def _made_up(function: Any) -> dict[str, Any]:
    """Returns values for every input: one example, the same at every call."""
    import numpy as np

    random = np.random.default_rng(0)
    made = {}
    for name, spec in function.structured_input_signature[1].items():
        shape = [one or 1 for one in (spec.shape.as_list() if spec.shape.rank is not None else [1])]
        dtype = spec.dtype.as_numpy_dtype
        if spec.dtype.is_floating or spec.dtype.is_complex:
            made[name] = random.random(shape).astype(dtype)
        else:
            made[name] = np.full(shape, b"", object) if dtype is object else np.ones(shape, dtype)
    return made


def _asked_before(tf: Any, function: Any, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the answer before; None if there is none to these inputs, or another one at each call."""

    specs = function.structured_input_signature[1]

    def ask() -> dict[str, Any]:
        fed = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in function(**fed).items()}

    try:
        first, second = ask(), ask()
    except Exception as error:
        print(f"not compared, as it does not answer made-up inputs: {error}", file=sys.stderr)
        return None
    return first if all(_same(value, second[name]) for name, value in first.items()) else None


def _same(one: Any, other: Any) -> bool:
    import numpy as np

    if one.shape != other.shape or one.dtype.kind not in "fcV":
        return bool(np.array_equal(one, other))
    wide = one.astype(np.complex128), other.astype(np.complex128)
    largest = float(np.max(np.abs(wide[0]), initial=0.0, where=np.isfinite(wide[0])))
    return bool(np.allclose(*wide, rtol=0, atol=TOLERANCE * largest, equal_nan=True))


JOBS: dict[str, Callable[[Mapping[str, str], Say], dict[str, Any]]] = {"convert": convert, "heal": heal}
"""What can be done, by the kind of the job."""

if __name__ == "__main__":
    main()
