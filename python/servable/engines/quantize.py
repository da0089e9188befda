"""Makes int8 models of frozen graphs with NNCF: the only module that imports it, in a process of its own.

The core starts it (``src/engine/acceleration/quantized.rs``) with a folder and the names of the graph's
inputs as its last arguments. In the folder are ``graph.pb`` and ``calibration/REQUEST-INPUT.npy``; it leaves
``model.xml`` and ``model.bin`` there. It ends when its standard input is closed, which is when the server
ends. If it fails, the last line of its standard error says why.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PRIORITY = 19
"""How much this process gives way to others: a server is answering beside it."""


def main() -> None:
    """Does the job of the last arguments, and ends the process."""
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    with suppress(OSError):
        os.nice(PRIORITY)
    # NNCF reports its use to its makers unless this is set.
    os.environ["NNCF_CI"] = "1"
    status = 0
    try:
        quantize(Path(sys.argv[2]), sys.argv[3:])
    except BaseException as error:
        traceback.print_exc()
        said = str(error).strip().splitlines()
        print(f"{type(error).__name__}{f': {said[0]}' if said else ''}", file=sys.stderr)
        status = 1
    sys.stderr.flush()
    # The threads and destructors of the libraries have nothing left to do.
    os._exit(status)


def _end_with_the_server() -> None:
    while os.read(0, 4096):
        continue
    os._exit(1)


def quantize(folder: Path, names: Sequence[str]) -> None:
    """Calibrates ``folder/graph.pb`` by the values of its inputs ``names``, and writes ``folder/model.xml``.

    Weights become symmetric and activations asymmetric where they are: the more accurate of NNCF's presets.
    """
    import nncf
    import openvino

    model = openvino.Core().read_model(folder / "graph.pb")
    requests = calibration(folder / "calibration", names)
    options: dict[str, Any] = {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(requests)}
    if any(node.get_type_name() == "Softmax" for node in model.get_ops()[:-OUTERMOST]):
        # Attention: what it multiplies is sensitive.
        options["model_type"] = nncf.ModelType.TRANSFORMER
    made = nncf.quantize(model, nncf.Dataset(requests), **options)
    openvino.save_model(made, folder / "model.xml", compress_to_fp16=False)


OUTERMOST = 8
"""A softmax among so many last operations makes the outputs."""


def calibration(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the values of each request, by the names of the inputs."""
    import numpy

    count = len({path.name.partition("-")[0] for path in folder.glob("*.npy")})
    return [
        {
            name: numpy.load(folder / f"{request}-{at}.npy", allow_pickle=False)
            for at, name in enumerate(names)
        }
        for request in range(count)
    ]
