"""The composition root with a fake core: opening of the ports, messages, shutdown."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from fake_core import FakeCore, FakeError

from servable import messages
from servable.config import config_files
from servable.config.values import (
    AccessLogOptions,
    CoreOptions,
    LifecycleOptions,
    LoadOptions,
    LoggingConfig,
    ModelConfig,
    PayloadLog,
    ServerConfig,
)
from servable.errors import StatusError
from servable.lifecycle.availability import Availability
from servable.serving.server import Server, check_ports
from servable.serving.surroundings import Surroundings
from servable.serving.systemd import Notifier

LONG_PAUSE = LifecycleOptions(retries=1, retry_seconds=3600.0)


def model(base: Path, name: str, *versions: int) -> ModelConfig:
    for version in versions:
        (base / name / str(version)).mkdir(parents=True)
    return ModelConfig(name, str(base / name))


def config(*models: ModelConfig, lifecycle: LifecycleOptions = LONG_PAUSE) -> ServerConfig:
    return ServerConfig(models, CoreOptions(), LoadOptions(), lifecycle, poll_seconds=0.01, grace_seconds=10)


class ConfigFile:
    """``/models.config``: the contents of successive reads, the last one repeated; errors are raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *contents: object) -> None:
        self.contents = list(contents)
        self.all_read = threading.Event()
        self.on_read: Callable[[], None] = lambda: None
        monkeypatch.setattr(config_files, "read_model_config_file", self._read)

    def _read(self, path: str, replacing: bool) -> object:
        assert (path, replacing) == ("/models.config", True)
        if len(self.contents) == 1:
            self.all_read.set()
        content = self.contents[0] if len(self.contents) == 1 else self.contents.pop(0)
        self.on_read()
        if isinstance(content, Exception):
            raise content
        return content


def with_config_file(*models: ModelConfig, poll_seconds: float | None = None) -> ServerConfig:
    """Returns the configuration of a server that read these models from ``/models.config``."""
    return replace(config(*models), model_config_file="/models.config", config_poll_seconds=poll_seconds)


def fail(name: str, version: int, path: str, options: object) -> None:
    raise FakeError("DATA_LOSS", "broken")


def test_what_is_logged_follows_the_configuration(tmp_path: Path) -> None:
    """Nothing is loaded again for that."""
    core = FakeCore()
    one = model(tmp_path, "m", 1)
    server = Server(config(one), lambda _: core)
    assert server.start() and core.payload_logs == []
    logged = replace(one, logging=LoggingConfig("json", "/logs/m", 0.5))
    server.manager.apply((logged,))
    assert core.payload_logs == [PayloadLog("m", "json", "/logs/m", 0.5, b"", ("serve",))]
    server.manager.apply((one,))
    assert core.payload_logs == []
    assert [call for call in core.calls if call[0] == "load"] == [("load", "m", 1)]
    assert server.stop()


def test_start_and_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    core = FakeCore()
    server = Server(config(model(tmp_path, "m", 7)), lambda _: core)
    ready = [server.is_ready()]
    with caplog.at_level(logging.INFO):
        assert server.start()
        ready.append(server.is_ready())
        assert server.stop()
    assert [*ready, server.is_ready()] == [False, True, False]
    assert core.stopped
    assert core.state == {("m", 7): "END"}
    path = tmp_path / "m" / "7"
    assert caplog.messages == [
        f"loaded m version 7 from {path} in 0.01 s; serving_default(x: float[-1]) -> (y: float[-1]); "
        "runs in the caller's thread",
        "Running gRPC ModelServer at 0.0.0.0:18500 ...",
        "try m:\n    curl -d '{\"instances\": [1.0, 2.0, 5.0]}' http://localhost:18501/v1/models/m:predict",
        "Exporting HTTP/REST API at:localhost:18501 ...",
        "clients may change the models by HandleReloadConfigRequest on [::]:18500, to any local path; "
        "see --allow_reload_rpc and --allowed_base_paths",
        "ready: 1 of 1 models available",
        "unloaded m version 7",
    ]


def test_the_core_gets_its_options_and_loads_wait_for_tensorflow(tmp_path: Path) -> None:
    order: list[str] = []
    core = FakeCore()
    core.on_load = lambda *_: order.append("load")
    given = replace(config(model(tmp_path, "m", 1)), core=CoreOptions(max_depth=3))
    server = Server(
        given, lambda options: setattr(core, "options", options) or core, lambda: order.append("open")
    )
    assert server.start()
    assert server.stop()
    assert core.options == given.core
    assert order == ["open", "load"]


