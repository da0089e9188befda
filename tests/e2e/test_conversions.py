"""The lines that ``servable inspect`` prints, run as they stand, and what they make served; ``servable new``.

Each takes seconds with TensorFlow's or another framework's Python: `make test-conversions` runs them.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from servers import FRIENDLY, serving
from wire import predict

from servable.savedmodel.artifacts.artifact import Artifact
from servable.savedmodel.artifacts.recognisers import looked_at

pytestmark = [pytest.mark.slow, pytest.mark.needs_tensorflow, pytest.mark.timeout(300)]

SECONDS = 240.0
BUILD_KERAS = """\
import keras
def build_model():
    return keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
"""
SUM = ('{"instances": [[1, 2]]}', "9.0")


def run(folder: Path, *arguments: str) -> str:
    """Runs Python in a folder, and returns what it printed."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What ``tests/models/make_foreign.py`` writes."""
    if find_spec("tensorflow") is None:
        pytest.skip("TensorFlow's Python package is not installed")
    folder = tmp_path_factory.mktemp("foreign")
    run(folder, str(ROOT / "tests" / "models" / "make_foreign.py"), str(folder))
    yield folder


def converted(path: Path, folder: Path, before: str = "") -> tuple[Artifact, str]:
    """Runs the program for what is at ``path``; returns what it is, and the path that is then served."""
    found = looked_at(str(path))
    assert found is not None
    run(folder, "-c", before + found.program)
    served = found.commands[-1].removeprefix("servable serve ")
    return found, served


@pytest.mark.parametrize(
    ("path", "kind", "before", "asked"),
    [
        ("frozen.pb", "tensorflow-graph", "", ('{"instances": [4]}', "4.0")),
        ("v1", "tensorflow-checkpoint", "", ('{"inputs": {"x": [4], "target": [0]}}', "144.0")),
        ("hub", "tensorflow-hub-module", "", ('{"instances": [4]}', "12.0")),
        ("v2", "tensorflow-checkpoint", BUILD_KERAS, SUM),
        ("named", "tensorflow-checkpoint", BUILD_KERAS, SUM),
        ("m.weights.h5", "keras-weights", BUILD_KERAS, SUM),
    ],
)
def test_tensorflow(
    foreign: Path, tmp_path: Path, path: str, kind: str, before: str, asked: tuple[str, str]
) -> None:
    """asked: a body, and what is in its answer."""
    found, served = converted(foreign / path, tmp_path, before)
    assert found.kind == kind
    with serving(tmp_path / served) as server:
        reply = predict(server, Path(served).name, asked[0])
    assert reply.status == 200, reply.text
    assert asked[1] in reply.text


