"""Hanging loads, and files that could cause them: they delay neither other models nor the shutdown."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clients import answer, await_versions, version_states
from conftest import Served
from servers import ADMIN, MODELS, ONE_TRY, admin_url, put_version, serving
from tfrecord import WARM_UP, write
from wire import Wire, message

from servable.messages import message_class

pytestmark = pytest.mark.needs_tensorflow

IMPATIENT = """
import sys
from servable.cli import dispatch as cli
from servable.lifecycle import manager
manager.PATIENCE = 1.0
sys.exit(cli.main(["serve", "--port=off", "--rest_api_port=0", *sys.argv[1:]]))
"""
"""A server that considers a load hanging after a second."""
DEAD_MOUNT = """
import sys, threading
from servable.cli import dispatch as cli
from servable.sources import filesystem
dead, look = sys.argv.pop(1), filesystem.look

def hang(model):
    if model.base_path == dead:
        threading.Event().wait()
    return look(model)

filesystem.look, filesystem.LOOK_SECONDS = hang, 1.0
sys.exit(cli.main(["serve", "--port=off", "--rest_api_port=0", *sys.argv[1:]]))
"""
"""A server for which the file system of its first argument does not answer."""


def copied(model: str, base: Path) -> Path:
    """Copies version 1 of a test model, with its assets."""
    version = base / "1"
    shutil.copytree(MODELS / model / "1", version)
    return version


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return put_version("half_plus_two", tmp_path / "good", 1).parent


KINDS = {"pipe": stat.S_IFIFO, "socket": stat.S_IFSOCK}
IN_PLACE_OF = (
    ("half_plus_two", WARM_UP.as_posix()),
    ("half_plus_two", "saved_model.pb"),
    ("half_plus_two", "saved_model_config.pb"),
    ("half_plus_two", "batching_params.pbtxt"),
    ("add_two", "variables/variables.index"),
    ("add_two", "variables/variables.data-00000-of-00001"),
    ("lookup", "assets/words.txt"),
)


@pytest.fixture(scope="module")
def beside_no_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a good model, and of one for each kind and file: ``pipe0`` and so on."""
    folder = tmp_path_factory.mktemp("no files")
    bases = [put_version("half_plus_two", folder / "good", 1).parent]
    for kind, mode in KINDS.items():
        for number, (model, file) in enumerate(IN_PLACE_OF):
            version = copied(model, folder / f"{kind}{number}")
            path = version / file
            path.unlink(missing_ok=True)
            path.parent.mkdir(exist_ok=True)
            os.mknod(path, mode | 0o600)
            bases.append(version.parent)
    flags = (ONE_TRY, "--enable_batching", "--enable_per_model_batching_parameters")
    with serving(*(f"{base.name}={base}" for base in bases), *flags) as served:
        yield served


@pytest.mark.parametrize("number", range(len(IN_PLACE_OF)), ids=[Path(file).name for _, file in IN_PLACE_OF])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_not_waited_for(beside_no_files: Served, kind: str, number: int) -> None:
    served, name = beside_no_files, f"{kind}{number}"
    assert answer(served, "good") == 3.0
    assert version_states(served, name) == {1: "END"}
    said = "\n".join(line for line in served.lines if name in line)
    assert Path(IN_PLACE_OF[number][1]).name in said, served.log
    # For some readers, the system reports that a socket cannot be opened.
    assert f"it is a {kind}" in said or (kind == "socket" and "No such device" in said), said


def warm_up_without_end() -> bytes:
    record: Any = message_class("tensorflow.serving.PredictionLog")()
    request = record.predict_log.request
    request.model_spec.name = "loop"
    tensor = request.inputs["steps"]
    tensor.dtype = 9
    tensor.tensor_shape.SetInParent()
    tensor.int64_val.append(1 << 50)
    return bytes(record.SerializeToString())


