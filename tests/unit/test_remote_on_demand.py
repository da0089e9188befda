"""Remote versions that are fetched when they are loaded: nothing at the start, room on the disk, failures."""

from __future__ import annotations

import errno
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_remote import GRAPH, Announcements, put

from servable.config.values import All, Latest, ModelConfig
from servable.errors import CancelledError, StatusError
from servable.sources import AspiredVersion, VersionLoad
from servable.sources.cache import Cache
from servable.sources.discovery import BucketDiscovery
from servable.sources.listing import Listing
from servable.sources.remote import RemoteSource
from servable.sources.store import FsspecStore

fsspec = pytest.importorskip("fsspec")


class Lazy:
    """A source of models ``m0``, ``m1``, … in a bucket, with its announcements."""

    def __init__(self, cache: Path, listed: bool = False, poll_seconds: float = 0.01) -> None:
        self.bucket = f"memory://bucket-{uuid.uuid4().hex}/models"
        self.cache = cache
        self.heard = Announcements()
        self.listing = Listing() if listed else None
        self.discovery = BucketDiscovery(self.bucket, self.listing)
        self.source = RemoteSource(poll_seconds, str(cache), on_demand=True, listing=self.listing)

    def put(self, name: str, *versions: int, content: bytes = GRAPH) -> None:
        put(f"{self.bucket}/{name}", *versions, content=content)

    def watch(self, *names: str) -> None:
        self.source.watch([ModelConfig(name, f"{self.bucket}/{name}", policy=All()) for name in names])

    def start(self, *names: str) -> None:
        self.watch(*names)
        self.source.start(self.heard)

    def announced(self, name: str, *versions: int) -> dict[int, str]:
        return self.heard.wait_for(name, *versions)

    def load(self, name: str, version: int, path: str) -> VersionLoad:
        return VersionLoad(name, version, path, threading.Event())

    def bring(self, name: str, *versions: int) -> list[Path]:
        """Has versions of a model fetched, all of which are announced."""
        places = self.announced(name, *versions)
        for version, place in places.items():
            self.source.bring(self.load(name, version, place))
        return [Path(place) for place in places.values()]


@pytest.fixture(params=[False, True], ids=["polled", "listed"])
def lazy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lazy]:
    """Models that are polled one by one, or found by listing their bucket."""
    made = Lazy(tmp_path / "cache", listed=request.param)
    yield made
    made.source.stop()
    memory = fsspec.filesystem("memory")
    if memory.exists(made.bucket):
        memory.rm(made.bucket, recursive=True)


def fetched(cache: Path) -> list[str]:
    return sorted(path.parent.parent.name.rpartition("-")[0] for path in cache.glob("*/*/saved_model.pb"))


def test_nothing_is_fetched_before_it_is_loaded(lazy: Lazy) -> None:
    lazy.put("m0", 1, 2)
    lazy.put("m1", 1)
    lazy.discovery.look()
    lazy.start("m0", "m1")
    lazy.announced("m1", 1)
    places = lazy.announced("m0", 1, 2)
    assert not lazy.cache.exists()
    lazy.source.bring(lazy.load("m0", 2, places[2]))
    assert (Path(places[2]) / "saved_model.pb").read_bytes() == GRAPH
    assert not Path(places[1]).exists()
    assert fetched(lazy.cache) == ["m0"]


