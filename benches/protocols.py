"""One picture, asked for in every form that a server takes: what each costs, by turns.

    python benches/protocols.py [--rounds 15] [--calls 8]

Of two models that run MobileNetV2, one takes the JPEG and one 150,528 floats; a third takes the floats and
computes next to nothing. Each form asks one of them from one client, a few calls at a time. A row a form: the
bytes that are sent, the median time of a call, and the server's CPU time for it; for floats also the CPU time
where there is next to no model, which is what the form costs. A whole run writes docs/protocols.md, between
its two markers. The server runs with ``--engine=tensorflow``. Needs Linux (``/dev/shm``) and TensorFlow.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from grpc_points import block, predict_request, varint
from models import Model, prepare
from points import PHOTO, Feed
from process import Process, cpu_seconds
from real_points import PICTURE, requests
from report import replace_between_markers, table

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "bench"
DOCUMENT = ROOT / "docs" / "protocols.md"
SHARED = Path(f"/dev/shm/servable_protocols_{os.getpid()}")
PREDICT = "/tensorflow.serving.PredictionService/Predict"
INFER = "/inference.GRPCInferenceService/ModelInfer"
JPEG, FLOATS, STUB = "mobilenet_v2", "mobilenet_v2_float", "floats_stub"
WHOLE = (15, 8)


@dataclass
class Form:
    """A way to ask. sent: the bytes of a request. ask: sends it to the model named."""

    title: str
    models: tuple[str, ...]
    sent: int
    ask: Callable[[str], None]
    wall_ms: dict[str, list[float]] = field(default_factory=dict)
    cpu_ms: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, pid: int, calls: int) -> None:
        """Asks each model a few times."""
        for model in self.models:
            self.ask(model)
            cpu = cpu_seconds(pid)
            for _ in range(calls):
                began = time.perf_counter()
                self.ask(model)
                self.wall_ms.setdefault(model, []).append((time.perf_counter() - began) * 1e3)
            self.cpu_ms.setdefault(model, []).append((cpu_seconds(pid) - cpu) * 1e3 / calls)

    def cells(self) -> list[str]:
        """Returns the row of the table."""
        main = self.models[0]
        stub = self.cpu_ms.get(STUB)
        return [
            self.title,
            f"{self.sent:,}",
            f"{statistics.median(self.wall_ms[main]):.2f}",
            f"{statistics.median(self.cpu_ms[main]):.2f}",
            f"{statistics.median(stub):.2f}" if stub else "",
        ]


HEADS = ["form", "bytes sent", "a call, ms", "CPU, ms", "CPU with next to no model, ms"]


class Rest:
    """One connection to the REST port."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Returns the body of the reply; ends the program if it is an error."""
        self._connection.request("POST", path, body, dict(headers))
        reply = self._connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            sys.exit(f"{path}: {reply.status} {text[:300]!r}")
        return text


def rest_form(rest: Rest, title: str, models: tuple[str, ...], path: str, parts: tuple[bytes, str]) -> Form:
    """Makes a form over REST; ``parts``: the body, and the headers as ``NAME: VALUE`` with | between."""
    body, text = parts
    headers = dict(line.split(": ", 1) for line in text.split("|") if line)
    return Form(title, models, len(body), lambda model: _done(rest.post(path.format(model), body, headers)))


def grpc_form(
    channel: grpc.Channel, title: str, models: tuple[str, ...], method: str, messages: dict[str, bytes]
) -> Form:
    """Makes a form over gRPC, with the message for each model."""
    call = channel.unary_unary(method)
    return Form(title, models, len(messages[models[0]]), lambda model: _done(call(messages[model])))


def _done(answer: object) -> None:
    assert answer


def infer_message(model: str, name: str, datatype: str, shape: Sequence[int], data: bytes) -> bytes:
    """Returns a ``ModelInferRequest`` with raw contents."""
    sizes = b"".join(map(varint, shape))
    described = block(1, name.encode()) + block(2, datatype.encode()) + block(3, sizes)
    return block(1, model.encode()) + block(5, described) + block(7, data)


def infer_body(name: str, datatype: str, shape: Sequence[int], data: bytes) -> tuple[bytes, str]:
    """Returns an infer request over REST with a binary tensor, and its headers."""
    binary = {"binary_data_size": len(data)}
    tensor = {"name": name, "datatype": datatype, "shape": list(shape), "parameters": binary}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + data, f"Inference-Header-Content-Length: {len(head)}"


def shared_body(rest: Rest, data: bytes) -> tuple[bytes, str]:
    """Registers ``data`` in shared memory; returns an infer request that names it."""
    SHARED.write_bytes(data)
    region = {"key": f"/{SHARED.name}", "offset": 0, "byte_size": len(data)}
    rest.post("/v2/systemsharedmemory/region/picture/register", json.dumps(region).encode(), {})
    place = {"shared_memory_region": "picture", "shared_memory_byte_size": len(data)}
    tensor = {"name": "images", "datatype": "FP32", "shape": list(PICTURE), "parameters": place}
    wanted = {"binary_data_output": True}
    return json.dumps({"inputs": [tensor], "parameters": wanted}).encode(), "Content-Type: application/json"


