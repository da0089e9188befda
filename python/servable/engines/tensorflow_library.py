"""Finds and opens TensorFlow's shared library without importing TensorFlow.

(Importing it takes seconds and hundreds of megabytes.)

In the wheels (``tensorflow``, ``tensorflow-cpu``, ``tensorflow-intel``, ``tf-nightly``, …) it is in the
package's folder beside ``libtensorflow_framework``; a stand-alone libtensorflow has
``lib/libtensorflow.so.2``.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable

from servable import installing
from servable.errors import StatusError, TensorFlowNotFoundError

ENVIRONMENT = "SERVABLE_TENSORFLOW_LIBRARY"

NAMES = (
    ("libtensorflow_cc.2.dylib", "libtensorflow.2.dylib", "libtensorflow_cc.dylib", "libtensorflow.dylib")
    if sys.platform == "darwin"
    else ("libtensorflow_cc.so.2", "libtensorflow.so.2", "libtensorflow_cc.so", "libtensorflow.so")
)
"""Names of the library with TensorFlow's C API, in order of preference."""


def find(stated: str = "", packages: list[str] | None = None) -> str:
    """Returns the path of the library to open.

    stated: a library or a folder that holds one (directly, or in lib/ or tensorflow/), from the flag or the
    environment; "": search the installed packages. packages: folders that may hold a ``tensorflow`` package,
    by default ``sys.path``. Raises ``TensorFlowNotFoundError`` with everything that was searched.
    """
    if stated:
        return _stated(os.path.abspath(os.path.expanduser(stated)))
    looked: list[str] = []
    for folder in packages if packages is not None else sys.path:
        package = os.path.join(folder or ".", "tensorflow")
        if not os.path.isdir(package):
            continue
        looked.append(package)
        for name in NAMES:
            if os.path.isfile(os.path.join(package, name)):
                return os.path.join(os.path.abspath(package), name)
    raise TensorFlowNotFoundError(_not_installed(looked))


def _stated(path: str) -> str:
    if os.path.isfile(path):
        return path
    folders = (path, os.path.join(path, "lib"), os.path.join(path, "tensorflow"))
    for folder in folders:
        for name in NAMES:
            if os.path.isfile(os.path.join(folder, name)):
                return os.path.join(folder, name)
    what = (
        f"none of {', '.join(NAMES)} in {' or '.join(folders)}"
        if os.path.isdir(path)
        else f"no such file: {path}"
    )
    raise TensorFlowNotFoundError(
        f"TensorFlow not found: {what} (from --tensorflow_library or ${ENVIRONMENT})"
    )


def _not_installed(looked: list[str]) -> str:
    if looked:
        seen = f"{' and '.join(looked)} has none of {', '.join(NAMES)}"
    else:
        seen = f"no tensorflow package in {sys.prefix}"
    return (
        f"TensorFlow not found: {seen}\n    {installing.engine('tensorflow')}, or name a stand-alone "
        f"libtensorflow with --tensorflow_library=PATH or ${ENVIRONMENT}"
    )


def set_onednn(choice: str) -> None:
    """Turns oneDNN's kernels ``on`` or ``off``, before TensorFlow opens.

    ``auto``: off, unless the environment says otherwise. TensorFlow by itself uses them on processors with
    AVX512_VNNI. With some shapes of inputs they end the process, or answer with memory that nobody wrote
    (TensorFlow 2.21; docs/acceleration.md).
    """
    if choice == "auto":
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    else:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1" if choice == "on" else "0"


def version(stated: str = "") -> str:
    """Returns the version of the library for ``find(stated)``; opens it, which takes about half a second."""
    path = find(stated or os.environ.get(ENVIRONMENT, ""))
    from servable import _core

    quiet()
    set_onednn("auto")
    return _core.preload(path, [])


def quiet() -> None:
    """Leaves out the dozen lines that TensorFlow logs at INFO as it opens; its warnings and errors stay."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")


LOOK_SECONDS = 1.0
"""Longest time that it is waited for what is to be served; without an answer, TensorFlow is opened."""


def look_in_time(look: Callable[[], bool], otherwise: bool) -> bool:
    """Looks on a separate thread, which a file system that does not answer may block; ``otherwise``, then."""
    found: list[bool] = []
    looking = threading.Thread(target=lambda: found.append(look()), name="look", daemon=True)
    looking.start()
    looking.join(LOOK_SECONDS)
    return found[0] if found else otherwise


class Opening:
    """Opens the library on a thread: the longest part of a start, so it begins first.

    path: of the library; "" if there is none. is_needed: looks whether it may be; otherwise the core opens it
    once a version needs it.
    """

    def __init__(
        self,
        path: str,
        op_libraries: tuple[str, ...],
        log_level: str = "info",
        is_needed: Callable[[], bool] = lambda: True,
        log_format: str = "text",
    ) -> None:
        # In the constructing thread, which lives on: the core's allocator is tied to the loading thread.
        from servable import _core

        if log_level != "debug":
            quiet()
        self._core = _core
        self._path = path
        self._op_libraries = op_libraries
        self._logging = {"warning": "warn"}.get(log_level, log_level), log_format
        self._is_needed = is_needed
        self._error: StatusError | None = None
        self._thread = threading.Thread(target=self._open, name="open-tensorflow", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Blocks until TensorFlow and every op library are open; raises ``StatusError`` if one fails."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _open(self) -> None:
        self._core.init_logging(*self._logging)
        if not self._path or not look_in_time(self._is_needed, otherwise=True):
            return
        try:
            version = self._core.preload(self._path, list(self._op_libraries))
        except self._core.CoreError as error:
            self._error = StatusError(error.code, error.message, f"the library is {self._path}")
        else:
            logging.getLogger("servable.tensorflow").debug("TensorFlow %s from %s", version, self._path)
