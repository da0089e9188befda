"""Prints, for a shell, the variables by which the core's tests find the engines that are installed.

Some tests ask for answers of equal bits, which TensorFlow gives without oneDNN alone: on processors with
AVX512_VNNI it would use that by itself.

eval "$(python scripts/engine_libraries.py)"
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

from servable.engines import libraries, tensorflow_library

VARIABLES = {one.engine: one.variable for one in libraries.PACKAGES} | {
    "tensorflow": tensorflow_library.ENVIRONMENT
}

if __name__ == "__main__":
    found = libraries.find_all(os.environ.get(tensorflow_library.ENVIRONMENT, ""), os.environ).found
    for engine, path in sorted(found.items()):
        print(f"export {VARIABLES[engine]}={shlex.quote(path)}")
    print('export TF_ENABLE_ONEDNN_OPTS="${TF_ENABLE_ONEDNN_OPTS:-0}"')
