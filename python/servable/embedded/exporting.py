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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from servable.errors import InvalidArgumentError, StatusError, invalid_argument

VERSION = 1
_KERAS = ("keras", "tf_keras")
_SIGNATURE = (
    "decorate a method with @tf.function(input_signature=[tf.TensorSpec(shape, dtype)]), or give "
    "function.get_concrete_function(...)"
)
DEFAULT_SIGNATURE = "serving_default"
_one_at_a_time = threading.RLock()


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


class _Muted:
    """Standard output, without what the thread that has made this prints; that of others goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._thread else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _errors_alone() -> Callable[[logging.LogRecord], bool]:
    """Returns a filter that takes no more than errors of this thread, and everything of others."""
    thread = threading.get_ident()
    return lambda record: record.levelno >= logging.ERROR or record.thread != thread


@contextmanager
def _quietly(tensorflow: Any) -> Iterator[None]:
    """Prints nothing, and logs no more than errors; one at a time, as standard output is the whole process's.

    What other threads print and log meanwhile is theirs.
    """
    loggers = [logging.getLogger(name) for name in (("tensorflow", "absl") if tensorflow else ())]
    keep = _errors_alone()
    with _one_at_a_time:
        muted: Any = _Muted(io.StringIO() if sys.stdout is None else sys.stdout)
        for one in loggers:
            one.addFilter(keep)
        try:
            with redirect_stdout(muted):
                yield
        finally:
            for one in loggers:
                one.removeFilter(keep)
