"""Asks every engine that is installed what the photo shows, and shows how long each takes.

- TensorFlow runs the model in a server of its own, with `--engine=tensorflow`.
- The demo's server moves it to OpenVINO by itself, as a whole or in part, once the answers are proven equal
  (`--engine=auto`, the default of `servable serve` where OpenVINO is installed).
- LiteRT runs the int8 file of the same network as it is, in a third server. It takes pixels, not a JPEG file.

Requests go to the engines by turns, so that all of them meet the same machine. A time is that of a whole
request, from sending it to having read its answer.
"""

import http.client
import importlib.util
import json
import os
import statistics
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from demo_models import EXAMPLES, PHOTO_SHOWS, DemoError, folder_of, make_pixels
from demo_server import Server

REQUESTS = 20
FIRST_REQUESTS = 3  # to each engine, not counted
MOVE_SECONDS = 30.0  # longest wait for the demo's server to move the model
TIMEOUT_SECONDS = 60
ANY_PORTS = ("--rest_api_port=0", "--port=0")
INT8_FILE = EXAMPLES / "mobilenet_v2" / "weights" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
LABELS = EXAMPLES / "mobilenet_v2" / "labels.txt"


@dataclass
class Asked:
    """An engine, how it is asked, and how long each answer took."""

    engine: str
    port: int
    model: str
    body: bytes
    label: Callable[[Any], str]  # of an answer
    note: str = ""
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("localhost", self.port, timeout=TIMEOUT_SECONDS)

    def ask(self) -> None:
        """Sends the photo once and notes the time; raises DemoError if the answer is wrong."""
        started = time.perf_counter()
        self.connection.request("POST", f"/v1/models/{self.model}:predict", self.body)
        reply = self.connection.getresponse()
        text = reply.read()
        self.seconds.append(time.perf_counter() - started)
        if reply.status != 200:
            raise DemoError(f"{self.engine} answered with status {reply.status}: {text.decode()}")
        label = self.label(json.loads(text))
        if label != PHOTO_SHOWS:
            raise DemoError(f"{self.engine} saw {label!r} in the photo of a {PHOTO_SHOWS}")


def compare_engines(server: Server, photo: bytes) -> None:
    """Shows the times of all engines; `server` is the demo's, `photo` the request with the photo."""
    print("\nThe same photo, asked of every engine:", flush=True)
    with ExitStack() as servers:
        picture_model = os.path.relpath(folder_of("mobilenet_v2"))
        beside = Server(["serve", picture_model, "--engine=tensorflow", *ANY_PORTS], quiet=True)
        asked = [photo_asked("TensorFlow", servers.enter_context(beside), photo)]
        if is_installed("OpenVINO", "openvino", "openvino"):
            moved = photo_asked("OpenVINO", server, photo)
            if wait_for_move(server, moved):
                asked.append(moved)
        if is_installed("LiteRT", "ai_edge_litert", "tflite"):
            asked += serve_int8(servers)
        ask_by_turns(asked)
    for one in asked:
        print(f"  {one.engine:22}  {1000 * statistics.median(one.seconds):6.1f} ms  {PHOTO_SHOWS}{one.note}")
    print(f"(the median of {REQUESTS} requests to each, by turns)", flush=True)


def photo_asked(engine: str, server: Server, photo: bytes) -> Asked:
    """Asks the photo model of a server."""
    return Asked(engine, server.rest_port(), "mobilenet_v2", photo, lambda answer: str(answer["outputs"][0]))


def serve_int8(servers: ExitStack) -> list[Asked]:
    """Serves the int8 file in a server of its own; shows why if it does not start."""
    server = Server(["serve", f"int8={os.path.relpath(INT8_FILE)}", *ANY_PORTS], quiet=True)
    try:
        port = server.rest_port()
    except DemoError:
        server.stop()
        print(
            f"  {'LiteRT':22}  its server did not start: {''.join(list(server.lines)[:1]).strip()}",
            flush=True,
        )
        return []
    servers.enter_context(server)
    body, note = make_pixels().read_bytes(), "  (int8, asked with pixels in JSON)"
    return [Asked("LiteRT", port, "int8", body, label_of_scores, note)]


def label_of_scores(answer: Any) -> str:
    """Returns the label with the highest score, of "background" and the lines of labels.txt."""
    labels = ["background", *LABELS.read_text(encoding="utf-8").splitlines()]
    (scores,) = answer["predictions"]
    return labels[scores.index(max(scores))]


def is_installed(engine: str, package: str, extra: str) -> bool:
    """Returns whether the package is installed, and says so if not."""
    if importlib.util.find_spec(package) is not None:
        return True
    print(f'  {engine:22}  not installed: pip install "servable[{extra}]"', flush=True)
    return False


def wait_for_move(server: Server, photo: Asked) -> bool:
    """Returns whether the demo's server has moved the photo model to a faster engine; asks it meanwhile."""
    until = time.monotonic() + MOVE_SECONDS
    while (state := state_of(server)).get("progress") in (
        "waiting",
        "preparing",
    ) and time.monotonic() < until:
        photo.ask()
        time.sleep(0.1)
    if state.get("progress") == "moved":
        photo.engine = state["engine"].replace("tensorflow", "TensorFlow").replace("openvino", "OpenVINO")
        return True
    why = state.get("reason") or f"{state.get('progress', 'no choice of engines')} in {MOVE_SECONDS:.0f} s"
    print(f"  {'OpenVINO':22}  not in use, TensorFlow runs the model: {why}", flush=True)
    return False


def state_of(server: Server) -> dict[str, Any]:
    """Returns what the administration says about the engine of the photo model; empty if nothing."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{server.administration}/mobilenet_v2", timeout=TIMEOUT_SECONDS) as reply:
        (version,) = json.load(reply)["versions"]
    return dict(version.get("engines", {}).get("serving_default", {}))


def ask_by_turns(asked: Sequence[Asked]) -> None:
    """Asks all engines in turn; only the times after the first requests are kept."""
    for number in range(FIRST_REQUESTS + REQUESTS):
        for one in asked:
            if number == FIRST_REQUESTS:
                one.seconds.clear()
            one.ask()
