"""What is said of how many models are available, at the start and once more."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from fake_core import FakeCore, FakeError

from servable.config.values import CoreOptions, LifecycleOptions, LoadOptions, ModelConfig, ServerConfig
from servable.lifecycle import manager
from servable.lifecycle.availability import Availability
from servable.serving.server import Server
from servable.serving.surroundings import Surroundings
from servable.serving.systemd import Notifier

ENDED = {Availability.AVAILABLE, Availability.FAILED}


class Told(Notifier):
    """Keeps what systemd is told."""

    def __init__(self) -> None:
        super().__init__({})
        self.lines: list[tuple[str, ...]] = []

    def _tell(self, *lines: str) -> None:
        self.lines.append(lines)


def started(folder: Path, core: FakeCore, *names: str, notifier: Notifier | None = None) -> Server:
    """Returns a started server of these models, each with version 1 unless its folder is there already."""
    for name in names:
        (folder / name).is_dir() or (folder / name / "1").mkdir(parents=True)
    models = tuple(ModelConfig(name, str(folder / name)) for name in names)
    lifecycle = LifecycleOptions(retries=1, retry_seconds=0.01)
    config = ServerConfig(
        models, CoreOptions(), LoadOptions(), lifecycle, poll_seconds=0.01, grace_seconds=10
    )
    around = Surroundings() if notifier is None else Surroundings(notifier=notifier)
    server = Server(config, lambda _: core, around=around)
    assert server.start()
    return server


def end_of(server: Server) -> None:
    """Stops a server once whoever waits for late models has ended."""
    join_late_models()
    assert server.stop()


def join_late_models() -> None:
    for thread in threading.enumerate():
        if thread.name == "late-models":
            thread.join(10)
            assert not thread.is_alive()


def wait(event: threading.Event) -> None:
    assert event.wait(10)


def ready_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("ready: ")]


def test_a_load_that_took_long_is_told_of_when_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager, "PATIENCE", 0.01)
    may_end = threading.Event()
    core, told = FakeCore(), Told()
    core.on_load = lambda *_: wait(may_end)
    with caplog.at_level(logging.INFO):
        server = started(tmp_path, core, "slow", notifier=told)
        assert ready_lines(caplog) == ["ready: 0 of 1 models available"]
        may_end.set()
        end_of(server)
    assert ready_lines(caplog) == ["ready: 0 of 1 models available", "ready: 1 of 1 models available"]
    assert told.lines == [
        ("STATUS=loading models",),
        ("READY=1", "STATUS=0 of 1 models available"),
        ("STATUS=1 of 1 models available",),
        ("STOPPING=1", "STATUS=finishing requests in flight"),
    ]


def test_it_is_told_once_when_the_last_one_has_come(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    core = FakeCore()
    with caplog.at_level(logging.INFO):
        server = started(tmp_path, core, "a", "b", "c")
        (tmp_path / "a" / "1").mkdir()
        assert server.manager.wait(lambda now: now["a"] is Availability.AVAILABLE, 10)
        assert ready_lines(caplog) == ["ready: 1 of 3 models available"]
        (tmp_path / "b" / "1").mkdir()
        end_of(server)
    assert ready_lines(caplog) == ["ready: 1 of 3 models available", "ready: 3 of 3 models available"]


@pytest.mark.parametrize("also_late", [False, True])
def test_what_has_failed_for_good_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, also_late: bool
) -> None:
    def fail(name: str, *_: object) -> None:
        if name == "bad":
            raise FakeError("DATA_LOSS", "broken")

    if also_late:
        (tmp_path / "late").mkdir()
    core = FakeCore()
    core.on_load = fail
    with caplog.at_level(logging.INFO):
        server = started(tmp_path, core, "bad", "late")
        (tmp_path / "late" / "1").mkdir(exist_ok=True)
        assert server.manager.wait(lambda now: set(now.values()) <= ENDED, 10)
        end_of(server)
    again = ["ready: 1 of 2 models available"] if also_late else []
    assert ready_lines(caplog) == [f"ready: {0 if also_late else 1} of 2 models available", *again]


def test_what_is_not_configured_any_more_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("gone", "late"):
        (tmp_path / name).mkdir()
    with caplog.at_level(logging.INFO):
        server = started(tmp_path, FakeCore(), "gone", "late")
        (tmp_path / "late" / "1").mkdir()
        server.manager.apply((ModelConfig("late", str(tmp_path / "late")),))
        end_of(server)
    assert ready_lines(caplog) == ["ready: 0 of 2 models available", "ready: 1 of 1 models available"]


def test_a_server_that_stops_waits_for_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "late").mkdir()
    with caplog.at_level(logging.INFO):
        server = started(tmp_path, FakeCore(), "late")
        assert server.stop()
        join_late_models()
    assert ready_lines(caplog) == ["ready: 0 of 1 models available"]
