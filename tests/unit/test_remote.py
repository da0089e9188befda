"""Remote stores with fsspec's own memory and local file systems: listing, fetching, the cache."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from servable.config.model_paths import cache_dir, is_remote, model_from_path
from servable.config.values import All, Latest, ModelConfig, Specific, VersionPolicy
from servable.errors import StatusError
from servable.sources import AspiredVersion, Receiver
from servable.sources.ahead import bring_ahead
from servable.sources.cache import Cache, RemoteFile, digest, md5_of
from servable.sources.remote import RemoteSource, pause_after
from servable.sources.routing import RoutedSource
from servable.sources.store import FsspecStore

fsspec = pytest.importorskip("fsspec")

GRAPH = b"a graph"


class Announcements:
    """A receiver that stores the last announcement of each model."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.last: dict[str, tuple[AspiredVersion, ...] | None] = {}

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        with self.changed:
            self.last[model] = versions
            self.changed.notify_all()

    def missing(self, model: str) -> None:
        with self.changed:
            self.last[model] = None
            self.changed.notify_all()

    def wait_for(self, model: str, *versions: int) -> dict[int, str]:
        """Waits until exactly these are announced; returns version → folder."""

        def numbers() -> list[int]:
            return [one.version for one in self.last.get(model) or ()]

        with self.changed:
            reached = self.changed.wait_for(lambda: model in self.last and numbers() == list(versions), 10)
            assert reached, f"wanted {versions}, got {self.last}"
            return {one.version: one.path for one in self.last[model] or ()}

    def wait_for_missing(self, model: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.last.get(model, ()) is None, 10), self.last


@pytest.fixture
def bucket() -> Iterator[str]:
    """A base path in memory that no other test uses."""
    base = f"memory://bucket-{uuid.uuid4().hex}/models/m"
    yield base
    memory = fsspec.filesystem("memory")
    if memory.exists(base):
        memory.rm(base, recursive=True)


def put(base: str, *versions: int | str, content: bytes = GRAPH) -> None:
    memory = fsspec.filesystem("memory")
    for version in versions:
        memory.pipe(f"{base}/{version}/saved_model.pb", content)
        memory.pipe(f"{base}/{version}/variables/variables.index", b"index")


class Watched:
    """A source on one base path, with its announcements; one model per policy: m, m1, m2, …"""

    def __init__(self, base: str, cache: Path, *policies: VersionPolicy) -> None:
        self.source = RemoteSource(0.01, str(cache))
        self.heard = Announcements()
        self.source.watch(
            [
                ModelConfig(f"m{number or ''}", base, policy=policy)
                for number, policy in enumerate(policies or (Latest(),))
            ]
        )
        self.source.start(self.heard)

    def __enter__(self) -> Announcements:
        return self.heard

    def __exit__(self, *_: object) -> None:
        self.source.stop()


def test_versions_are_fetched_and_announced(bucket: str, tmp_path: Path) -> None:
    put(bucket, 1, 3, "not-a-version")
    with Watched(bucket, tmp_path) as heard:
        folder = Path(heard.wait_for("m", 3)[3])
        assert (folder / "saved_model.pb").read_bytes() == GRAPH
        assert (folder / "variables" / "variables.index").read_bytes() == b"index"
        put(bucket, 4)
        heard.wait_for("m", 4)


def test_the_policy_counts(bucket: str, tmp_path: Path) -> None:
    put(bucket, 1, 2, 10)
    with Watched(bucket, tmp_path, All()) as heard:
        heard.wait_for("m", 1, 2, 10)