def forms(rest: Rest, channel: grpc.Channel) -> list[Form]:
    """Returns every form, in the order of the table."""
    asked = {request.model: request for request in requests()}
    photo, of_photo, of_floats = PHOTO.read_bytes(), (JPEG,), (FLOATS, STUB)
    data = asked[FLOATS].feeds["images"].data
    array = np.frombuffer(data, np.float32).reshape(PICTURE)
    file = io.BytesIO()
    np.save(file, array)
    prefixed = len(photo).to_bytes(4, "little") + photo
    feeds = {"images": Feed("float", PICTURE, data)}
    predict, infer = "/v1/models/{}:predict", "/v2/models/{}/infer"
    raw = f"X-Tensor-Shape: {','.join(map(str, PICTURE))}|X-Tensor-Dtype: float32"
    photo_predict = {JPEG: predict_request(JPEG, asked[JPEG].feeds)}
    photo_infer = {JPEG: infer_message(JPEG, "image_bytes", "BYTES", (1,), prefixed)}
    float_predict = {model: predict_request(model, feeds) for model in of_floats}
    float_infer = {model: infer_message(model, "images", "FP32", PICTURE, data) for model in of_floats}
    return [
        rest_form(rest, "JPEG in JSON, base64", of_photo, predict, (asked[JPEG].body, "")),
        rest_form(rest, "JPEG as the body", of_photo, predict, (photo, "Content-Type: image/jpeg")),
        rest_form(
            rest, "JPEG, `/v2`, binary", of_photo, infer, infer_body("image_bytes", "BYTES", (1,), prefixed)
        ),
        grpc_form(channel, "JPEG, gRPC `Predict`", of_photo, PREDICT, photo_predict),
        grpc_form(channel, "JPEG, gRPC `ModelInfer`", of_photo, INFER, photo_infer),
        rest_form(rest, "floats in JSON", of_floats, predict, (asked[FLOATS].body, "")),
        rest_form(
            rest, "floats as `.npy`", of_floats, predict, (file.getvalue(), "Content-Type: application/x-npy")
        ),
        rest_form(
            rest,
            "floats, octet-stream",
            of_floats,
            predict,
            (data, f"Content-Type: application/octet-stream|{raw}"),
        ),
        rest_form(
            rest, "floats, `/v2`, binary", of_floats, infer, infer_body("images", "FP32", PICTURE, data)
        ),
        rest_form(rest, "floats in shared memory, `/v2`", of_floats, infer, shared_body(rest, data)),
        grpc_form(channel, "floats, gRPC `Predict`", of_floats, PREDICT, float_predict),
        grpc_form(channel, "floats, gRPC `ModelInfer`", of_floats, INFER, float_infer),
    ]


@contextmanager
def serving(models: Mapping[str, Model]) -> Iterator[tuple[Process, int, int]]:
    """Serves the three models; yields the process and the ports of REST and gRPC."""
    named = [f"{name}={models[name].base}" for name in (JPEG, FLOATS, STUB)]
    flags = ("--engine=tensorflow", "--shared_memory=/servable_protocols", "--port=0", "--rest_api_port=0")
    command = [sys.executable, "-m", "servable", "serve", *named, *flags]
    with Process(command, BUILD / "protocols.log") as process:
        rest = process.wait_for(r"REST API at:\S+?:(\d+)")[1]
        port = process.wait_for(r"Running gRPC ModelServer at \S+:(\d+)")[1]
        process.wait_for(r"ready: 3 of 3 models")
        yield process, int(rest), int(port)


def main(argv: Sequence[str]) -> int:
    """Measures, prints and writes; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=WHOLE[0])
    parser.add_argument("--calls", type=int, default=WHOLE[1], help="of each form, in each round")
    given = parser.parse_args(argv)
    BUILD.mkdir(parents=True, exist_ok=True)
    largest = [("grpc.max_send_message_length", -1)]
    with serving(prepare(BUILD / "models")) as (process, rest, port):
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=largest) as channel:
                every = forms(Rest(rest), channel)
                for _ in range(given.rounds):
                    for form in every:
                        form.measure(process.pid, given.calls)
        finally:
            SHARED.unlink(missing_ok=True)
    text = table(HEADS, [form.cells() for form in every])
    print(text)
    if (given.rounds, given.calls) >= WHOLE:
        command = " ".join(["python benches/protocols.py", *argv])
        head = f"`{command}`, {datetime.date.today()}, {os.cpu_count()} cores:\n\n"
        replace_between_markers(DOCUMENT, head + text + "\n", "benches/protocols.py")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
