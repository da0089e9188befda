"""What freezing and oneDNN bring in TensorFlow itself, without OpenVINO: ``python benches/onednn.py MODEL``.

    python benches/onednn.py ../shared/mobilenet/mobilenet_v2_float [--rounds 6] [--seconds 2]

Two servers of one picture model: plain TensorFlow, and ``--engine=auto --tensorflow_onednn=on``, whose runs
have moved to the frozen graph. One caller asks them by turns over gRPC, with batches of 1 and 8 pictures.
Prints a row for each: medians of the rounds, and their ratios with the least and the largest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from process import Process
from report import table

from servable import Client

PICTURE = (224, 224, 3)
BATCHES = (1, 8)
WARM = 20
FROZEN = ("--engine=auto", "--tensorflow_onednn=on")


def started(stack: ExitStack, model: Path, folder: Path, flags: tuple[str, ...]) -> Client:
    """Starts a server; returns its client once the runs are where they will be."""
    command = [sys.executable, "-m", "servable", "serve", f"m={model}", "--port=0", "--rest_api_port=off"]
    log = folder / f"{len(flags)}.log"
    server = stack.enter_context(Process([*command, f"--model_cache_dir={folder}", *flags], log))
    port = server.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
    server.wait_for("ready: 1 of 1 models")
    if flags == FROZEN:
        server.wait_for("runs move to tensorflow frozen")
    return stack.enter_context(Client(f"grpc://localhost:{port}"))


def median_ms(client: Client, pictures: np.ndarray, seconds: float) -> float:
    """Returns the median time of calls, in ms."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        client.predict("m", pictures)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


def row(clients: list[Client], batch: int, rounds: int, seconds: float) -> list[str]:
    """Measures one size of batches by turns."""
    pictures = np.random.default_rng(1).random((batch, *PICTURE), dtype=np.float32)
    for client in clients:
        for _ in range(WARM):
            client.predict("m", pictures)
    taken = [[median_ms(client, pictures, seconds) for client in clients] for _ in range(rounds)]
    ratios = [plain / frozen for plain, frozen in taken]
    plain, frozen = (f"{statistics.median(column):.1f}" for column in zip(*taken, strict=True))
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return [str(batch), plain, frozen, spread]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a SavedModel of pictures of 224 by 224 by 3 floats")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each server, in each round")
    given = parser.parse_args()
    # OpenVINO would be chosen instead.
    os.environ["SERVABLE_OPENVINO_LIBRARY"] = "/none"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = given.model.resolve()
        clients = [started(stack, model, folder, flags) for flags in (("--engine=tensorflow",), FROZEN)]
        rows = [row(clients, batch, given.rounds, given.seconds) for batch in BATCHES]
    print(table(["batch", "plain, ms", "frozen with oneDNN, ms", "plain over frozen"], rows))


if __name__ == "__main__":
    main()