def test_a_failed_model_does_not_keep_the_ports_shut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    core = FakeCore()

    def on_load(name: str, version: int, path: str, options: object) -> None:
        if name == "bad":
            fail(name, version, path, options)

    core.on_load = on_load
    missing = ModelConfig("missing", str(tmp_path / "missing"))
    server = Server(config(model(tmp_path, "bad", 1), model(tmp_path, "good", 1), missing), lambda _: core)
    assert server.start()
    assert server.addresses
    assert server.stop()
    assert "could not load bad version 1" in caplog.text
    assert "next try in 3600 s): DATA_LOSS: broken" in caplog.text


def test_the_drop_in_waits_out_the_retries(tmp_path: Path) -> None:
    core = FakeCore()
    core.on_load = fail
    lifecycle = LifecycleOptions(retries=2, retry_seconds=0.0)
    server = Server(
        replace(config(model(tmp_path, "m", 1), lifecycle=lifecycle), wait_for_retries=True), lambda _: core
    )
    assert server.start()
    assert core.calls.count(("load", "m", 1)) == 3
    assert server.stop()


def test_the_drop_in_waits_for_a_first_version_and_a_signal_ends_the_wait(tmp_path: Path) -> None:
    core = FakeCore()
    server = Server(replace(config(model(tmp_path, "m")), wait_for_retries=True), lambda _: core)
    outcome: list[bool] = []
    starting = threading.Thread(target=lambda: outcome.append(server.start()))
    starting.start()
    server.manager.cancel_wait()
    starting.join(10)
    assert outcome == [False]
    assert not server.addresses
    assert server.stop()
    assert not core.stopped


def test_the_drop_in_starts_when_its_first_version_appears(tmp_path: Path) -> None:
    core = FakeCore()
    server = Server(
        replace(config(ModelConfig("m", str(tmp_path / "m"))), wait_for_retries=True), lambda _: core
    )
    starting = threading.Thread(target=server.start)
    starting.start()
    model(tmp_path, "m", 1)
    starting.join(10)
    assert server.addresses
    assert server.stop()


def test_a_failed_start_by_flag(tmp_path: Path) -> None:
    core = FakeCore()
    core.on_load = fail
    server = Server(replace(config(model(tmp_path, "m", 3)), exit_on_failed_start=True), lambda _: core)
    with pytest.raises(StatusError) as error:
        server.start()
    assert str(error.value) == (
        "UNKNOWN: 1 servable(s) did not become available: "
        "{{{name: m version: 3} due to error: DATA_LOSS: broken}, }"
    )
    assert server.stop()


def test_a_core_that_cannot_open_its_ports(tmp_path: Path) -> None:
    class Shut(FakeCore):
        def start(self) -> dict[str, str]:
            raise FakeError("UNAVAILABLE", "address in use")

    server = Server(config(model(tmp_path, "m", 1)), Shut)
    with pytest.raises(StatusError, match="UNAVAILABLE: address in use"):
        server.start()
    assert server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_with_status_0_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    class Ready(FakeCore):
        def start(self) -> dict[str, str]:
            os.kill(os.getpid(), number)
            return super().start()

    before = signal.getsignal(number)
    server = Server(config(model(tmp_path, "m", 1)), Ready)
    assert server.run() == 0
    assert signal.getsignal(number) is before


def test_a_signal_that_reaches_another_thread_ends_the_run(tmp_path: Path) -> None:
    server = Server(config(model(tmp_path, "m", 1)), FakeCore)

    def signal_oneself() -> None:
        assert server.manager.wait(lambda now: Availability.AVAILABLE in now.values(), 10)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    thread = threading.Thread(target=signal_oneself)
    thread.start()
    assert server.run() == 0
    thread.join()


def test_run_raises_what_start_raises(tmp_path: Path) -> None:
    def refuse() -> None:
        raise StatusError("NOT_FOUND", "no library")

    server = Server(config(model(tmp_path, "m", 1)), FakeCore, refuse)
    with pytest.raises(StatusError, match="no library"):
        server.run()


@pytest.mark.parametrize("shared", [False, True])
def test_a_start_that_fails_late_closes_its_ports_for_itself_alone(tmp_path: Path, shared: bool) -> None:
    done: list[str] = []

    class Noting(FakeCore):
        def pass_on(self) -> None:
            done.append("passed on")

        def stop(self, grace_seconds: float) -> bool:
            done.append("stopped")
            return super().stop(grace_seconds)

    class Vain(Surroundings):
        def take_over(self) -> None:
            raise OSError("no room")

    server = Server(config(model(tmp_path, "m", 1)), Noting, around=Vain(kept=shared))
    with pytest.raises(OSError, match="no room"):
        server.run()
    assert done == (["passed on", "stopped"] if shared else ["stopped"])


