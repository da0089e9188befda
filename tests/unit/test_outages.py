"""Stores that did not answer a moment ago."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_remote import Announcements

from servable.config.values import ModelConfig
from servable.errors import StatusError
from servable.sources.cache import Cache
from servable.sources.outages import AWAY_SECONDS, SLOW_SECONDS, Outages
from servable.sources.remote_model import RemoteModel
from servable.sources.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("error", "took", "is_away"),
    [
        (OSError("connect timeout"), SLOW_SECONDS, True),
        (RuntimeError("what stores raise"), SLOW_SECONDS, True),
        (OSError("connection refused"), 0.0, False),
        (FileNotFoundError("no such key"), SLOW_SECONDS, False),
        (PermissionError("denied"), SLOW_SECONDS, False),
        (StatusError("NOT_FOUND", "No versions of servable m found"), SLOW_SECONDS, False),
    ],
)
def test_what_fails_slowly_is_not_asked_for_a_while(error: Exception, took: float, is_away: bool) -> None:
    clock = Clock()
    outages, begun = Outages(clock), clock.now
    clock.now += took
    outages.failed("s3://bucket/models/m", error, begun)
    away = outages.of("s3://bucket/models/n")
    assert (away is not None) == is_away
    assert outages.of("s3://other/models/m") is outages.of("gs://bucket/m") is None
    if away is not None:
        assert away.message == f"s3://bucket did not answer a moment ago: {error}"
        clock.now += AWAY_SECONDS
        assert outages.of("s3://bucket/models/n") is None


def test_many_models_ask_a_silent_store_once(tmp_path: Path) -> None:
    clock, heard, asked = Clock(), Announcements(), list[str]()
    outages = Outages(clock)

    def model(name: str) -> RemoteModel:
        path = f"s3://bucket/models/{name}"

        def silent() -> Store:
            asked.append(name)
            clock.now += 60.0
            raise OSError("connect timeout")

        return RemoteModel(ModelConfig(name, path), Cache(str(tmp_path), path), heard, silent, outages)

    models = [model(f"m{number}") for number in range(5)]
    assert [one.poll() for one in models] == [1] * 5
    assert asked == ["m0"]
    heard.wait_for_missing("m4")
    clock.now += AWAY_SECONDS
    assert models[4].poll() == 2
    assert asked == ["m0", "m4"]


def test_models_that_are_fetched_first_ask_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servable.sources.outages.SLOW_SECONDS", 0.0)
    path, asked = "s3://bucket/models/m", list[str]()

    def away() -> Store:
        asked.append("m")
        raise OSError("connect timeout")

    model = RemoteModel(ModelConfig("m", path), Cache(str(tmp_path), path), Announcements(), away)
    assert [model.poll(), model.poll()] == [1, 2]
    assert asked == ["m", "m"]
