"""Keras files served by way of the installed Keras, and SavedModels that it heals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from clients import version_states
from conftest import Served
from servers import DROP_IN, MODELS, ONE_TRY, serving, until, without_keras
from wire import predict

pytestmark = [
    pytest.mark.needs_tensorflow,
    pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed"),
    pytest.mark.timeout(300),
]

PAIR = {"instances": [[1.0, 2.0], [0.0, 0.0]]}
CONVERSION_SECONDS = 120.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of ``tests/models/make_keras.py``."""
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, MODELS / "make_keras.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One cache for all: what a test before has converted is there."""
    return f"--model_cache_dir={tmp_path_factory.mktemp('cache')}"


def answers(served: Served, model: str, body: Any = PAIR) -> Any:
    # The ports open without a model whose load takes long.
    log_of(served, f"loaded {model} version ")
    reply = predict(served, model, json.dumps(body))
    assert reply.status == 200, reply.body
    return json.loads(reply.body)["predictions"]


def log_of(served: Served, *words: str) -> str:
    """Waits for a line with all of these words; returns the log from there on."""
    assert until(
        lambda: any(all(one in line for one in words) for line in served.lines), CONVERSION_SECONDS
    ), served.log
    start = next(at for at, line in enumerate(served.lines) if all(one in line for one in words))
    return "\n".join(served.lines[start : start + 3])


def entries(served: Served) -> list[str]:
    """Returns what was logged, each with its further lines, which begin with a space."""
    return re.split(r"\n(?=\S)", served.log)


@contextmanager
def drop_in(model: str, base_path: Path, cache: str) -> Iterator[Served]:
    """Runs ``tensorflow_model_server``."""
    name, path = f"--model_name={model}", f"--model_base_path={base_path}"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = f"--port={one.getsockname()[1]}", f"--rest_api_port={other.getsockname()[1]}"
    with serving(*ports, name, path, cache, command=DROP_IN) as served:
        yield served