def test_a_saved_model_in_the_base_path_is_version_1(bucket: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe(f"{bucket}/saved_model.pb", GRAPH)
    with Watched(bucket, tmp_path) as heard:
        heard.wait_for("m", 1)


def test_what_has_changed_is_fetched_anew(bucket: str, tmp_path: Path) -> None:
    put(bucket, 1, content=b"half")
    with Watched(bucket, tmp_path) as heard:
        before = heard.wait_for("m", 1)[1]
        put(bucket, 1, content=b"the whole of it")
        with heard.changed:
            assert heard.changed.wait_for(lambda: (heard.last["m"] or ())[0].path != before, 10)
        after = heard.wait_for("m", 1)[1]
        assert (Path(after) / "saved_model.pb").read_bytes() == b"the whole of it"


@pytest.mark.parametrize("file", ["model.onnx", "model.tflite"])
def test_versions_of_other_formats(bucket: str, tmp_path: Path, file: str) -> None:
    fsspec.filesystem("memory").pipe(f"{bucket}/4/{file}", GRAPH)
    with Watched(bucket, tmp_path) as heard:
        assert (Path(heard.wait_for("m", 4)[4]) / file).read_bytes() == GRAPH
    lone = f"{bucket}/lone"
    fsspec.filesystem("memory").pipe(f"{lone}/{file}", GRAPH)
    with Watched(lone, tmp_path) as heard:
        assert (Path(heard.wait_for("m", 1)[1]) / file).read_bytes() == GRAPH


def test_a_models_file_is_a_version_and_is_followed(bucket: str, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(f"{bucket}/net.XML", GRAPH)
    memory.pipe(f"{bucket}/net.bin", b"weights")
    memory.pipe(f"{bucket}/other.onnx", GRAPH)
    with Watched(f"{bucket}/net.XML", tmp_path) as heard:
        before = Path(heard.wait_for("m", 1)[1])
        assert {one.name: one.read_bytes() for one in before.iterdir()} == {
            "model.xml": GRAPH,
            "model.bin": b"weights",
        }
        memory.pipe(f"{bucket}/net.bin", b"other weights")
        with heard.changed:
            assert heard.changed.wait_for(lambda: (heard.last["m"] or ())[0].path != str(before), 10)
            (place,) = heard.last["m"] or ()
        assert place.reloads
        assert (Path(place.path) / "model.bin").read_bytes() == b"other weights"


def test_a_models_file_that_is_not_there(bucket: str, tmp_path: Path) -> None:
    with Watched(f"{bucket}/net.onnx", tmp_path) as heard:
        heard.wait_for_missing("m")


def test_a_store_that_is_away_leaves_what_is_announced(bucket: str, tmp_path: Path) -> None:
    put(bucket, 1)
    with Watched(bucket, tmp_path) as heard:
        heard.wait_for("m", 1)
    fsspec.filesystem("memory").rm(bucket, recursive=True)
    with Watched(bucket, tmp_path) as heard:
        heard.wait_for("m", 1)


@pytest.mark.parametrize("question", ["versions", "files"])
def test_a_store_that_says_nothing_does_not_hold_up_what_is_in_the_cache(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    put(bucket, 1)
    with Watched(bucket, tmp_path) as heard:
        heard.wait_for("m", 1)
    put(bucket, 2)
    answers, answer = threading.Event(), getattr(FsspecStore, question)

    def silent(*asked: object) -> object:
        assert answers.wait(60)
        return answer(*asked)

    monkeypatch.setattr(FsspecStore, question, silent)
    monkeypatch.setattr("servable.sources.remote_model.SILENCE_SECONDS", 0.05)
    with Watched(bucket, tmp_path) as heard:
        heard.wait_for("m", 1)
        answers.set()
        heard.wait_for("m", 2)


def test_a_store_that_was_never_there_is_missing(
    bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Watched(bucket, tmp_path) as heard:
        heard.wait_for_missing("m")
        put(bucket, 2)
        heard.wait_for("m", 2)
    assert caplog.text.count(f"Could not find base path {bucket} for servable m") == 1


def test_old_versions_leave_the_cache(bucket: str, tmp_path: Path) -> None:
    put(bucket, 1)
    with Watched(bucket, tmp_path) as heard:
        heard.wait_for("m", 1)
        for version in (2, 3, 4):
            put(bucket, version)
            heard.wait_for("m", version)
        (folder,) = tmp_path.iterdir()
        assert until(lambda: {one.name.partition("-")[0] for one in folder.iterdir()} == {"4"})


def until(reached: Callable[[], bool]) -> bool:
    """Returns whether ``reached`` becomes true within ten seconds."""
    pause = threading.Event()
    return any(reached() or pause.wait(0.01) for _ in range(1000))


class Reads:
    """Counts requests to stores; ``failing`` is raised for files named ``broken``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: Exception | None = None) -> None:
        self.files: Counter[str] = Counter()
        self.looks = 0
        read, versions = FsspecStore.read, FsspecStore.versions

        def counted_read(store: FsspecStore, place: str, file: RemoteFile) -> Iterator[bytes]:
            self.files[f"{place.rpartition('/')[2]}/{file.path}"] += 1
            if failing is not None and file.path == "broken":
                raise failing
            return read(store, place, file)

        def counted_versions(store: FsspecStore) -> dict[int, str]:
            self.looks += 1
            return versions(store)

        monkeypatch.setattr(FsspecStore, "read", counted_read)
        monkeypatch.setattr(FsspecStore, "versions", counted_versions)

    def wait_for_looks(self, more: int) -> None:
        wanted = self.looks + more
        assert until(lambda: self.looks >= wanted)


def test_models_on_one_base_path_fetch_once(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(bucket, 1)
    reads = Reads(monkeypatch)
    counted, files, listed = FsspecStore.read, FsspecStore.files, threading.Semaphore(0)

    def listing(store: FsspecStore, place: str) -> tuple[RemoteFile, ...]:
        found = files(store, place)
        listed.release()
        return found

    def read_once_all_have_listed(store: FsspecStore, place: str, file: RemoteFile) -> Iterator[bytes]:
        if not reads.files:
            assert all(listed.acquire(timeout=10) for _ in range(4))
        return counted(store, place, file)

    monkeypatch.setattr(FsspecStore, "files", listing)
    monkeypatch.setattr(FsspecStore, "read", read_once_all_have_listed)
    with Watched(bucket, tmp_path, *[Latest()] * 4) as heard:
        folders = {heard.wait_for(name, 1)[1] for name in ("m", "m1", "m2", "m3")}
        reads.wait_for_looks(12)
    assert (len(folders), set(reads.files.values()), caplog.text) == (1, {1}, "")


def test_models_and_servers_leave_each_other_their_versions(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, 1, 2, 3)
    reads = Reads(monkeypatch)
    with (
        Watched(bucket, tmp_path, Latest(), Specific((1,))) as heard,
        Watched(bucket, tmp_path, Specific((2,))) as other,
    ):
        folders = [*heard.wait_for("m", 3).values(), *heard.wait_for("m1", 1).values()]
        folders += other.wait_for("m", 2).values()
        reads.wait_for_looks(15)
        assert [Path(one).exists() for one in folders] == [True, True, True]
    assert set(reads.files.values()) == {1}


@pytest.mark.parametrize("failing", [PermissionError(13, "denied"), RuntimeError("what stores raise")])
def test_a_version_that_cannot_be_fetched_again_takes_nothing_away(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: Exception
) -> None:
    put(bucket, 1, 2)
    reads = Reads(monkeypatch, failing)
    memory = fsspec.filesystem("memory")
    with Watched(bucket, tmp_path, All(), Latest(2)) as heard:
        before = heard.wait_for("m", 1, 2)
        assert heard.wait_for("m1", 1, 2) == before
        memory.pipe(f"{bucket}/2/broken", b"x")
        reads.wait_for_looks(6)
        assert reads.files["2/broken"] > 1
        assert (heard.wait_for("m", 1, 2), heard.wait_for("m1", 1, 2)) == (before, before)
        put(bucket, 3)  # other versions come and go meanwhile
        memory.rm(f"{bucket}/1", recursive=True)
        assert heard.wait_for("m", 2, 3)[2] == heard.wait_for("m1", 2, 3)[2] == before[2]
        memory.rm(f"{bucket}/2/broken")
        memory.pipe(f"{bucket}/2/whole", b"x")
        assert until(lambda: heard.wait_for("m", 2, 3)[2] != before[2])


def test_a_full_cache_takes_nothing_away(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(bucket, 1, 2)
    reads = Reads(monkeypatch)
    with Watched(bucket, tmp_path, All()) as heard:
        before = heard.wait_for("m", 1, 2)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        put(bucket, 2, content=b"more of it")
        assert until(lambda: "choose another folder: --model_cache_dir" in caplog.text)
        reads.wait_for_looks(2)
        assert heard.wait_for("m", 1, 2) == before


def test_a_server_that_cannot_fetch_serves_what_an_earlier_one_fetched(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, 1, 2)
    with Watched(bucket, tmp_path, All()) as heard:
        before = heard.wait_for("m", 1, 2)
    fsspec.filesystem("memory").pipe(f"{bucket}/2/broken", b"x")
    Reads(monkeypatch, OSError("broken"))
    with Watched(bucket, tmp_path, All()) as heard:
        assert heard.wait_for("m", 1, 2) == before


def test_the_cache_of_a_model_that_is_gone_goes(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, 1, 2)
    reads = Reads(monkeypatch)
    both = Watched(bucket, tmp_path, Latest(), Specific((1,)))
    with both as heard:
        (newest,) = heard.wait_for("m", 2).values()
        (pinned,) = heard.wait_for("m1", 1).values()
        both.source.watch([ModelConfig("m1", bucket, policy=Specific((1,)))])
        assert until(lambda: not Path(newest).exists())
        assert Path(pinned).exists()
        both.source.watch([])
        assert until(lambda: os.listdir(tmp_path) == [])
    assert set(reads.files.values()) == {1}


def test_the_cache_outlives_the_server(bucket: str, tmp_path: Path) -> None:
    put(bucket, 1)
    watched = Watched(bucket, tmp_path)
    with watched as heard:
        (folder,) = heard.wait_for("m", 1).values()
    threads = [one for one in threading.enumerate() if one.name == "remote-m"]
    for thread in threads:
        thread.join(10)
    assert Path(folder, "saved_model.pb").exists()


# ---- the cache


FILES = (RemoteFile("saved_model.pb", len(GRAPH), "tag", hashlib.md5(GRAPH).hexdigest()),)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    made = Cache(str(tmp_path), "s3://bucket/m")
    made.prepare()
    return made


def fetch(cache: Cache, content: bytes, files: tuple[RemoteFile, ...] = FILES) -> str:
    return cache.fetch(7, files, lambda _: iter([content]), threading.Event())


def test_a_fetched_version_is_whole(cache: Cache) -> None:
    assert not cache.holds(7, FILES)
    folder = fetch(cache, GRAPH)
    assert cache.holds(7, FILES)
    assert cache.versions() == {7: folder}
    Path(folder, "saved_model.pb").write_bytes(b"cut")
    assert not cache.holds(7, FILES)
    assert cache.versions() == {}


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"short", "expected 7 bytes, got 5"), (b"a GRAPH", "expected MD5")]
)
def test_what_is_not_what_the_store_says_is_refused(cache: Cache, content: bytes, complaint: str) -> None:
    with pytest.raises(StatusError, match=complaint):
        fetch(cache, content)
    assert os.listdir(cache.folder) == []


def test_a_full_disk_is_said_and_leaves_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = (RemoteFile("saved_model.pb", 1 << 60),)
    with pytest.raises(StatusError, match=r"are needed and .* are free") as error:
        fetch(cache, GRAPH, huge)
    assert (error.value.code, "--model_cache_dir" in error.value.hint) == ("RESOURCE_EXHAUSTED", True)
    assert os.listdir(cache.folder) == []


def test_a_path_that_leads_out_is_refused(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="leads out of its folder"):
        fetch(cache, GRAPH, (RemoteFile("../../outside", len(GRAPH)),))
    assert not (tmp_path.parent / "outside").exists()


def test_a_stop_ends_a_fetch(cache: Cache) -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(StatusError, match="the server is stopping"):
        cache.fetch(7, FILES, lambda _: iter([GRAPH]), stopped)
    assert os.listdir(cache.folder) == []


def test_what_is_used_is_not_evicted(cache: Cache, tmp_path: Path) -> None:
    folder = fetch(cache, GRAPH)
    other = Cache(str(tmp_path), "s3://bucket/m")
    assert other.claim(folder)
    cache.evict(set())
    cache.close(clear=True)
    assert other.claim(folder)
    other.evict(set())
    assert not other.claim(folder)
    assert os.listdir(cache.folder) == []


def test_a_fetch_waits_for_its_turn(cache: Cache, tmp_path: Path) -> None:
    other, stopped = Cache(str(tmp_path), "s3://bucket/m"), threading.Event()
    place = cache.place(7, FILES)
    with cache.turn(place, stopped):
        stopped.set()
        with pytest.raises(StatusError, match="the server is stopping"), other.turn(place, stopped):
            pass
    with other.turn(place, stopped):
        pass
    assert os.listdir(cache.folder) == []


FETCHING = """
import sys, threading
from servable.sources.cache import Cache, RemoteFile
cache = Cache(sys.argv[1], "s3://bucket/m")
def read(file):
    yield b"half of"
    print(flush=True)
    sys.stdin.read()
files = (RemoteFile("saved_model.pb", 100),)
with cache.turn(cache.place(8, files), threading.Event()):
    cache.fetch(8, files, read, threading.Event())
"""


def test_what_the_dead_left_is_removed(cache: Cache, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FETCHING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        cache.prepare()
        cache.evict(set())
        assert len(os.listdir(cache.folder)) == 3  # its partial file, its turn, its claim
        process.kill()
    cache.prepare()
    cache.evict(set())
    assert os.listdir(cache.folder) == []


def test_a_cache_that_knows_no_locks_is_used_and_left_alone(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    folder = fetch(cache, GRAPH)
    assert cache.claim(folder)
    cache.close(clear=True)
    assert cache.holds(7, FILES)


def test_digests_stay_the_same() -> None:
    """What earlier versions have fetched is found again."""
    files = (RemoteFile("b", 2, "tag", "0" * 32), RemoteFile("a/ä", 1))
    assert digest(files) == digest(files[::-1])
    fields = [asdict(one) for one in files[::-1]]
    assert digest(files) == hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:16]


def test_digests_tell_listings_apart() -> None:
    assert digest(FILES) != digest((RemoteFile("saved_model.pb", len(GRAPH), "other"),))
    assert md5_of('"' + "0" * 32 + '"') == "0" * 32
    assert md5_of('"' + "0" * 32 + '-2"') == ""
    assert md5_of("XrY7u+Ae7tCTyyK7j1rNww==") == "5eb63bbbe01eeed093cb22bb8f5acdc3"


# ---- choosing the store and the pause, and routing models


def test_a_missing_package_is_named() -> None:
    with pytest.raises(StatusError) as error:
        FsspecStore("nothing-like-this://bucket/m")
    assert error.value.code == "INVALID_ARGUMENT"


def test_pauses_grow_and_vary() -> None:
    assert pause_after(0, 30, 0) == 30
    assert pause_after(1, 30, 0) == 60
    assert pause_after(50, 30, 0) == 600
    assert pause_after(0, 30, -1) == pytest.approx(27)
    assert pause_after(3, 3600, 1) == pytest.approx(3960)


def test_paths_are_told_apart() -> None:
    assert [is_remote(one) for one in ("/m", "file:///m", "s3://b/m")] == [False, False, True]
    assert model_from_path("s3://bucket/models/m") == ModelConfig("m", "s3://bucket/models/m")
    assert model_from_path("n=s3://bucket/m/") == ModelConfig("n", "s3://bucket/m/")
    assert model_from_path("https://example.com/m.tar.gz").name == "m"


class HandSource:
    """A source that announces what the test tells it to."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.receiver: Receiver | None = None

    def watch(self, models: list[ModelConfig]) -> None:
        self.models = [f"{model.name}={model.base_path}" for model in models]

    def start(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def stop(self) -> None:
        self.receiver = None


def test_a_model_is_announced_by_the_source_its_path_is_for() -> None:
    local, remote, heard = HandSource(), HandSource(), Announcements()
    routed = RoutedSource(local, lambda: remote)  # type: ignore[arg-type]
    routed.start(heard)
    routed.watch([ModelConfig("a", "file:///models/a"), ModelConfig("b", "/b")])
    assert (local.models, remote.receiver) == (["a=/models/a", "b=/b"], None)
    routed.watch([ModelConfig("a", "s3://bucket/a"), ModelConfig("b", "/b")])
    assert (local.models, remote.models) == (["b=/b"], ["a=s3://bucket/a"])
    assert remote.receiver is not None and local.receiver is not None
    remote.receiver.aspire("a", (AspiredVersion(1, "/cache/a/1"),))
    local.receiver.aspire("a", ())
    assert heard.last == {"a": (AspiredVersion(1, "/cache/a/1"),)}
    routed.stop()


def test_progress_is_logged(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("servable.sources.cache.PROGRESS_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        fetch(cache, GRAPH)
    assert "100 % of 7 B" in caplog.text


def test_where_the_cache_is() -> None:
    assert cache_dir("/models/cache", {}) == "/models/cache"
    assert cache_dir("", {"XDG_CACHE_HOME": "/x"}) == "/x/servable"
    assert cache_dir("", {}) == os.path.expanduser("~/.cache/servable")


def test_a_model_is_brought_before_a_server_asks_for_it(tmp_path: Path) -> None:
    bucket, cache = f"memory://bucket-{uuid.uuid4().hex}", str(tmp_path / "cache")
    files = fsspec.filesystem("memory")
    for version in (1, 2, 3):
        files.pipe(f"{bucket}/m/{version}/saved_model.pb", GRAPH)
    m = ModelConfig("m", f"{bucket}/m", policy=Specific((1, 3)))
    bring_ahead(m, cache)
    found = Cache(cache, m.base_path).versions()
    assert sorted(found) == [1, 3]
    before = {place: os.stat(place).st_ino for place in found.values()}
    # Again, it is not fetched again; and it is nobody's, so that it can go.
    bring_ahead(m, cache)
    found = Cache(cache, m.base_path).versions()
    assert {place: os.stat(place).st_ino for place in found.values()} == before
    bring_ahead(ModelConfig("m", m.base_path, policy=Latest()), cache)
    assert sorted(Cache(cache, m.base_path).versions()) == [3]
    with pytest.raises(FileNotFoundError):
        bring_ahead(ModelConfig("none", f"{bucket}/none"), cache)
    for path in (str(tmp_path), "http://127.0.0.1:9/m.zip"):
        bring_ahead(ModelConfig("m", path), cache)
