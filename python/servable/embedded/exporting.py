"""Makes SavedModels of Python's objects: Keras models, ``tf.Module``, ``tf.function`` and concrete functions.

Whoever has such an object has imported TensorFlow; nothing here does.
"""

from __future__ import annotations

import inspect
import io
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from servable.errors import InvalidArgumentError, StatusError, invalid_argument

VERSION = 1
_KERAS = ("keras", "tf_keras")
_SIGNATURE = (
    "decorate a method with @tf.function(input_signature=[tf.TensorSpec(shape, dtype)]), or give "
    "function.get_concrete_function(...)"
)
DEFAULT_SIGNATURE = "serving_default"


class ExportFolder:
    """A temporary folder for what is exported; made when it is needed."""

    def __init__(self) -> None:
        self._path = ""

    def model(self, number: int) -> str:
        """Returns the base path for a model."""
        if not self._path:
            self._path = tempfile.mkdtemp(prefix="servable-")
        return os.path.join(self._path, str(number))

    def remove(self) -> None:
        """Removes it with all that is in it."""
        path, self._path = self._path, ""
        if path:
            shutil.rmtree(path, ignore_errors=True)


def export(what: object, base_path: str) -> None:
    """Writes ``what`` as a version of the model at ``base_path``. Raises ``StatusError``."""
    folder = os.path.join(base_path, str(VERSION))
    tensorflow: Any = sys.modules.get("tensorflow")
    with _quietly(tensorflow):
        try:
            if _is_keras(what):
                _export_keras(what, folder)
            elif tensorflow is not None:
                _save(tensorflow, what, folder)
            else:
                raise _unknown(what)
        except StatusError:
            raise
        except Exception as error:
            head = str(error).partition("\n")[0]
            raise invalid_argument(
                f"{_described(what)} cannot be saved as a SavedModel: {type(error).__name__}: {head}"
            ) from error


def _is_keras(what: object) -> bool:
    return any(
        base.__name__ == "Model" and base.__module__.partition(".")[0] in _KERAS
        for base in type(what).__mro__
    )


def _export_keras(model: Any, folder: str) -> None:
    if not hasattr(model, "export"):
        raise invalid_argument(
            f"{_described(model)} has no method export", "it is there in Keras 2.13 and later"
        )
    model.export(folder)


def _save(tensorflow: Any, what: Any, folder: str) -> None:
    if hasattr(what, "get_concrete_function") and not isinstance(what, tensorflow.Module):
        if what.input_signature is None:
            raise invalid_argument(f"{_described(what)} has no input signature", _SIGNATURE)
        what = what.get_concrete_function()
    if isinstance(what, tensorflow.Module):
        signatures = _signatures(what)
        if not signatures:
            raise invalid_argument(f"{_described(what)} has no method with an input signature", _SIGNATURE)
        tensorflow.saved_model.save(what, folder, signatures=signatures)
    elif isinstance(what, tensorflow.types.experimental.ConcreteFunction):
        # Variables are saved as parts of an object.
        holder = tensorflow.Module()
        holder.variables_of_the_function = list(what.graph.variables)
        tensorflow.saved_model.save(holder, folder, signatures={DEFAULT_SIGNATURE: what})
    else:
        raise _unknown(what)


def _signatures(module: Any) -> dict[str, Any]:
    """Returns the functions of a module that have an input signature, by name.

    The default one is ``__call__``, or else ``serve``, ``predict``, or the only one.
    """
    found = {}
    for name in sorted({*dir(type(module)), *vars(module)}):
        if name.startswith("_") and name != "__call__":
            continue
        # Without running what a property would.
        if not hasattr(inspect.getattr_static(module, name, None), "get_concrete_function"):
            continue
        function = getattr(module, name)
        if function.input_signature is not None:
            found[name] = function
    names = [name for name in ("__call__", "serve", "predict") if name in found]
    named = {name: one for name, one in found.items() if name != "__call__"}
    if not names and len(found) == 1:
        names = list(found)
    return {**named, DEFAULT_SIGNATURE: found[names[0]]} if names else named


def _described(what: object) -> str:
    kind = type(what)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"an object of type {name}"


def _unknown(what: object) -> InvalidArgumentError:
    return invalid_argument(
        f"{_described(what)} cannot be served: expected a path, a Keras model, a tf.Module, a tf.function or "
        "a concrete function, or a mapping from names to these"
    )


_QUIET = threading.Lock()
"""Held while the process prints nothing: two who take its output away at once may not bring it back."""


@contextmanager
def _quietly(tensorflow: Any) -> Iterator[None]:
    """Prints nothing, and logs no more than errors; in one thread at a time."""
    with _QUIET, _silence(tensorflow):
        yield


@contextmanager
def _silence(tensorflow: Any) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (("tensorflow", "absl") if tensorflow else ())]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