def admin(served: Served, path: str, method: str = "GET", body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{admin_url(served)}{path}", content, method=method)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def assert_it_ends_soon(served: Served) -> None:
    began = time.monotonic()
    served.process.terminate()
    assert served.process.wait(60) == 0
    assert time.monotonic() - began < 15


def test_a_load_that_hangs_holds_up_nobody(tmp_path: Path, good: Path) -> None:
    version = copied("loop", tmp_path / "loop")
    write(version / WARM_UP, [warm_up_without_end()])
    command = (sys.executable, "-c", IMPATIENT)
    models = (f"loop={version.parent}", f"good={good}")
    with serving(*models, ADMIN, command=command, may_end=True) as served:
        assert "loop version 1 has been loading for 1 s: its warm-up requests are running" in served.log
        assert answer(served, "good") == 3.0
        model = admin(served, "/admin/models/loop")
        assert model["standing"] == "hanging"
        (fields,) = model["versions"]
        assert fields["state"] == "LOADING"
        assert fields["loading_seconds"] >= 1.0
        assert fields["waits_for"] == "its warm-up requests are running"
        # With one load at a time, as after the start.
        put_version("half_plus_two", good, 2)
        await_versions(served, "good", 2)
        assert_it_ends_soon(served)
        # The serving version is unloaded nevertheless.
        assert "unloaded good version 2" in served.log
        assert "the load of loop version 1 is left where it is" in served.log


def test_a_load_that_hangs_after_the_start_holds_up_nobody(tmp_path: Path, good: Path) -> None:
    loop = tmp_path / "loop"
    loop.mkdir()
    command = (sys.executable, "-c", IMPATIENT)
    models = (f"loop={loop}", f"good={good}")
    with serving(*models, ADMIN, command=command, may_end=True) as served:
        hidden = copied("loop", tmp_path / "hidden")
        write(hidden / WARM_UP, [warm_up_without_end()])
        hidden.rename(loop / "1")
        served.wait_for_line("loop version 1 has been loading for 1 s")
        put_version("half_plus_two", good, 2)
        await_versions(served, "good", 2)
        served.wait_for_line("loop version 1 has been loading for 2 s")
        assert served.process.poll() is None
        served.process.terminate()
        assert served.process.wait(60) == 0


def test_who_waits_for_a_load_that_hangs_may_leave(tmp_path: Path, good: Path) -> None:
    version = copied("loop", tmp_path / "loop")
    write(version / WARM_UP, [warm_up_without_end()])
    command = (sys.executable, "-c", IMPATIENT)
    models = (f"loop={version.parent}", f"good={good}")
    with serving(*models, "--open_inference_model_control", command=command, may_end=True) as served:
        with Wire(served) as wire:
            wire.send(message("POST", "/v2/repository/models/loop/load", ""))
            served.wait_for_line("load of model loop by the Open Inference Protocol")
        served.wait_for_line("nobody waits any more for the load of model loop")
        assert answer(served, "good") == 3.0
        with Wire(served) as wire:
            wire.send(message("POST", "/v2/repository/models/loop/load", ""))
            served.wait_for_line("load of model loop by the Open Inference Protocol")
            assert_it_ends_soon(served)


def test_a_file_system_that_does_not_answer_holds_up_nobody(tmp_path: Path, good: Path) -> None:
    dead = tmp_path / "dead"
    put_version("half_plus_two", dead, 1)
    models = (f"dead={dead}", f"good={good}")
    with serving(
        *models, ADMIN, command=(sys.executable, "-c", DEAD_MOUNT, str(dead)), may_end=True
    ) as served:
        assert f"does the file system of {dead} answer?" in served.log
        assert answer(served, "good") == 3.0
        assert admin(served, "/admin/models/dead")["standing"] == "missing"
        put_version("half_plus_two", good, 2)
        await_versions(served, "good", 2)
        # The remedy: the same model from another path.
        elsewhere = copied("half_plus_two", tmp_path / "elsewhere").parent
        moved = admin(served, "/admin/models/dead", "PUT", {"base_path": str(elsewhere)})
        assert moved["standing"] == "available"
        assert answer(served, "dead") == 3.0
        assert_it_ends_soon(served)