def test_taken_ports_are_named_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        given = config()
        with pytest.raises(StatusError, match="Failed to BuildAndStart gRPC server") as error:
            check_ports(replace(given, core=CoreOptions(grpc_address=address)))
        assert "choose another with --port=N" in error.value.hint
        with pytest.raises(StatusError) as error:
            check_ports(replace(given, core=CoreOptions(rest_address=address)))
        assert "choose another with --rest_api_port=N" in error.value.hint
    check_ports(replace(config(), core=CoreOptions(rest_address="127.0.0.1:0")))


def test_reload_applies_a_changed_file_and_keeps_the_old_on_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ConfigFile(monkeypatch, StatusError("INVALID_ARGUMENT", "bad file"), (model(tmp_path, "b", 1),))
    core = FakeCore()
    server = Server(with_config_file(model(tmp_path, "a", 1)), lambda _: core)
    assert server.start()
    server.reload()
    assert "/models.config is not applied: INVALID_ARGUMENT: bad file" in caplog.text
    assert core.state == {("a", 1): "AVAILABLE"}
    server.reload()
    core.wait_for(("a", 1, "END"), ("b", 1, "AVAILABLE"))
    assert server.stop()


@pytest.mark.parametrize(
    "error", [StatusError("INVALID_ARGUMENT", "bad", "line 1"), RuntimeError("cannot be read")]
)
def test_a_file_that_stays_bad_is_complained_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    models = (model(tmp_path, "a", 1),)
    file = ConfigFile(
        monkeypatch, error, error, error, StatusError("INVALID_ARGUMENT", "other"), models, models
    )
    server = Server(with_config_file(*models, poll_seconds=0.001), lambda _: FakeCore())
    with caplog.at_level(logging.INFO):
        assert server.start()
        assert file.all_read.wait(10)
        assert server.stop()
    said = [line for line in caplog.messages if line.startswith("/models.config")]
    assert len(said) == 3
    assert said[0].startswith("/models.config is not applied")
    assert said[1:] == [
        "/models.config is not applied: INVALID_ARGUMENT: other",
        "/models.config can be applied again",
    ]


def test_of_two_rereads_the_later_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is still reading its file, which is then replaced, when the second one comes."""
    begun, may_end = threading.Event(), threading.Event()
    file = ConfigFile(monkeypatch, (model(tmp_path, "old", 1),), (model(tmp_path, "new", 1),))

    def hold_up_the_first() -> None:
        if not begun.is_set():
            begun.set()
            assert may_end.wait(10)

    file.on_read = hold_up_the_first
    core = FakeCore()
    server = Server(with_config_file(model(tmp_path, "a", 1)), lambda _: core)
    assert server.start()
    threads = [threading.Thread(target=server.reload) for _ in range(2)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    threads[1].join(0.1)
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert [one.name for one in server.manager.configured()] == ["new"]
    assert server.stop()


@pytest.mark.parametrize("output", ["/logs/access.log", "stdout"])
def test_a_hang_up_opens_the_access_log_again(tmp_path: Path, output: str) -> None:
    """Without a file of any kind it ends the server."""
    reopened = threading.Event()

    class Logging(FakeCore):
        def start(self) -> dict[str, str]:
            os.kill(os.getpid(), signal.SIGHUP)
            if output != "stdout":
                assert reopened.wait(10)
                os.kill(os.getpid(), signal.SIGTERM)
            return super().start()

        def reopen_logs(self) -> None:
            reopened.set()

    core = CoreOptions(access_log=AccessLogOptions(output=output))
    server = Server(replace(config(model(tmp_path, "m", 1)), core=core), Logging)
    assert server.run() == 0
    assert reopened.is_set() == (output != "stdout")


@pytest.mark.parametrize("content", ["new", "bad", "the same"])
def test_a_hang_up_during_the_start_counts(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The file changed since it was read: its present content is served, and labels wait for versions."""
    old = model(tmp_path, "a", 1)
    new = replace(model(tmp_path, "b", 1), labels={"stable": 1})
    ConfigFile(monkeypatch, {"new": (new,), "bad": (new, new), "the same": (old,)}[content])
    served: list[dict[str, Availability]] = []

    class Stopping(FakeCore):
        def start(self) -> dict[str, str]:
            served.append(server.manager.availability())
            os.kill(os.getpid(), signal.SIGTERM)
            return super().start()

    def hang_up() -> None:
        """Waits until the main thread, which runs the handlers, noticed: a later signal would be a reload."""
        os.kill(os.getpid(), signal.SIGHUP)
        assert noticed.wait(10)

    def notice(number: int, frame: FrameType | None) -> None:
        on_hangup(number, frame)
        noticed.set()

    server, noticed = Server(with_config_file(old), Stopping, hang_up), threading.Event()
    on_hangup = server._on_hangup
    monkeypatch.setattr(server, "_on_hangup", notice)
    assert server.run() == 0
    assert served == [{"b" if content == "new" else "a": Availability.AVAILABLE}]
    assert ("is not applied" in caplog.text) == (content == "bad")