def needs(*packages: str) -> None:
    missing = [one for one in packages if find_spec(one) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


MAKERS = {
    "svc.pkl": (
        "import pickle; from sklearn.linear_model import LogisticRegression as Model\n"
        "model = Model().fit([[0, 0], [1, 1], [4, 4], [5, 5]], [0, 0, 1, 1])\n"
        "pickle.dump(model, open('svc.pkl', 'wb'))"
    ),
    "reg.joblib": (
        "import joblib; from sklearn.linear_model import LinearRegression as Model\n"
        "model = Model().fit([[0, 0], [1, 0], [0, 1], [1, 1]], [1, 3, 4, 6])\n"
        "joblib.dump(model, 'reg.joblib', compress=3)"
    ),
    "trees.txt": (
        "import lightgbm, numpy\nx = numpy.random.default_rng(1).uniform(size=[200, 2])\n"
        "lightgbm.train({'verbose': -1}, lightgbm.Dataset(x, x[:, 0]), 5).save_model('trees.txt')"
    ),
    "trees.json": (
        "import numpy, xgboost\nx = numpy.random.default_rng(1).uniform(size=[200, 2])\n"
        "xgboost.train({}, xgboost.DMatrix(x, x[:, 0]), 5).save_model('trees.json')"
    ),
    "trees.ubj": (
        "import numpy, xgboost\nx = numpy.random.default_rng(1).uniform(size=[200, 2])\n"
        "xgboost.train({}, xgboost.DMatrix(x, x[:, 0]), 5).save_model('trees.ubj')"
    ),
    "script.pt": "import torch; torch.jit.script(torch.nn.Flatten()).save('script.pt')",
}
PACKAGES = {
    "svc.pkl": ("sklearn", "skl2onnx"),
    "reg.joblib": ("sklearn", "skl2onnx"),
    "trees.txt": ("lightgbm", "onnxmltools"),
    "trees.json": ("xgboost", "onnxmltools"),
    "trees.ubj": ("xgboost", "onnxmltools"),
    "script.pt": ("torch", "onnx"),
}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_other_frameworks(tmp_path: Path, name: str) -> None:
    needs(*PACKAGES[name], "onnxruntime")
    run(tmp_path, "-c", MAKERS[name])
    found, served = converted(tmp_path / name, tmp_path)
    assert found.kind in ("scikit-learn", "lightgbm", "xgboost", "pytorch-torchscript")
    with serving(tmp_path / served) as server:
        body = '{"instances": [[1, 1]]}' if name != "script.pt" else None
        if body is not None:
            reply = predict(server, Path(served).stem, body)
            assert reply.status == 200, reply.text


@pytest.mark.parametrize("path", ["orbax", "steps/1"])
def test_jax(tmp_path: Path, path: str) -> None:
    needs("jax", "orbax")
    run(
        tmp_path,
        "-c",
        "import os, jax.numpy as jnp, orbax.checkpoint as ocp\n"
        "parameters = {'w': jnp.array([[1.0], [2.0], [3.0]]), 'b': jnp.array([0.5])}\n"
        "one = ocp.StandardCheckpointer()\none.save(os.path.abspath('orbax'), parameters)\n"
        "one.wait_until_finished()\n"
        "with ocp.CheckpointManager(os.path.abspath('steps')) as steps:\n"
        "    steps.save(1, args=ocp.args.StandardSave(parameters))\n    steps.wait_until_finished()",
    )
    predict_it = "def predict(parameters, x):\n    return x @ parameters['w'] + parameters['b']\n"
    found, served = converted(tmp_path / path, tmp_path, predict_it)
    assert found.kind == "jax-checkpoint"
    with serving(f"m={tmp_path / served}") as server:
        reply = predict(server, "m", '{"instances": [[1, 2, 5]]}')
    assert reply.status == 200 and "20.5" in reply.text, reply.text


def test_a_keras_file_under_another_name(tmp_path: Path) -> None:
    """Served right away, by the commands."""
    run(
        tmp_path,
        "-c",
        BUILD_KERAS + "build_model().save('m.keras'); import os; os.rename('m.keras', 'download')",
    )
    found = looked_at(str(tmp_path / "download"))
    assert found is not None and found.kind == "keras"
    for command in found.commands[:-1]:
        subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    served = found.commands[-1].removeprefix("servable serve ")
    cache = f"--model_cache_dir={tmp_path / 'cache'}"
    # Not the line before it, of none, where the conversion takes long.
    with serving(served, cache, ready="ready: 1 of 1 models") as server:
        assert predict(server, "download", '{"instances": [[0, 0]]}').status == 200


def test_a_terminal_shows_how_far_a_conversion_is(tmp_path: Path) -> None:
    run(tmp_path, "-c", BUILD_KERAS + "build_model().save('m.keras')")
    terminal, inner = pty.openpty()
    command = [*FRIENDLY, str(tmp_path / "m.keras"), f"--model_cache_dir={tmp_path / 'cache'}"]
    with subprocess.Popen(command, stderr=inner, env={**os.environ, "TERM": "xterm"}) as server:
        os.close(inner)
        seen = b""
        try:
            while b"ready: 1 of 1" not in seen:
                assert select.select([terminal], [], [], 60)[0], seen
                seen += os.read(terminal, 4096)
        finally:
            server.terminate()
            server.wait(30)
            os.close(terminal)
    assert re.search(rb"\rm, version 1: converting it, [^\r]+, \d+ s\x1b\[K\r", seen), seen


def test_an_archive(tmp_path: Path) -> None:
    model = ROOT / "tests" / "models" / "half_plus_two"
    subprocess.run(["tar", "-czf", tmp_path / "half.tar.gz", "-C", model.parent, model.name], check=True)
    found = looked_at(str(tmp_path / "half.tar.gz"))
    assert found is not None
    for command in found.commands[:-1]:
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, stderr=subprocess.DEVNULL)
    name, _, path = found.commands[-1].removeprefix("servable serve ").partition("=")
    with serving(f"{name}={tmp_path / path}") as server:
        assert "[2.5\n" in predict(server, "half", '{"instances": [1]}').text.replace(" ", "")


def test_a_starter_project(tmp_path: Path) -> None:
    """Made, exported twice, and tested by its own test against a real server."""
    needs("keras", "httpx")
    run(tmp_path, "-m", "servable", "new", "price")
    project = tmp_path / "price"
    assert "models/price/1" in run(project, "export.py")
    assert "models/price/2" in run(project, "export.py")
    said = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 passed" in said
    assert list((project / "models").glob(".price*")) == []