def test_a_version_is_fetched_once_and_stays_when_it_is_not_needed(
    lazy: Lazy, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    read = FsspecStore.read
    monkeypatch.setattr(
        FsspecStore, "read", lambda self, place, file: reads.update([file.path]) or read(self, place, file)
    )
    lazy.put("m0", 1)
    lazy.discovery.look()
    lazy.start("m0")
    lazy.bring("m0", 1)
    lazy.source.let_go("m0", 1)
    (place,) = lazy.bring("m0", 1)
    assert (place / "saved_model.pb").is_file()
    assert set(reads.values()) == {1}


def test_models_come_go_and_change(lazy: Lazy) -> None:
    lazy.put("m0", 1)
    lazy.discovery.look()
    lazy.start("m0")
    (place,) = lazy.bring("m0", 1)
    lazy.put("m0", 2)
    lazy.put("m1", 1)
    lazy.discovery.look()
    lazy.watch("m0", "m1")
    lazy.announced("m0", 1, 2)
    lazy.announced("m1", 1)
    lazy.watch("m1")
    lazy.announced("m0")
    lazy.announced("m1", 1)
    # One poll later.
    waiting = threading.Event()
    for _ in range(1000):
        if not place.exists():
            break
        waiting.wait(0.01)
    assert not place.exists()


def test_a_store_that_is_away_fails_the_load_and_not_the_next_one(
    lazy: Lazy, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy.put("m0", 1)
    lazy.discovery.look()
    lazy.start("m0")
    places = lazy.announced("m0", 1)
    with monkeypatch.context() as patch:

        def away(*_: object) -> None:
            raise RuntimeError("no route to the store")

        patch.setattr(FsspecStore, "read", away)
        with pytest.raises(StatusError, match="no route to the store") as failed:
            lazy.source.bring(lazy.load("m0", 1, places[1]))
        assert failed.value.code == "UNAVAILABLE"
        assert f"could not be fetched from {lazy.bucket}/m0" in failed.value.message
    assert fetched(lazy.cache) == []
    lazy.source.bring(lazy.load("m0", 1, places[1]))
    assert fetched(lazy.cache) == ["m0"]


def test_a_fetch_that_nobody_wants_any_more_ends(lazy: Lazy, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy.put("m0", 1, 2)
    lazy.discovery.look()
    lazy.start("m0")
    places = lazy.announced("m0", 1, 2)
    loads = {version: lazy.load("m0", version, place) for version, place in places.items()}
    entered, may_end = threading.Event(), threading.Event()

    def slow(*_: object) -> Iterator[bytes]:
        entered.set()
        while not may_end.wait(0.01):
            yield b"x"

    monkeypatch.setattr(FsspecStore, "read", slow)
    outcomes: dict[int, BaseException] = {}

    def bring(version: int) -> None:
        try:
            lazy.source.bring(loads[version])
        except BaseException as error:
            outcomes[version] = error

    threads = [threading.Thread(target=bring, args=(version,), daemon=True) for version in (1, 2)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    # Of the model that is being fetched: that waits for nothing.
    lazy.source.let_go("m0", 2)
    for version, thread in zip((2, 1), reversed(threads), strict=True):
        loads[version].stopped.set()
        thread.join(10)
        assert isinstance(outcomes[version], CancelledError)
    assert fetched(lazy.cache) == []


def test_what_was_needed_longest_ago_makes_room_on_the_disk(
    lazy: Lazy, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 2 * len(GRAPH + b"index")
    names = ("m0", "m1", "m2")
    for name in names:
        lazy.put(name, 1)
    lazy.discovery.look()
    lazy.start(*names)

    def check_room(self: Cache, files: object) -> None:
        if len(fetched(lazy.cache)) >= 2:
            raise OSError(errno.ENOSPC, "2 models fit", self.folder)

    monkeypatch.setattr(Cache, "_check_room", check_room)
    monkeypatch.setattr("servable.sources.remote.free_bytes", lambda _: room)
    lazy.bring("m0", 1)
    lazy.bring("m1", 1)
    with pytest.raises(StatusError, match="2 models fit") as refused:
        lazy.bring("m2", 1)
    assert refused.value.code == "RESOURCE_EXHAUSTED", "both are needed"
    lazy.source.let_go("m1", 1)
    lazy.source.let_go("m0", 1)
    lazy.bring("m2", 1)
    assert fetched(lazy.cache) == ["m0", "m2"]


def test_what_fits_no_disk_takes_nothing_away(lazy: Lazy, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy.put("m0", 1)
    lazy.put("m1", 1, content=bytes(10_000))
    lazy.discovery.look()
    lazy.start("m0", "m1")
    lazy.bring("m0", 1)
    lazy.source.let_go("m0", 1)

    def check_room(self: Cache, _: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is small", self.folder)

    monkeypatch.setattr(Cache, "_check_room", check_room)
    monkeypatch.setattr("servable.sources.remote.free_bytes", lambda _: 1000)
    with pytest.raises(StatusError, match="the disk is small"):
        lazy.bring("m1", 1)
    assert fetched(lazy.cache) == ["m0"]


def test_many_models_have_few_threads(lazy: Lazy) -> None:
    names = [f"m{number}" for number in range(200)]
    for name in names:
        lazy.put(name, 1)
    lazy.discovery.look()
    before = threading.active_count()
    lazy.start(*names)
    for name in names:
        lazy.announced(name, 1)
    assert threading.active_count() - before <= 8


def test_what_an_earlier_server_fetched_serves_while_the_store_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Lazy(tmp_path)
    first.put("m0", 1)
    first.start("m0")
    first.bring("m0", 1)
    first.source.stop()

    def away(*_: object) -> None:
        raise OSError("no route to the store")

    monkeypatch.setattr(FsspecStore, "versions", away)
    second = Lazy(tmp_path)
    second.bucket = first.bucket
    second.start("m0", "m1")
    try:
        (place,) = second.bring("m0", 1)
        assert (place / "saved_model.pb").read_bytes() == GRAPH
        second.heard.wait_for_missing("m1")
    finally:
        second.source.stop()


def test_archives_are_fetched_before_they_are_announced(tmp_path: Path) -> None:
    source = RemoteSource(0.01, str(tmp_path), on_demand=True)
    heard = Announcements()
    source.watch([ModelConfig("m", "http://127.0.0.1:9/m.zip", policy=Latest())])
    source.start(heard)
    try:
        heard.wait_for_missing("m")
        assert "remote-m" in {one.name for one in threading.enumerate()}
        source.bring(VersionLoad("m", 1, str(tmp_path / "m"), threading.Event()))
    finally:
        source.stop()


def test_what_was_announced_and_changed_since_is_said(lazy: Lazy) -> None:
    lazy.put("m0", 1)
    lazy.discovery.look()
    lazy.start("m0")
    lazy.announced("m0", 1)
    gone = AspiredVersion(1, str(lazy.cache / "m0-0" / "1-0123456789abcdef"))
    with pytest.raises(StatusError, match=r"is not in .* any more") as refused:
        lazy.source.bring(lazy.load("m0", 1, gone.path))
    assert refused.value.code == "UNAVAILABLE"