def test_a_reload_that_breaks_is_over_for_systemd_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class Telling(Notifier):
        def _tell(self, *lines: str) -> None:
            told.append(lines[0])

    around = Surroundings(notifier=Telling({}))
    ConfigFile(monkeypatch, RuntimeError("broken"))
    server = Server(with_config_file(model(tmp_path, "m", 1)), FakeCore, around=around)
    assert server.start()
    server._hung_up = True
    with pytest.raises(RuntimeError, match="broken"):
        server._reload_in_turn()
    assert server.stop()
    assert told == ["STATUS=loading models", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]


def test_sockets_are_closed_if_not_all_can_be_handed_over(tmp_path: Path) -> None:
    class Broken:
        def listener(self) -> int:
            raise OSError(24, "Too many open files")

    copies: list[int] = []

    class Listening(FakeCore):
        def listeners(self) -> dict[str, int]:
            copies.append(os.dup(0))
            return {"rest": copies[0]}

    server = Server(config(model(tmp_path, "m", 1)), Listening)
    server._admin = cast(Any, Broken())
    with pytest.raises(OSError, match="Too many open files"):
        server.listeners()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(copies[0])


class Reloads:
    """A started server, and a way to send it a list of models like a client."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.core = FakeCore()
        once = LifecycleOptions(retries=0)
        self.server = Server(config(model(base, "a", 1), lifecycle=once), lambda _: self.core)
        assert self.server.start()

    def send(self, *names: str, timeout: float | None = None, **labels: int) -> None:
        request = messages.message_class("tensorflow.serving.ModelServerConfig")()
        for name in names:
            entry = request.model_config_list.config.add()
            entry.name, entry.base_path, entry.model_platform = name, str(self.base / name), "tensorflow"
            entry.version_labels.update(labels)
        self.server.reload_request(request.SerializeToString(), timeout)


@pytest.fixture
def reloads(tmp_path: Path, descriptors: None) -> Iterator[Reloads]:
    reloads = Reloads(tmp_path)
    yield reloads
    assert reloads.server.stop()


def test_a_reload_request_waits_for_new_models(reloads: Reloads, tmp_path: Path) -> None:
    model(tmp_path, "b", 5)
    reloads.send("a", "b")
    assert reloads.core.state == {("a", 1): "AVAILABLE", ("b", 5): "AVAILABLE"}
    reloads.send()
    assert reloads.server.manager.availability() == {"a": Availability.AVAILABLE, "b": Availability.AVAILABLE}
    reloads.send("b", stable=5)
    reloads.core.wait_for(("a", 1, "END"))
    assert reloads.core.labels["b"] == {"stable": 5}


def test_a_reload_request_reports_the_new_models_that_fail(reloads: Reloads, tmp_path: Path) -> None:
    reloads.core.on_load = fail
    model(tmp_path, "b", 5)
    with pytest.raises(StatusError) as error:
        reloads.send("a", "b", "c")
    assert str(error.value) == (
        "UNKNOWN: 2 model(s) did not become available: "
        "{{{name: b version: 5} due to error: DATA_LOSS: broken}, "
        "{{name: c version: 0} due to error: NOT_FOUND: no version was found in its base path}, }"
    )
    reloads.send("a", "b", "c")


def test_a_reload_request_is_bounded_by_its_deadline(reloads: Reloads, tmp_path: Path) -> None:
    with pytest.raises(
        StatusError, match="DEADLINE_EXCEEDED: models still without an available version: late"
    ):
        reloads.send("a", "late", timeout=0.0)


def test_a_refused_reload_request_changes_nothing(reloads: Reloads, tmp_path: Path) -> None:
    with pytest.raises(StatusError, match="Illegal to list model a multiple times"):
        reloads.send("a", "a")
    assert reloads.server.manager.availability() == {"a": Availability.AVAILABLE}
