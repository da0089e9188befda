"""Finds the engines' shared libraries in the installed packages, without importing any of these.

A library is found by the folder of its package in ``sys.path``, or named by an environment variable. The
core opens it when a version first needs it (``src/engine/choice.rs``).
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from servable import installing
from servable.engines import tensorflow_library
from servable.errors import TensorFlowNotFoundError


@dataclass(frozen=True)
class Package:
    """An installable package with an engine's library.

    engine: as in ``src/engine/choice.rs``; an extra of Servable is called so, too. title: the engine's own
    name. folder: of the package, and distributions: its names in the package index. library: a pattern in
    the folder. variable: the environment variable that names another library.
    """

    engine: str
    title: str
    folder: str
    distributions: tuple[str, ...]
    library: str
    variable: str


_IS_MAC = sys.platform == "darwin"

PACKAGES = (
    Package(
        "onnx",
        "ONNX Runtime",
        "onnxruntime",
        ("onnxruntime", "onnxruntime-gpu"),
        "capi/" + ("libonnxruntime.*dylib" if _IS_MAC else "libonnxruntime.so.*"),
        "SERVABLE_ONNX_LIBRARY",
    ),
    Package(
        "openvino",
        "OpenVINO",
        "openvino",
        ("openvino",),
        "libs/" + ("libopenvino_c.*dylib" if _IS_MAC else "libopenvino_c.so.*"),
        "SERVABLE_OPENVINO_LIBRARY",
    ),
    Package(
        "tflite",
        "LiteRT",
        "ai_edge_litert",
        ("ai-edge-litert",),
        "libLiteRt.dylib" if _IS_MAC else "libLiteRt.so",
        "SERVABLE_TFLITE_LIBRARY",
    ),
)


@dataclass(frozen=True)
class Libraries:
    """What was found. found: engine → path. missing: engine → why not, and what to do."""

    found: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def find_all(tensorflow: str, environment: Mapping[str, str], packages: list[str] | None = None) -> Libraries:
    """Looks for the library of every engine.

    tensorflow: TensorFlow's library or its folder, if stated. packages: folders that may hold the packages,
    by default ``sys.path``. Raises ``TensorFlowNotFoundError`` if a stated one of TensorFlow is not there.
    """
    libraries = Libraries()
    try:
        libraries.found["tensorflow"] = tensorflow_library.find(tensorflow, packages)
    except TensorFlowNotFoundError as error:
        if tensorflow:
            raise
        libraries.missing["tensorflow"] = "; ".join(line.strip() for line in str(error).splitlines())
    for package in PACKAGES:
        path = _find(package, environment, sys.path if packages is None else packages)
        if os.path.isfile(path):
            libraries.found[package.engine] = path
        else:
            libraries.missing[package.engine] = _not_found(
                package, path, sys.path if packages is None else packages
            )
    return libraries


def no_tensorflow(found: Libraries) -> TensorFlowNotFoundError:
    """Returns the error of a server that needs TensorFlow, where only other engines were found."""
    head, _, hint = found.missing["tensorflow"].partition("; ")
    return TensorFlowNotFoundError(f"{head}\n    {hint}")


def no_engine(found: Libraries) -> TensorFlowNotFoundError:
    """Returns the error of a server that finds no engine at all."""
    head, _, hint = found.missing["tensorflow"].partition("; ")
    others = installing.engine(*(package.engine for package in PACKAGES))
    return TensorFlowNotFoundError(
        f"{head}, and no other engine\n    {hint}; for models of other formats: {others}"
    )


def versions(found: Libraries) -> dict[str, str]:
    """Returns the version of each engine that was found, TensorFlow left out, by its own name.

    It is that of the installed package; a library that is stated, has its path.
    """
    return {
        package.title: _version(package, found.found[package.engine])
        for package in PACKAGES
        if package.engine in found.found
    }


def _version(package: Package, library: str) -> str:
    from importlib.metadata import distributions

    folder, inside, _ = library.rpartition(f"{os.sep}{package.folder}{os.sep}")
    for name in package.distributions if inside else ():
        for one in distributions(name=name, path=[folder]):
            return one.version
    return library


def _find(package: Package, environment: Mapping[str, str], folders: list[str]) -> str:
    """Returns the path of the library, whether it is there or only stated; "" if there is none."""
    stated = environment.get(package.variable, "")
    if stated:
        return os.path.abspath(os.path.expanduser(stated))
    for folder in folders:
        root = glob.escape(os.path.join(os.path.abspath(folder or "."), package.folder))
        found = sorted(glob.glob(os.path.join(root, package.library)))
        if found:
            return found[-1]
    return ""


def _not_found(package: Package, stated: str, folders: list[str]) -> str:
    places = [os.path.join(os.path.abspath(folder or "."), package.folder) for folder in folders]
    present = [place for place in places if os.path.isdir(place)]
    if stated:
        seen = f"no such file: {stated} (from ${package.variable})"
    elif present:
        seen = f"package in {' and '.join(present)}, but no {package.library} in it"
    else:
        seen = f"no package in {sys.prefix}"
    return (
        f"{package.title} not found: {seen}; {installing.engine(package.engine)}, "
        f"or name its library with ${package.variable}"
    )
