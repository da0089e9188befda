"""Conversions with a fake Keras: once for each content, completely or not at all, and what failures say."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from servable.engines import export_process
from servable.engines.export_process import Job
from servable.errors import StatusError
from servable.sources import conversion, conversion_cache
from servable.sources.conversion import Conversion
from servable.sources.locks import take

HIDDEN = StatusError("FAILED_PRECONDITION", "Could not find variable dense/kernel: 2 of the 2 variables …")
VERSIONS = {"keras": "3.15.1", "tensorflow": "2.21.0"}


class FakeKeras:
    """Writes a SavedModel that holds the source's content, unless ``on_run`` raises."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.on_run: Callable[[Job, threading.Event], None] = lambda *_: None

    def run(self, job: Job, stopped: threading.Event, say: Callable[[str, float], None]) -> dict[str, Any]:
        self.jobs.append(job)
        say("the model is being read", 0.1)
        os.mkdir(job.target)
        source = Path(job.source)
        content = source if source.is_file() else source / "saved_model.pb"
        shutil.copyfile(content, Path(job.target) / "saved_model.pb")
        self.on_run(job, stopped)
        return {"made_by": "a fake", "variables": 2, "compared": ["serving_default"]}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed; every file counts as written long ago."""
    found = dict(VERSIONS)
    monkeypatch.setattr(export_process, "versions", lambda: found)
    monkeypatch.setattr(conversion, "SETTLED_SECONDS", 0.0)
    return found


@pytest.fixture
def keras() -> FakeKeras:
    return FakeKeras()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.keras"
    path.write_bytes(b"first")
    return path


def converted(tmp_path: Path, keras: FakeKeras) -> Conversion:
    return Conversion(str(tmp_path / "cache"), keras)


def in_cache(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "converted"
    return sorted(one for one in os.listdir(folder) if not one.endswith(".lock")) if folder.is_dir() else []


def test_a_keras_file_is_converted_once_for_each_content(
    tmp_path: Path, file: Path, keras: FakeKeras, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = converted(tmp_path, keras)
    place = one.prepare("m", str(file))
    assert Path(place, "saved_model.pb").read_bytes() == b"first"
    assert one.prepare("m", str(file)) == place
    # The next server.
    assert converted(tmp_path, keras).prepare("m", str(file)) == place
    assert [job.kind for job in keras.jobs] == ["convert"]
    assert f"converting {file} (5 B) with Keras 3.15.1 and TensorFlow 2.21.0" in caplog.text
    assert f"the SavedModel is {place}" in caplog.text
    assert f"{place} was made from {file} before, by a fake" in caplog.text
    assert one.phase(str(file)) == ""


def test_another_content_and_another_keras_are_converted_anew(
    tmp_path: Path, file: Path, keras: FakeKeras, installed: dict[str, str]
) -> None:
    one = converted(tmp_path, keras)
    first = one.prepare("m", str(file))
    file.write_bytes(b"second")
    second = one.prepare("m", str(file))
    installed["keras"] = "3.16.0"
    third = one.prepare("m", str(file))
    assert len({first, second, third}) == 3
    # The one before is left to a load that may still be reading it; the one before that is gone.
    assert in_cache(tmp_path) == sorted(
        os.path.basename(p) + e for p in (second, third) for e in ("", ".json")
    )


def test_what_another_server_uses_stays(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    one, other = converted(tmp_path, keras), converted(tmp_path, keras)
    first = one.prepare("m", str(file))
    for content in (b"second", b"third", b"fourth"):
        file.write_bytes(content)
        other.prepare("m", str(file))
    assert os.path.isdir(first)
    assert len(in_cache(tmp_path)) == 2 * 3


def test_a_damaged_result_is_made_again(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    place = converted(tmp_path, keras).prepare("m", str(file))
    Path(place, "saved_model.pb").write_bytes(b"")
    assert converted(tmp_path, keras).prepare("m", str(file)) == place
    assert Path(place, "saved_model.pb").read_bytes() == b"first"


def test_many_servers_convert_once(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def wait(job: Job, stopped: threading.Event) -> None:
        begun.set()
        assert goes_on.wait(10)

    keras.on_run = wait
    with ThreadPoolExecutor(4) as threads:
        servers = [converted(tmp_path, keras) for _ in range(4)]
        places = [threads.submit(server.prepare, "m", str(file)) for server in servers]
        assert begun.wait(10)
        assert "converting it, the model is being read" in {server.phase(str(file)) for server in servers}
        goes_on.set()
        assert len({place.result(10) for place in places}) == 1
    assert len(keras.jobs) == 1


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (
            StatusError("FAILED_PRECONDITION", "it has a Lambda layer", "call export"),
            "FAILED_PRECONDITION",
            "Lambda",
        ),
        (StatusError("RESOURCE_EXHAUSTED", "the disk is full"), "RESOURCE_EXHAUSTED", "the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "RESOURCE_EXHAUSTED", "No space left"),
        (OSError(errno.EACCES, "Permission denied"), "PERMISSION_DENIED", "Permission denied"),
        (StatusError("ABORTED", "the process was killed"), "ABORTED", "the process was killed"),
    ],
)
def test_a_failure_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, file: Path, keras: FakeKeras, raised: Exception, code: str, words: str
) -> None:
    def fail(job: Job, stopped: threading.Event) -> None:
        raise raised

    keras.on_run = fail
    one = converted(tmp_path, keras)
    with pytest.raises(StatusError, match=words) as caught:
        one.prepare("m", str(file))
    assert caught.value.code == code
    assert caught.value.message.startswith(f"converting {file} failed: ")
    if code in ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED"):
        assert "--model_cache_dir" in caught.value.hint
    assert in_cache(tmp_path) == []


def test_what_can_never_be_converted_is_tried_once(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    def refuse(job: Job, stopped: threading.Event) -> None:
        raise StatusError("FAILED_PRECONDITION", "it has a Lambda layer")

    keras.on_run = refuse
    one = converted(tmp_path, keras)
    for _ in range(3):
        with pytest.raises(StatusError, match="Lambda"):
            one.prepare("m", str(file))
    assert len(keras.jobs) == 1
    file.write_bytes(b"without")
    keras.on_run = lambda *_: None
    assert one.prepare("m", str(file))


def test_a_crash_is_tried_again(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    def crash(job: Job, stopped: threading.Event) -> None:
        raise StatusError("ABORTED", "the process was killed")

    keras.on_run = crash
    one = converted(tmp_path, keras)
    with pytest.raises(StatusError, match="killed"):
        one.prepare("m", str(file))
    keras.on_run = lambda *_: None
    assert one.prepare("m", str(file))


def test_a_full_disk_is_seen_before(
    tmp_path: Path, file: Path, keras: FakeKeras, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3)
    monkeypatch.setattr(conversion_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StatusError, match="5 B are needed and 3 B are free") as caught:
        converted(tmp_path, keras).prepare("m", str(file))
    assert caught.value.code == "RESOURCE_EXHAUSTED" and "--model_cache_dir" in caught.value.hint
    assert keras.jobs == []


def test_a_cache_that_cannot_be_made(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StatusError, match="cannot take the result") as caught:
        converted(tmp_path, keras).prepare("m", str(file))
    assert "--model_cache_dir" in caught.value.hint


def test_a_file_that_changes_meanwhile_is_converted_again(
    tmp_path: Path, file: Path, keras: FakeKeras
) -> None:
    keras.on_run = lambda job, _: Path(job.source).write_bytes(b"longer than before") and None
    one = converted(tmp_path, keras)
    with pytest.raises(StatusError, match="it changed while it was read") as caught:
        one.prepare("m", str(file))
    assert caught.value.code == "UNAVAILABLE"
    keras.on_run = lambda *_: None
    assert Path(one.prepare("m", str(file)), "saved_model.pb").read_bytes() == b"longer than before"


def test_leftovers_of_killed_servers_are_removed_but_not_those_of_living_ones(
    tmp_path: Path, file: Path, keras: FakeKeras
) -> None:
    folder = tmp_path / "cache" / "converted"
    for stem in ("dead", "alive"):
        (folder / f".converting-{stem}.0123abcd").mkdir(parents=True)
    lock = take(str(folder / ".converting-alive.lock"), shared=False)
    assert lock is not None and lock.real
    converted(tmp_path, keras).prepare("m", str(file))
    left = [one for one in os.listdir(folder) if one.startswith(".converting-")]
    assert sorted(left) == [".converting-alive.0123abcd", ".converting-alive.lock"]
    lock.release()


def test_the_end_of_the_server_ends_a_conversion_and_those_that_wait(
    tmp_path: Path, file: Path, keras: FakeKeras
) -> None:
    begun = threading.Event()

    def wait(job: Job, stopped: threading.Event) -> None:
        begun.set()
        assert stopped.wait(10)
        raise StatusError("CANCELLED", "the server is stopping")

    keras.on_run = wait
    one = converted(tmp_path, keras)
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(one.prepare, "m", str(file)) for _ in range(2)]
        assert begun.wait(10)
        one.stop()
        errors = [result.exception(10) for result in results]
    assert [getattr(error, "code", None) for error in errors] == ["CANCELLED"] * 2
    assert in_cache(tmp_path) == []


def test_without_keras(tmp_path: Path, file: Path, keras: FakeKeras, installed: dict[str, str]) -> None:
    installed.clear()
    with pytest.raises(
        StatusError, match=r"Keras and TensorFlow's Python package are not installed"
    ) as caught:
        converted(tmp_path, keras).prepare("m", str(file))
    assert 'pip install "servable[cpu]"' in caught.value.hint
    assert keras.jobs == [] and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_versions_folder_with_a_keras_file_keeps_its_warmup(
    tmp_path: Path, keras: FakeKeras, name: str
) -> None:
    model = tmp_path / "m" / "1"
    (model / "assets.extra").mkdir(parents=True)
    (model / name).write_bytes(b"k")
    warmup = model / "assets.extra" / "tf_serving_warmup_requests"
    warmup.write_bytes(b"one")
    one = converted(tmp_path, keras)
    place = one.prepare("m", str(model))
    assert os.path.basename(place).startswith("m-1-")
    assert Path(place, "assets.extra", warmup.name).read_bytes() == b"one"
    assert keras.jobs[0].source == str(model / name)
    warmup.write_bytes(b"two")
    assert Path(one.prepare("m", str(model)), "assets.extra", warmup.name).read_bytes() == b"two"


# ---- healing


@pytest.fixture
def blind(tmp_path: Path) -> Path:
    """A SavedModel that the core refuses."""
    folder = tmp_path / "m" / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_hidden_variables_are_healed_once(
    tmp_path: Path, blind: Path, keras: FakeKeras, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = converted(tmp_path, keras)
    place = one.heal("m", str(blind), HIDDEN)
    assert Path(place, "saved_model.pb").read_bytes() == b"graph"
    assert one.heal("m", str(blind), HIDDEN) == place
    assert [job.kind for job in keras.jobs] == ["heal"]
    assert "all 2 have their values" in caplog.text
    assert "the answers of serving_default are the same" in caplog.text
    (blind / "variables" / "variables.index").write_bytes(b"other")
    assert one.heal("m", str(blind), HIDDEN) != place


def test_what_cannot_be_healed_has_the_error_of_before_and_why(
    tmp_path: Path, blind: Path, keras: FakeKeras, installed: dict[str, str]
) -> None:
    def refuse(job: Job, stopped: threading.Event) -> None:
        raise StatusError("FAILED_PRECONDITION", "its checkpoint has no values for kernel")

    keras.on_run = refuse
    one = converted(tmp_path, keras)
    with pytest.raises(StatusError) as caught:
        one.heal("m", str(blind), HIDDEN)
    assert (caught.value.code, caught.value.message) == (HIDDEN.code, HIDDEN.message)
    assert "model.export(folder)" in caught.value.hint
    assert f"healing {blind} failed: its checkpoint has no values for kernel" in caught.value.hint
    installed.clear()
    with pytest.raises(StatusError) as caught:
        one.heal("m", str(blind), HIDDEN)
    assert caught.value.message == HIDDEN.message
    assert 'pip install "servable[cpu]"' in caught.value.hint
