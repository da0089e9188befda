"""Reads what a Keras file says of itself, without Keras: its version, the kind of model, what it needs.

A ``.keras`` file is a zip with ``metadata.json``, ``config.json`` and the weights. An HDF5 file keeps the
same texts as attributes, which take a library for HDF5.
"""

from __future__ import annotations

import builtins
import json
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from servable.regular_files import open_file
from servable.sizes import size_text

HDF5_HEAD = b"\x89HDF\r\n\x1a\n"
LARGEST_CONFIG = 1 << 28
"""Largest configuration that is read, in bytes."""
LARGEST_RATIO = 100
"""Largest ratio of the unpacked size to the file's. Keras does not compress, and weights hardly shrink."""
ALWAYS_UNPACKED = 1 << 30
"""Bytes that are unpacked at any ratio."""
_KERAS = ("keras", "tf_keras", "tensorflow", "builtins")
_FUNCTIONS = ("keras", "tf_keras", "builtins")
"""Packages whose functions a file may name; ``builtins`` stands for Keras' own."""


@dataclass(frozen=True)
class KerasFile:
    """A Keras file.

    kind: the model's class. layers: their number, as far as it says so. lambdas: names of the layers that
    run code of the file, or any function that it names. custom: classes and functions that Keras does not
    have.
    """

    keras_version: str = ""
    saved: str = ""
    kind: str = ""
    name: str = ""
    layers: int = 0
    lambdas: tuple[str, ...] = ()
    custom: tuple[str, ...] = ()


def is_hdf5(path: str) -> bool:
    """True if the file begins as HDF5 does. Raises ``OSError``."""
    with open_file(path) as file:
        return file.read(len(HDF5_HEAD)) == HDF5_HEAD


def read(path: str) -> KerasFile:
    """Reads a ``.keras`` file. Raises ``ValueError`` if it is none, and ``OSError``."""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            if "config.json" not in names:
                raise ValueError("it is a zip file without config.json")
            _check_sizes(archive.infolist(), os.fstat(file.fileno()).st_size)
            damaged = archive.testzip()
            if damaged:
                raise ValueError(f"its part {damaged} is damaged")
            config = _json(archive, "config.json")
            metadata = _json(archive, "metadata.json") if "metadata.json" in names else {}
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # each way of compression has errors of its own
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"it is not a whole zip file ({error})") from None
    if not isinstance(metadata, dict):
        raise ValueError("its metadata.json is not an object")
    return of_config(config, str(metadata.get("keras_version", "")), str(metadata.get("date_saved", "")))


def _check_sizes(parts: list[zipfile.ZipInfo], size: int) -> None:
    """Raises ``ValueError`` for a zip bomb, before anything is unpacked.

    zipfile unpacks no more of a part than the size that the part declares.
    """
    if sum(one.compress_size for one in parts) > size:
        raise ValueError("its parts overlap")
    unpacked = sum(one.file_size for one in parts)
    if unpacked > max(ALWAYS_UNPACKED, LARGEST_RATIO * size):
        raise ValueError(
            f"it would be unpacked to {size_text(unpacked)}, {unpacked // max(size, 1)} times its size; "
            f"at most {LARGEST_RATIO} times are read"
        )


def _json(archive: zipfile.ZipFile, name: str) -> Any:
    if archive.getinfo(name).file_size > LARGEST_CONFIG:
        raise ValueError(f"its {name} has more than {LARGEST_CONFIG} bytes")
    try:
        return json.loads(archive.read(name))
    except RecursionError:
        raise ValueError(f"its {name} is nested too deeply") from None


def of_config(config: Any, keras_version: str, saved: str = "") -> KerasFile:
    """Returns what a model's configuration says. Raises ``ValueError`` if it is none."""
    if not isinstance(config, dict):
        raise ValueError("its configuration is not an object")
    inner = config.get("config")
    inner = inner if isinstance(inner, dict) else {}
    layers = inner.get("layers")
    parts = list(_parts(config))
    return KerasFile(
        keras_version,
        saved,
        str(config.get("class_name", "")),
        str(inner.get("name", "")),
        len(layers) if isinstance(layers, list) else 0,
        tuple(dict.fromkeys(_name(one) for one in parts if _has_code(one))),
        tuple(dict.fromkeys(_custom_name(one) for one in parts if _is_custom(one))),
    )


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields every object of the configuration, without recursion: a file may nest it as it likes.

    Leaves out how the model was trained, which is not loaded.
    """
    ahead: list[Any] = [{key: value for key, value in config.items() if key != "compile_config"}]
    while ahead:
        one = ahead.pop()
        if isinstance(one, dict):
            yield one
            ahead.extend(one.values())
        elif isinstance(one, list):
            ahead.extend(one)


def _has_code(part: dict[str, Any]) -> bool:
    """True for every Lambda layer, and for a Python lambda, whose bytecode is in the file and would be run.

    A Lambda layer calls what it names with arguments from the file, so those of functions are no safer.
    """
    if "__lambda__" in (part.get("class_name"), part.get("registered_name")):
        return True
    names = (part.get("class_name"), part.get("registered_name"))
    if any(isinstance(one, str) and re.split("[>.]", one)[-1] == "Lambda" for one in names):
        return True
    return any(value == "lambda" and key.endswith("_type") for key, value in part.items())


def _name(part: dict[str, Any]) -> str:
    config = part.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    return str(inner or part.get("name") or "lambda")


def _is_custom(part: dict[str, Any]) -> bool:
    """True for a class or function that was registered by a program, or is in one of its modules."""
    if "class_name" not in part:
        return False
    module, config = part.get("module"), part.get("config")
    if isinstance(module, str):
        package = module.partition(".")[0]
        if part["class_name"] != "function" and not isinstance(config, str):
            return package not in _KERAS
        # What is named like one of Python's own functions would be that: eval, exec.
        return package not in _FUNCTIONS or (package == "builtins" and hasattr(builtins, str(config)))
    return isinstance(config, dict) and bool(part.get("registered_name"))


def _custom_name(part: dict[str, Any]) -> str:
    config = part.get("config")
    return config if isinstance(config, str) else str(part["class_name"])
