"""A server of a small model beside which a large one is loaded and unloaded, and the large model itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from process import BenchError, Process, wait_until

ROOT = Path(__file__).resolve().parent.parent
LOAD_SECONDS = 300
SMALL = ROOT / "tests" / "models" / "half_plus_two"
MAKE_SAVED_MODEL = """
import sys, tensorflow as tf
class Large(tf.Module):
    def __init__(self, count):
        super().__init__()
        self.parts = [tf.Variable(tf.random.stateless_normal([2621440], [1, n])) for n in range(count)]
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def serve(self, x):
        return {"y": x + self.parts[0][0]}
module = Large(int(sys.argv[2]) // 10)
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": module.serve})
"""
MAKE_TFLITE = """
import os, sys, tensorflow as tf
layers = [tf.random.stateless_normal([1600, 1600], [1, n]) for n in range(int(sys.argv[2]) // 10)]
@tf.function(input_signature=[tf.TensorSpec([None, 1600], tf.float32, name="x")])
def serve(x):
    for layer in layers:
        x = tf.nn.relu(tf.matmul(x, layer))
    return {"y": x}
converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()])
os.makedirs(sys.argv[1])
with open(sys.argv[1] + "/model.tflite", "wb") as file:
    file.write(converter.convert())
"""
MAKE_ONNX = """
import os, sys, numpy, onnx
from onnx import TensorProto, helper, numpy_helper
random = numpy.random.default_rng(1)
nodes, layers = [], []
for n in range(int(sys.argv[2]) // 10):
    layers.append(numpy_helper.from_array(random.random([1600, 1600], dtype=numpy.float32), f"w{n}"))
    nodes.append(helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"y{n}"]))
    nodes.append(helper.make_node("Relu", [f"y{n}"], [f"x{n + 1}"]))
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1600])
graph = helper.make_graph(nodes, "large", [value("x0")], [value(f"x{len(layers)}")], layers)
os.makedirs(sys.argv[1])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, sys.argv[1] + "/model.onnx")
"""
MAKE_OPENVINO = """
import os, sys, numpy, openvino
from openvino import opset13
random = numpy.random.default_rng(1)
node = x = opset13.parameter([-1, 1600], openvino.Type.f32)
x.output(0).set_names({"x"})
for _ in range(int(sys.argv[2]) // 10):
    layer = opset13.constant(random.random([1600, 1600], dtype=numpy.float32))
    node = opset13.relu(opset13.matmul(node, layer, False, False))
node.output(0).set_names({"y"})
os.makedirs(sys.argv[1])
openvino.save_model(openvino.Model([node], [x]), sys.argv[1] + "/model.xml", compress_to_fp16=False)
"""
FORMATS = {
    "saved_model": MAKE_SAVED_MODEL,
    "onnx": MAKE_ONNX,
    "tflite": MAKE_TFLITE,
    "openvino": MAKE_OPENVINO,
}
"""By format, scripts that write a model to the folder argv[1] with argv[2] megabytes of weights."""


@dataclass
class Server:
    """A server of the small model and, on request, of the large one."""

    process: Process
    config: Path
    large: Path
    url: str
    cycles: int = 0
    failure: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def list_models(self, large: bool) -> None:
        """Replaces the config file and has it read."""
        write_config(self.config, self.large if large else None)
        os.kill(self.process.pid, signal.SIGHUP)

    def large_is(self, state: str) -> bool:
        """Returns whether the large model's version is in ``state``."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/models/large", timeout=30) as reply:
                statuses = json.loads(reply.read())["model_version_status"]
        except urllib.error.HTTPError:
            return False
        if any(one["status"]["error_code"] != "OK" for one in statuses):
            raise BenchError(f"the large model failed: {statuses}")
        return all(one["state"] == state for one in statuses)

    def come_and_go(self) -> None:
        """Loads the large model and unloads it."""
        self.list_models(large=True)
        wait_until(lambda: self.large_is("AVAILABLE"), LOAD_SECONDS, "the large model", every=0.02)
        self.list_models(large=False)
        wait_until(lambda: self.large_is("END"), LOAD_SECONDS, "its end", every=0.02)
        self.cycles += 1

    def cycle(self) -> None:
        """Loads and unloads the large model until ``done``, at the lowest priority so as not to disturb."""
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # this thread alone
        try:
            while not self.done.is_set():
                self.come_and_go()
        except (BenchError, OSError) as error:
            self.failure = str(error)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keeps loading and unloading the large model during the block; it is unloaded afterwards."""
        self.done.clear()
        loader = threading.Thread(target=self.cycle)
        loader.start()
        try:
            yield
        finally:
            self.done.set()
            loader.join()
        if self.failure:
            raise BenchError(self.failure)


def write_config(file: Path, large: Path | None) -> None:
    """Atomically writes a text ModelServerConfig with the small model and, optionally, the large one."""
    bases = {"small": SMALL} | ({"large": large} if large else {})
    entries = [
        f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}'
        for name, base in bases.items()
    ]
    fresh = file.with_suffix(".new")
    fresh.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    fresh.replace(file)


@contextmanager
def serving(folder: Path, large: Path, *flags: str) -> Iterator[Server]:
    """Runs a server with the small model on a known port."""
    config = folder / "models.config"
    write_config(config, None)
    command = [sys.executable, "-m", "servable", "serve", "--port=off", "--rest_api_port=0", *flags]
    with Process([*command, f"--model_config_file={config}"], folder / "server.log") as process:
        port = process.wait_for(r"Exporting HTTP/REST API at:localhost:(\d+)")[1]
        process.wait_for(r"ready: \d+ of \d+ models")
        yield Server(process, config, large, f"http://127.0.0.1:{port}")


def large_model(folder: Path, megabytes: int, form: str = "saved_model") -> Path:
    """Returns the large model's base path, creating the model if it is missing. form: one of ``FORMATS``."""
    version = folder / f"large_{form}_{megabytes}" / "1"
    if not version.is_dir():
        print(f"making a model of {megabytes} MB ({form})", flush=True)
        command = [sys.executable, "-c", FORMATS[form], str(version), str(megabytes)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode != 0:
            raise BenchError(f"the large model could not be made: {made.stderr[-2000:]}")
    return version.parent
