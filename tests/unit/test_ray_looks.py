"""Looks at stores, in threads: how long they are waited for, and which hold up which."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from servable.errors import NotFoundError, UnavailableError
from servable.ray import looks
from servable.ray.looks import LOOKS, SILENT_SECONDS, Looks, store_of


@pytest.fixture
def silence() -> Iterator[threading.Event]:
    """Is over when the test is."""
    made = threading.Event()
    yield made
    made.set()


class Clock:
    """Time as a test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(test: Callable[[Looks, Clock], Awaitable[None]]) -> None:
    async def begun() -> None:
        clock = Clock()
        await asyncio.wait_for(test(Looks(clock), clock), 30)

    asyncio.run(begun())


def nothing() -> None:
    """Finds what is looked for."""


def absent() -> None:
    raise NotFoundError("NOT_FOUND", "none")


def test_stores_wait_for_themselves_alone(silence: threading.Event) -> None:
    async def test(made: Looks, _: Clock) -> None:
        waiting = [
            asyncio.ensure_future(made.look("s3://away/x", silence.wait))  # type: ignore[arg-type]
            for _ in range(2 * LOOKS)
        ]
        for other in ("s3://here/x", "https://away/x", "/models/x", "file:///models/x"):
            await made.look(other, nothing)
            with pytest.raises(NotFoundError):
                await made.look(other, absent)
        silence.set()
        await asyncio.gather(*waiting)

    run(test)


def test_a_store_that_was_silent_is_not_asked_for_a_while(
    silence: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(made: Looks, clock: Clock) -> None:
        monkeypatch.setattr(looks, "LOOK_SECONDS", 0.01)
        with pytest.raises(UnavailableError, match="s3://away does not answer"):
            await made.look("s3://away/{model}", silence.wait)  # type: ignore[arg-type]
        with pytest.raises(UnavailableError):
            await made.look("s3://away/other", pytest.fail)
        clock.now += SILENT_SECONDS
        monkeypatch.setattr(looks, "LOOK_SECONDS", 20)
        await made.look("s3://away/other", nothing)

    run(test)


def test_a_store_that_answers_others_is_only_busy(
    silence: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(made: Looks, _: Clock) -> None:
        await made.look("s3://busy/x", nothing)
        monkeypatch.setattr(looks, "LOOK_SECONDS", 0.01)
        with pytest.raises(UnavailableError):
            await made.look("s3://busy/large", silence.wait)  # type: ignore[arg-type]
        monkeypatch.setattr(looks, "LOOK_SECONDS", 20)
        await made.look("s3://busy/x", nothing)

    run(test)


def test_a_disk_that_is_silent_is_none_of_the_others(
    silence: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(made: Looks, _: Clock) -> None:
        monkeypatch.setattr(looks, "LOOK_SECONDS", 0.01)
        with pytest.raises(UnavailableError, match="the folder of models does not answer"):
            await made.look("/mnt/away", silence.wait)  # type: ignore[arg-type]
        monkeypatch.setattr(looks, "LOOK_SECONDS", 20)
        await made.look("/models", nothing)

    run(test)


def test_what_waited_too_long_is_not_begun_later(
    silence: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(made: Looks, clock: Clock) -> None:
        monkeypatch.setattr(looks, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(looks, "SILENT_SECONDS", 0)
        begun: list[int] = []
        for _ in range(LOOKS):
            with pytest.raises(UnavailableError):
                await made.look("s3://away/x", silence.wait)  # type: ignore[arg-type]
        for number in range(3):
            with pytest.raises(UnavailableError):
                await made.look("s3://away/x", lambda number=number: begun.append(number))  # type: ignore[misc]
        # The loop passes on that they are cancelled.
        await asyncio.to_thread(int)
        silence.set()
        monkeypatch.setattr(looks, "LOOK_SECONDS", 20)
        await made.look("s3://away/x", lambda: begun.append(9))
        assert begun == [9]

    run(test)


def test_stores_that_are_left_out_are_let_go(silence: threading.Event) -> None:
    async def test(made: Looks, _: Clock) -> None:
        await made.look("s3://one/x", nothing)
        await made.look("s3://two/x", nothing)
        made.keep(["s3://two/{model}"])
        await made.look("s3://one/x", nothing)
        assert sorted(made._stores) == ["s3://one", "s3://two"]
        made.keep([])
        assert made._stores == {}

    run(test)


def test_the_store_of_a_path() -> None:
    for path, store in [
        ("s3://bucket/models/{model}", "s3://bucket"),
        ("s3://{model}/1", "s3://{model}"),
        ("https://me:secret@host:8443/x.zip?signed", "https://host:8443"),
        ("http://[::1]:80/x", "http://[::1]:80"),
        ("http://[::1/x", "http://[::1"),
        ("/models/x", ""),
        ("file:///models/x", ""),
    ]:
        assert store_of(path) == store, path
