"""Lower precision than 32 bits: whether it can be had here, and the program that makes int8 models."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec

from servable.errors import StatusError

PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from servable.engines.quantize import main; main()"
)
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
"""The features of processors that compute with bfloat16, as Linux names them."""
CPU_INFO = "/proc/cpuinfo"


def processor_flags(path: str = CPU_INFO) -> frozenset[str]:
    """Returns the features of the first processor; none where the system does not tell."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(r"^flags\s*:(.*)$", file.read(), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(found[1].split()) if found else frozenset()


def _has_nncf() -> bool:
    try:
        found = find_spec("nncf")
    except (ImportError, ValueError):
        return False
    # A folder without ``__init__.py`` is what an uninstalled package leaves behind.
    return found is not None and found.origin is not None


def unavailable(
    precision: str,
    openvino_missing: str,
    flags: Callable[[], frozenset[str]] = processor_flags,
    has_nncf: Callable[[], bool] = _has_nncf,
) -> StatusError | None:
    """Returns the error of a server that cannot have the precision it was asked for; None if it can.

    openvino_missing: why OpenVINO is not installed, and what to do; "" if it is.
    """
    if precision == "f32":
        return None
    flag = f"--engine_precision={precision}"
    if openvino_missing:
        return StatusError("FAILED_PRECONDITION", f"{flag} needs OpenVINO: {openvino_missing}")
    if precision == "bf16":
        known = flags()
        if known.isdisjoint(BF16_FLAGS):
            vectors = sorted(one for one in known if one.startswith(("avx", "amx")))
            return StatusError(
                "FAILED_PRECONDITION",
                f"{flag} needs a processor with {' or '.join(BF16_FLAGS)}, and this one has "
                f"{', '.join(vectors) or 'none of the features that are known'}",
                "leave the flag out, or use --engine_precision=int8",
            )
    elif not has_nncf():
        return StatusError(
            "FAILED_PRECONDITION",
            f"{flag} needs NNCF, which is not installed in {sys.prefix}",
            'install it beside servable: pip install "servable[int8]"',
        )
    return None


def quantizer() -> tuple[str, ...]:
    """Returns the command line of the program that makes int8 models, as far as it is always the same."""
    # Isolated, and without "": no module is read from the current folder, which holds what it likes.
    path = json.dumps([one for one in sys.path if one])
    return (sys.executable, "-I", "-c", PROGRAM, path)