def test_keras_files_beside_another_model(tmp_path: Path, made: Path, cache: str) -> None:
    files = [made / "sum.keras", f"old={made / 'sum.h5'}", made / "two.keras", made / "half.keras"]
    with serving(*files, MODELS / "half_plus_two", cache, environment={"TMPDIR": str(tmp_path)}) as served:
        assert answers(served, "sum") == [[9.0], [1.0]]
        assert answers(served, "old") == [[9.0], [1.0]]
        both = {"instances": [{"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]}]}
        assert answers(served, "two", both) == [{"both": [5.0, 7.0, 9.0], "last": [4.0, 5.0, 6.0]}]
        assert answers(served, "half") == [[3.0], [0.0]]
        assert answers(served, "half_plus_two", {"instances": [2.0]}) == [3.0]
        assert "in a process of its own" in served.log
        assert f"converted {made / 'sum.keras'} in " in served.log
        assert not list(tmp_path.iterdir()), "conversions leave no temporary files"
    with serving(made / "sum.keras", cache) as served:
        assert answers(served, "sum") == [[9.0], [1.0]]
        assert f"was made from {made / 'sum.keras'} before, by Keras" in served.log
        assert "in a process of its own" not in served.log


def test_a_replaced_file_is_served_anew_and_a_damaged_one_changes_nothing(
    tmp_path: Path, made: Path, cache: str
) -> None:
    file = tmp_path / "m.keras"
    shutil.copyfile(made / "sum.keras", file)
    with serving(file, cache) as served:
        assert answers(served, "m") == [[9.0], [1.0]]
        shutil.copyfile(made / "double.keras", tmp_path / "new")
        os.replace(tmp_path / "new", file)
        assert until(lambda: answers(served, "m") == [[18.0], [2.0]], CONVERSION_SECONDS), served.log
        (tmp_path / "new").write_bytes((made / "sum.keras").read_bytes()[:2000])
        os.replace(tmp_path / "new", file)
        assert "cannot be read as a Keras file" in log_of(served, "could not load m version 1")
        assert answers(served, "m") == [[18.0], [2.0]]
        assert version_states(served, "m") == {1: "AVAILABLE"}


def test_version_folders_with_keras_files(tmp_path: Path, made: Path, cache: str) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    shutil.copyfile(made / "sum.keras", tmp_path / "m" / "1" / "model.keras")
    with drop_in("m", tmp_path / "m", cache) as served:
        assert answers(served, "m") == [[9.0], [1.0]]
        (tmp_path / "next").mkdir()
        shutil.copyfile(made / "sum.h5", tmp_path / "next" / "model.h5")
        (tmp_path / "next").rename(tmp_path / "m" / "2")
        log_of(served, "loaded m version 2")
        assert answers(served, "m") == [[9.0], [1.0]]
        (tmp_path / "m" / "3").mkdir()
        (tmp_path / "m" / "3" / "model.keras").touch()
        assert "cannot be read as a Keras file" in log_of(served, "could not load m version 3")
        assert answers(served, "m") == [[9.0], [1.0]]


FAILURES = {
    "lambda.keras": ("FAILED_PRECONDITION", "a Lambda layer (lambda", "model.export(FOLDER)"),
    "custom.keras": (
        "FAILED_PRECONDITION",
        "a class (Triple) that Keras does not have",
        "model.export(FOLDER)",
    ),
    "unbuilt.keras": ("FAILED_PRECONDITION", "no input shape yet", "keras.Input(shape)"),
    "sum.weights.h5": ("FAILED_PRECONDITION", "weights alone", "model.load_weights(FILE)"),
    "cut.keras": ("DATA_LOSS", "cannot be read as a Keras file", "model.save(FILE)"),
    "cut.h5": ("DATA_LOSS", "cannot be read as a Keras file", "model.save(FILE)"),
    "text.h5": ("DATA_LOSS", "cannot be read as a Keras file", "model.save(FILE)"),
}


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory, made: Path, cache: str) -> Iterator[Served]:
    """A server of these files, each a model of that name with ``_`` for its dots, and of another model."""
    folder = tmp_path_factory.mktemp("failing")
    for name in FAILURES:
        if name.startswith("cut."):
            (folder / name).write_bytes((made / f"sum{Path(name).suffix}").read_bytes()[:3000])
        elif name == "text.h5":
            (folder / name).write_text("this is no HDF5")
        else:
            shutil.copyfile(made / name, folder / name)
    models = [f"{name.replace('.', '_')}={folder / name}" for name in FAILURES]
    with serving(*models, MODELS / "half_plus_two", ONE_TRY, cache) as served:
        yield served


@pytest.mark.parametrize("name", FAILURES)
def test_a_file_that_cannot_be_converted(failing: Served, name: str) -> None:
    code, said, advice = FAILURES[name]
    model = name.replace(".", "_")
    words = (f"could not load {model} version 1", f"{code}: converting ", f"{name} failed", said, advice)

    def is_told() -> bool:
        return any(all(one in entry for one in words) for entry in entries(failing))

    assert until(is_told, CONVERSION_SECONDS), failing.log
    assert version_states(failing, model) == {1: "END"}
    assert answers(failing, "half_plus_two", {"instances": [2.0]}) == [3.0]


def test_a_lambda_runs_nothing(failing: Served, made: Path) -> None:
    """The bytecode in the file would make a file; nothing of it is run."""
    log_of(failing, "could not load lambda_keras version 1", "Lambda")
    assert not (made / "it ran").exists()


def test_without_keras(tmp_path: Path, made: Path, cache: str) -> None:
    with serving(made / "sum.keras", ONE_TRY, cache, environment=without_keras(tmp_path)) as served:
        log = log_of(served, "could not load sum version 1")
        assert "Keras and TensorFlow's Python package are not installed" in log
        assert 'pip install "servable[cpu]" (Keras comes with TensorFlow)' in log


@pytest.mark.parametrize("command", ["serve", "tensorflow_model_server"])
def test_hidden_variables_are_healed(made: Path, cache: str, command: str) -> None:
    if command == "serve":
        start = serving(made / "blind", MODELS / "hidden_variables", cache)
    else:
        start = drop_in("blind", made / "blind", cache)
    with start as served:
        # (1 - 1) / 2 = 0, (2 - 2) / 3 = 0; (0 - 1) / 2, (0 - 2) / 3.
        assert answers(served, "blind") == [[1.0], [pytest.approx(-2.0)]]
        log = log_of(served, "healed" if command == "serve" else "before", "blind/1")
        if command == "serve":
            assert "all 2 have their values" in log
            assert "the answers of serving_default are the same as those of the model in Python" in log
            assert answers(served, "hidden_variables", {"instances": [[2.0]]}) == [[pytest.approx(2.3716657)]]


def test_a_killed_server_ends_its_conversion(tmp_path: Path, made: Path) -> None:
    cache = tmp_path / "cache"
    with serving(
        made / "sum.keras", f"--model_cache_dir={cache}", ready="in a process of its own", may_end=True
    ) as served:
        (child,) = until_child(served.process.pid)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait(30)
        assert until(lambda: not is_running(child))
        served.process.returncode = 0
    with serving(made / "sum.keras", f"--model_cache_dir={cache}") as served:
        assert answers(served, "sum") == [[9.0], [1.0]]
    assert [one for one in os.listdir(cache / "converted") if one.startswith(".converting")] == []


def test_a_stop_during_a_conversion(tmp_path: Path, made: Path) -> None:
    cache = tmp_path / "cache"
    with serving(
        made / "sum.keras", f"--model_cache_dir={cache}", ready="in a process of its own", may_end=True
    ) as served:
        (child,) = until_child(served.process.pid)
        assert served.stop() == 0
        assert until(lambda: not is_running(child))
        assert [one for one in os.listdir(cache / "converted") if not one.endswith(".lock")] == []


def test_a_newer_version_ends_the_conversion_of_the_one_before(tmp_path: Path, made: Path) -> None:
    cache, model = tmp_path / "cache", tmp_path / "m"
    (model / "1").mkdir(parents=True)
    shutil.copyfile(made / "sum.keras", model / "1" / "model.keras")
    shutil.copytree(MODELS / "half_plus_two" / "1", tmp_path / "next")
    with serving(model, f"--model_cache_dir={cache}", ready="in a process of its own") as served:
        (child,) = until_child(served.process.pid)
        (tmp_path / "next").rename(model / "2")
        log_of(served, "ended the load of m version 1", "not wanted any more")
        assert until(lambda: not is_running(child))
        log_of(served, "loaded m version 2")
    assert [one for one in os.listdir(cache / "converted") if not one.endswith(".lock")] == []


def until_child(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task")

    def found() -> list[int]:
        return [int(one) for task in children.iterdir() for one in (task / "children").read_text().split()]

    assert until(found)
    return found()


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
