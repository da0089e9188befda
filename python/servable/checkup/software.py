"""Python, the core, the engines: their versions, and whether they load, which a process of its own tries."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping

from servable import installing
from servable.checkup.check import NOTE, OK, PROBLEM, WARNING, Check
from servable.engines import export_process, libraries
from servable.engines.libraries import Libraries
from servable.errors import ServableError

OLDEST = (3, 10)
LOAD_SECONDS = 60.0
_PROBE = """\
import ctypes, json, sys
path, name = sys.argv[1:]
library = ctypes.CDLL(path)
version = ""
if name == "tensorflow":
    library.TF_Version.restype = ctypes.c_char_p
    version = library.TF_Version().decode()
print(json.dumps({"version": version}), flush=True)
import os
os._exit(0)
"""
_CORE_PROBE = "import sys; sys.path[:] = {path!r}; import servable._core"
_TITLES = {"tensorflow": "TensorFlow", **{one.engine: one.title for one in libraries.PACKAGES}}
_NEEDED_FOR = {
    "tensorflow": "SavedModels, .keras and .h5",
    "onnx": ".onnx",
    "openvino": "OpenVINO's .xml, and faster SavedModels",
    "tflite": ".tflite",
}


def python(version: tuple[int, ...], bits: int) -> Check:
    """Looks at the interpreter."""
    shown = f"{'.'.join(map(str, version[:3]))}, {bits} bit, {sys.executable or 'unknown'}"
    if version < OLDEST or bits != 64:
        wanted = ".".join(map(str, OLDEST))
        return Check("python", PROBLEM, shown, f"Servable needs Python {wanted} or newer, of 64 bit")
    return Check("python", OK, shown)


def core() -> Check:
    """Imports the compiled core, in a process of its own."""
    import servable

    program = _CORE_PROBE.format(path=[one for one in sys.path if one])
    found = _tried([sys.executable, "-I", "-c", program])
    if isinstance(found, str):
        return Check("servable", OK, f"{servable.__version__}, and its core loads")
    return Check(
        "servable", PROBLEM, f"the core does not load: {found[0]}", "install it again: pip install servable"
    )


def _tried(command: list[str]) -> str | tuple[str]:
    """Returns the output of a command, or in a tuple why there is none."""
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=LOAD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return (f"it takes more than {LOAD_SECONDS:g} s",)
    except OSError as error:
        return (error.strerror or str(error),)
    if run.returncode == 0:
        return run.stdout
    if run.returncode == -signal.SIGILL:
        return ("it uses instructions that this processor does not have",)
    if run.returncode < 0:
        return (f"the process was ended by signal {-run.returncode}",)
    lines = run.stderr.strip().splitlines()
    return (lines[-1].strip()[:300] if lines else f"status {run.returncode}",)


def engines(found: Libraries) -> list[Check]:
    """Opens the library of each engine that was found. A server needs one; models need theirs."""
    versions = libraries.versions(found)
    checks = [_engine(name, path, versions.get(_TITLES[name], "")) for name, path in found.found.items()]
    if not found.found:
        advice = str(libraries.no_engine(found)).partition("\n")[2].strip()
        return [Check("engines", PROBLEM, "none is installed, and nothing can be served", advice)]
    for name in found.missing:
        checks.append(
            Check(
                _TITLES[name],
                NOTE,
                f"not installed; it serves {_NEEDED_FOR[name]}",
                installing.engine(name),
            )
        )
    return checks


def _engine(name: str, path: str, version: str) -> Check:
    tried = _tried([sys.executable, "-I", "-c", _PROBE, path, name])
    if isinstance(tried, tuple):
        advice = "install it again for this machine; ldd shows libraries that are missing"
        return Check(_TITLES[name], PROBLEM, f"{path} does not load: {tried[0]}", advice)
    try:
        known = str(json.loads(tried.strip().splitlines()[-1])["version"])
    except (ValueError, KeyError, IndexError):
        known = ""
    return Check(_TITLES[name], OK, f"{known or version}, {path} loads")


def keras() -> Check:
    """Looks for what converts Keras files."""
    missing = export_process.missing(("keras", "tensorflow"))
    if missing is None:
        return Check("Keras", OK, f"{export_process.versions()['keras']} converts .keras and .h5 files")
    return Check("Keras", NOTE, f".keras and .h5 files cannot be converted: {missing.message}", missing.hint)


def locale(filesystem: str, environment: Mapping[str, str]) -> Check:
    """Looks at the encoding of names. filesystem: that of paths."""
    shown = next(
        (environment[one] for one in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(one)), "none set"
    )
    if filesystem.lower().replace("-", "") != "utf8":
        return Check(
            "locale",
            WARNING,
            f"{shown}: names of files are read as {filesystem}, and models are named in UTF-8",
            "set LANG=C.UTF-8",
        )
    return Check("locale", OK, f"{shown}, names are UTF-8")


def all_of_software(environment: Mapping[str, str]) -> list[Check]:
    """Returns every check of this file."""
    stated = environment.get("SERVABLE_TENSORFLOW_LIBRARY", "")
    try:
        found = engines(libraries.find_all(stated, environment))
    except ServableError as error:
        found = [Check("TensorFlow", PROBLEM, str(error).splitlines()[0], "name a library that is there")]
    bits = 64 if sys.maxsize > 2**32 else 32
    return [
        python(tuple(sys.version_info[:3]), bits),
        core(),
        *found,
        keras(),
        locale(sys.getfilesystemencoding(), environment),
    ]


def system() -> str:
    """Returns the name of the operating system, for reports."""
    return (
        f"{platform.system()} {platform.release()} {platform.machine()}, {platform.python_implementation()}"
    )
