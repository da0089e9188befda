"""Conversions with a fake Keras: once for each content, completely or not at all, and what failures say."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from servable.engines import export_process
from servable.engines.export_process import Job
from servable.errors import CancelledError, StatusError
from servable.sources import VersionLoad, conversion, conversion_cache
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


def load(path: Path, version: int = 1) -> VersionLoad:
    return VersionLoad("m", version, str(path), threading.Event())


def in_cache(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "converted"
    return sorted(one for one in os.listdir(folder) if not one.endswith(".lock")) if folder.is_dir() else []


def test_a_keras_file_is_converted_once_for_each_content(
    tmp_path: Path, file: Path, keras: FakeKeras, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = converted(tmp_path, keras)
    place = one.prepare(load(file))
    assert Path(place, "saved_model.pb").read_bytes() == b"first"
    assert one.prepare(load(file)) == place
    # The next server.
    assert converted(tmp_path, keras).prepare(load(file)) == place
    assert [job.kind for job in keras.jobs] == ["convert"]
    assert f"converting {file} (5 B) with Keras 3.15.1 and TensorFlow 2.21.0" in caplog.text
    assert f"the SavedModel is {place}" in caplog.text
    assert f"{place} was made from {file} before, by a fake" in caplog.text
    assert one.phase("m", 1) == ""


def test_another_content_and_another_keras_are_converted_anew(
    tmp_path: Path, file: Path, keras: FakeKeras, installed: dict[str, str]
) -> None:
    one = converted(tmp_path, keras)
    first = one.prepare(load(file))
    one.keep("m", 1, first)
    file.write_bytes(b"second")
    second = one.prepare(load(file))
    one.keep("m", 1, second)
    installed["keras"] = "3.16.0"
    third = one.prepare(load(file))
    assert len({first, second, third}) == 3
    assert in_cache(tmp_path) == names_of(second, third)


def names_of(*places: str) -> list[str]:
    return sorted(os.path.basename(place) + end for place in places for end in ("", ".json"))


def test_what_serves_stays_until_it_is_let_go(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    """Loads that failed meanwhile keep nothing; what is in use counts beside the last two."""
    one = converted(tmp_path, keras)
    first = one.prepare(load(file))
    places = []
    for content in (b"second", b"third", b"fourth"):
        file.write_bytes(content)
        places.append(one.prepare(load(file)))
        one.keep("m", 1, first)
    assert in_cache(tmp_path) == names_of(first, *places[1:])
    one.keep("m", 1, "")
    file.write_bytes(b"fifth")
    fifth = one.prepare(load(file))
    assert in_cache(tmp_path) == names_of(places[-1], fifth)


def test_of_versions_that_were_unloaded_the_last_one_stays(tmp_path: Path, keras: FakeKeras) -> None:
    one, places = converted(tmp_path, keras), []
    for version in (1, 2, 3, 4):
        (tmp_path / "m" / str(version)).mkdir(parents=True)
        (tmp_path / "m" / str(version) / "model.keras").write_bytes(b"%d" % version)
        places.append(one.prepare(load(tmp_path / "m" / str(version), version)))
        one.keep("m", version, places[-1])
        one.keep("m", version - 1, "")
    assert in_cache(tmp_path) == names_of(*places[2:])


def test_versions_that_serve_stay(tmp_path: Path, keras: FakeKeras) -> None:
    one, places = converted(tmp_path, keras), []
    for version in (1, 2, 3, 4):
        (tmp_path / "m" / str(version)).mkdir(parents=True)
        (tmp_path / "m" / str(version) / "model.keras").write_bytes(b"%d" % version)
        places.append(one.prepare(load(tmp_path / "m" / str(version), version)))
        one.keep("m", version, places[-1])
    assert in_cache(tmp_path) == names_of(*places)


def test_what_another_server_uses_stays(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    one, other = converted(tmp_path, keras), converted(tmp_path, keras)
    first = one.prepare(load(file))
    for content in (b"second", b"third", b"fourth"):
        file.write_bytes(content)
        other.keep("m", 1, other.prepare(load(file)))
    assert os.path.isdir(first)
    assert len(in_cache(tmp_path)) == 2 * 3


def test_a_damaged_result_is_made_again(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    place = converted(tmp_path, keras).prepare(load(file))
    Path(place, "saved_model.pb").write_bytes(b"")
    assert converted(tmp_path, keras).prepare(load(file)) == place
    assert Path(place, "saved_model.pb").read_bytes() == b"first"


def test_many_servers_convert_once(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def wait(job: Job, stopped: threading.Event) -> None:
        begun.set()
        assert goes_on.wait(10)

    keras.on_run = wait
    with ThreadPoolExecutor(4) as threads:
        servers = [converted(tmp_path, keras) for _ in range(4)]
        places = [threads.submit(server.prepare, load(file)) for server in servers]
        assert begun.wait(10)
        assert "converting it, the model is being read" in {server.phase("m", 1) for server in servers}
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
        one.prepare(load(file))
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
            one.prepare(load(file))
    assert len(keras.jobs) == 1
    file.write_bytes(b"without")
    keras.on_run = lambda *_: None
    assert one.prepare(load(file))


def test_a_crash_is_tried_again(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    def crash(job: Job, stopped: threading.Event) -> None:
        raise StatusError("ABORTED", "the process was killed")

    keras.on_run = crash
    one = converted(tmp_path, keras)
    with pytest.raises(StatusError, match="killed"):
        one.prepare(load(file))
    keras.on_run = lambda *_: None
    assert one.prepare(load(file))


def test_a_full_disk_is_seen_before(
    tmp_path: Path, file: Path, keras: FakeKeras, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=3)
    monkeypatch.setattr(conversion_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StatusError, match="5 B are needed and 3 B are free") as caught:
        converted(tmp_path, keras).prepare(load(file))
    assert caught.value.code == "RESOURCE_EXHAUSTED" and "--model_cache_dir" in caught.value.hint
    assert keras.jobs == []


def test_a_cache_that_cannot_be_made(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StatusError, match="cannot take the result") as caught:
        converted(tmp_path, keras).prepare(load(file))
    assert "--model_cache_dir" in caught.value.hint


def test_a_file_that_changes_meanwhile_is_converted_again(
    tmp_path: Path, file: Path, keras: FakeKeras
) -> None:
    keras.on_run = lambda job, _: Path(job.source).write_bytes(b"longer than before") and None
    one = converted(tmp_path, keras)
    with pytest.raises(StatusError, match="it changed while it was read") as caught:
        one.prepare(load(file))
    assert caught.value.code == "UNAVAILABLE"
    keras.on_run = lambda *_: None
    assert Path(one.prepare(load(file)), "saved_model.pb").read_bytes() == b"longer than before"


def test_leftovers_of_killed_servers_are_removed_but_not_those_of_living_ones(
    tmp_path: Path, file: Path, keras: FakeKeras
) -> None:
    folder = tmp_path / "cache" / "converted"
    for stem in ("dead", "alive"):
        (folder / f".converting-{stem}.0123abcd").mkdir(parents=True)
    lock = take(str(folder / ".converting-alive.lock"), shared=False)
    assert lock is not None and lock.real
    converted(tmp_path, keras).prepare(load(file))
    left = [one for one in os.listdir(folder) if one.startswith(".converting-")]
    assert sorted(left) == [".converting-alive.0123abcd", ".converting-alive.lock"]
    lock.release()


@pytest.mark.parametrize("at_once", [1, conversion.MOST_AT_ONCE])
def test_a_load_that_is_not_wanted_ends_its_conversion_or_its_waiting(
    tmp_path: Path, file: Path, keras: FakeKeras, at_once: int
) -> None:
    begun = threading.Semaphore(0)

    def wait(job: Job, stopped: threading.Event) -> None:
        begun.release()
        assert stopped.wait(10)
        raise CancelledError("CANCELLED", "not wanted")

    keras.on_run = wait
    one = converted(tmp_path, keras)
    files = [file, tmp_path / "other.keras"][:at_once]
    files[-1].write_bytes(b"content")
    (tmp_path / "third.keras").write_bytes(b"third")
    # The last one waits for the same result, or for a place.
    loads = [*(load(path) for path in files), load(file if at_once == 1 else tmp_path / "third.keras")]
    with ThreadPoolExecutor(3) as threads:
        results = [threads.submit(one.prepare, each) for each in loads[:-1]]
        for _ in files:
            assert begun.acquire(timeout=10)
        results.append(threads.submit(one.prepare, loads[-1]))
        for each, result in reversed(list(zip(loads, results, strict=True))):
            assert not result.done()
            each.stopped.set()
            assert isinstance(result.exception(10), CancelledError)
    assert in_cache(tmp_path) == []


def test_a_load_that_is_not_wanted_reads_nothing(tmp_path: Path, file: Path, keras: FakeKeras) -> None:
    late = load(file)
    late.stopped.set()
    with pytest.raises(CancelledError):
        converted(tmp_path, keras).prepare(late)
    assert keras.jobs == []


def test_without_keras(tmp_path: Path, file: Path, keras: FakeKeras, installed: dict[str, str]) -> None:
    installed.clear()
    with pytest.raises(
        StatusError, match=r"Keras and TensorFlow's Python package are not installed"
    ) as caught:
        converted(tmp_path, keras).prepare(load(file))
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
    place = one.prepare(load(model))
    assert os.path.basename(place).startswith("m-1-")
    assert Path(place, "assets.extra", warmup.name).read_bytes() == b"one"
    assert keras.jobs[0].source == str(model / name)
    warmup.write_bytes(b"two")
    assert Path(one.prepare(load(model)), "assets.extra", warmup.name).read_bytes() == b"two"


# ---- files that are none


def special(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "m" / "1" / "assets.extra" / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    else:
        targets = {"device": "/dev/zero", "loop": "odd", "above": "..", "nothing": "gone"}
        path.symlink_to(targets[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "it is a pipe, and a file was expected"),
        ("socket", "No such device or address"),
        ("device", "it is a device"),
        ("loop", "Too many levels of symbolic links"),
        ("above", "a link to a folder that it is in"),
        ("nothing", "a link to nothing"),
    ],
)
@pytest.mark.parametrize("kind_of_model", ["convert", "heal"])
def test_what_is_no_file_is_named(
    tmp_path: Path, keras: FakeKeras, kind: str, words: str, kind_of_model: str
) -> None:
    model = tmp_path / "m" / "1"
    (model / "assets.extra").mkdir(parents=True)
    (model / ("model.keras" if kind_of_model == "convert" else "saved_model.pb")).write_bytes(b"k")
    path = special(tmp_path, kind)
    one = converted(tmp_path, keras)
    with pytest.raises(StatusError) as caught:
        one.prepare(load(model)) if kind_of_model == "convert" else one.heal(load(model), HIDDEN)
    said = f"{caught.value.message}\n{caught.value.hint}"
    assert f"{path}" in said and " cannot be read: " in said and words in said
    assert caught.value.code == "FAILED_PRECONDITION" and keras.jobs == []


def test_links_to_files_and_folders_are_followed(tmp_path: Path, keras: FakeKeras) -> None:
    model = tmp_path / "m" / "1"
    (model / "assets.extra").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "one").write_bytes(b"1")
    (model / "assets.extra" / "folder").symlink_to(tmp_path / "elsewhere")
    (model / "assets.extra" / "twice").symlink_to(tmp_path / "elsewhere")
    (model / "model.keras").write_bytes(b"k")
    one = converted(tmp_path, keras)
    place = Path(one.prepare(load(model)))
    assert (place / "assets.extra" / "folder" / "one").read_bytes() == b"1"
    assert (place / "assets.extra" / "twice" / "one").read_bytes() == b"1"
    (tmp_path / "elsewhere" / "one").write_bytes(b"2")
    assert one.prepare(load(model)) != str(place)


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
    place = one.heal(load(blind), HIDDEN)
    assert Path(place, "saved_model.pb").read_bytes() == b"graph"
    assert one.heal(load(blind), HIDDEN) == place
    assert [job.kind for job in keras.jobs] == ["heal"]
    assert "all 2 have their values" in caplog.text
    assert "the answers of serving_default are the same" in caplog.text
    (blind / "variables" / "variables.index").write_bytes(b"other")
    assert one.heal(load(blind), HIDDEN) != place


def test_what_cannot_be_healed_has_the_error_of_before_and_why(
    tmp_path: Path, blind: Path, keras: FakeKeras, installed: dict[str, str]
) -> None:
    def refuse(job: Job, stopped: threading.Event) -> None:
        raise StatusError("FAILED_PRECONDITION", "its checkpoint has no values for kernel")

    keras.on_run = refuse
    one = converted(tmp_path, keras)
    with pytest.raises(StatusError) as caught:
        one.heal(load(blind), HIDDEN)
    assert (caught.value.code, caught.value.message) == (HIDDEN.code, HIDDEN.message)
    assert "model.export(folder)" in caught.value.hint
    assert f"healing {blind} failed: its checkpoint has no values for kernel" in caught.value.hint
    installed.clear()
    with pytest.raises(StatusError) as caught:
        one.heal(load(blind), HIDDEN)
    assert caught.value.message == HIDDEN.message
    assert 'pip install "servable[cpu]"' in caught.value.hint


def test_names_of_files_need_not_be_utf_8(tmp_path: Path, keras: FakeKeras) -> None:
    folder = tmp_path / "m" / "1"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"content")
    Path(os.fsdecode(os.fsencode(folder / "assets.extra") + b"/\xff")).write_bytes(b"extra")
    place = converted(tmp_path, keras).prepare(load(folder))
    assert os.listdir(os.fsencode(place) + b"/assets.extra") == [b"\xff"]
    assert converted(tmp_path, keras).prepare(load(folder)) == place
