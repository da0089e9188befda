"""Versions, labels and configurations that change while requests are answered over both protocols."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from clients import PATIENCE, Stub, answer, available, await_versions, steady_load, version_states
from conftest import Served
from model_configs import config_file, config_text, entry, reads_of, replace_file
from servers import ONE_TRY, POLLED, RELOADS, WITH_GRPC, put_version, serving, until
from wire import ask, predict

pytestmark = pytest.mark.needs_tensorflow

NOT_FOUND, FAILED_PRECONDITION, INVALID_ARGUMENT, UNKNOWN, DEADLINE_EXCEEDED = 5, 9, 3, 2, 4
END, AVAILABLE = 50, 30
MODEL = "half_plus_two"
ALL = {"modelVersionPolicy": {"all": {}}}


def latest(count: int) -> dict[str, object]:
    return {"modelVersionPolicy": {"latest": {"numVersions": count}}}


def specific(*versions: int) -> dict[str, object]:
    return {"modelVersionPolicy": {"specific": {"versions": [str(one) for one in versions]}}}


@pytest.fixture
def one_version(base: Path) -> Iterator[Served]:
    """Serves version 1 of model ``m``, over both protocols."""
    with serving(f"m={base}", WITH_GRPC, RELOADS, ONE_TRY) as served:
        yield served


# ---- versions


def test_versions_come_and_go_without_a_failed_request(one_version: Served, base: Path) -> None:
    with steady_load(one_version, "m") as load:
        for version in range(2, 6):
            put_version(MODEL, base, version)
            await_versions(one_version, "m", version)
            shutil.rmtree(base / str(version - 1))
    assert load.failures == []
    with Stub(one_version) as stub:
        states = {1: END, 2: END, 3: END, 4: END, 5: AVAILABLE}
        # Version 4 may still be on its way out.
        assert until(lambda: stub.states("m") == states), stub.states("m")
    assert version_states(one_version, "m")[1] == "END"


def test_a_version_that_fails_leaves_the_old_one_serving(one_version: Served, base: Path) -> None:
    with steady_load(one_version, "m") as load:
        put_version("unknown_op", base, 2)
        assert until(lambda: version_states(one_version, "m").get(2) == "END", 60)
        assert available(one_version, "m") == [1]
    assert load.failures == []


def test_policies_are_switched_by_reloads(one_version: Served, base: Path) -> None:
    for version in (2, 3):
        put_version(MODEL, base, version)
    with Stub(one_version) as stub, steady_load(one_version, "m") as load:
        for policy, expected in (
            (latest(2), (2, 3)),
            (ALL, (1, 2, 3)),
            (specific(1, 3), (1, 3)),
            (specific(1), (1,)),
            (latest(0), (3,)),
        ):
            assert stub.reload(entry("m", base, **policy)) == (0, "")
            await_versions(one_version, "m", *expected)
        assert stub.predict("m", version=3) == 3.0
        with pytest.raises(grpc.RpcError) as gone:
            stub.predict("m", version=1)
    assert gone.value.details() == "Servable not found for request: Specific(m, 1)"
    assert load.failures == []


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("availability_preserving", ["loaded m version 2", "unloaded m version 1"]),
        ("resource_preserving", ["unloaded m version 1", "loaded m version 2"]),
    ],
)
def test_the_order_of_a_change_is_the_policys(base: Path, policy: str, order: list[str]) -> None:
    with serving(f"m={base}", f"--aspired_version_policy={policy}") as served:
        put_version(MODEL, base, 2)
        for line in order:
            served.wait_for_line(line)
        await_versions(served, "m", 2)


# ---- labels


def test_the_rules_of_labels(one_version: Served, base: Path) -> None:
    refusal = (
        "Request to assign label to version {} of model m, which is not currently available for inference"
    )
    put_version(MODEL, base, 2)
    await_versions(one_version, "m", 2)
    with Stub(one_version) as stub:
        assert stub.reload(entry("m", base, versionLabels={"stable": "2"}, **ALL)) == (0, "")
        assert stub.predict("m", label="stable") == 3.0
        await_versions(one_version, "m", 1, 2)
        for label in ("stable", "canary"):
            labels = {"stable": "2", label: "7"}
            code, text = stub.reload(entry("m", base, versionLabels=labels, **ALL))
            assert (code, text) == (FAILED_PRECONDITION, refusal.format(7))
        moved = {"stable": "1", "canary": "2"}
        assert stub.reload(entry("m", base, versionLabels=moved, **ALL)) == (0, "")
        assert stub.predict("m", label="canary") == 3.0
        assert stub.reload(entry("m", base, **ALL)) == (0, "")
        with pytest.raises(grpc.RpcError) as gone:
            stub.predict("m", label="stable")
    assert gone.value.details() == "Unrecognized servable version label: stable"


def test_new_labels_may_wait_for_their_version_by_flag(base: Path) -> None:
    with (
        serving(f"m={base}", WITH_GRPC, RELOADS, "--allow_version_labels_for_unavailable_models") as served,
        Stub(served) as stub,
    ):
        assert stub.reload(entry("m", base, versionLabels={"next": "2"})) == (0, "")
        assert predict(served, "m/labels/next", {"instances": [2.0]}).status == 404
        put_version(MODEL, base, 2)
        await_versions(served, "m", 2)
        assert stub.predict("m", label="next") == 3.0
        code, _ = stub.reload(entry("m", base, versionLabels={"next": "3"}))
        assert code == FAILED_PRECONDITION


def test_labels_of_the_start_apply_when_their_version_does(base: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path, entry("m", base, versionLabels={"stable": "1", "later": "2"}))
    with serving(f"--model_config_file={config}") as served:
        assert predict(served, "m/labels/stable", {"instances": [2.0]}).status == 200
        assert predict(served, "m/labels/later", {"instances": [2.0]}).status == 404


# ---- reload requests and the config file


def test_labels_of_a_config_file_wait_for_their_version(base: Path, tmp_path: Path) -> None:
    """And they are placed once, however often the file is polled."""
    config = config_file(tmp_path, entry("m", base, versionLabels={"stable": "1"}, **ALL))
    with serving(f"--model_config_file={config}", POLLED) as served:
        assert labelled_version(served, "stable") == 1
        replace_file(config, config_text(entry("m", base, versionLabels={"stable": "2", "x": "2"}, **ALL)))
        assert until(lambda: "Unrecognized" not in str(answer(served, "m/labels/x")))
        assert "Servable not found" in str(answer(served, "m/labels/x"))
        assert answer(served, "m/labels/stable") == 3.0
        assert labelled_version(served, "stable") == 1
        put_version(MODEL, base, 2)
        assert until(lambda: labelled_version(served, "stable") == 2, PATIENCE)
        assert answer(served, "m/labels/x") == 3.0
        assert "is not applied" not in served.log


def test_a_config_file_that_cannot_be_applied_is_complained_about_once(base: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path, entry("m", base))
    with serving(f"--model_config_file={config}", POLLED) as served:
        replace_file(config, config_text(entry("m", Path("relative"))))
        served.wait_for_line("is not applied: INVALID_ARGUMENT: Expected model m to have an absolute path")
        replace_file(config, config_text(entry("n", Path("relative"))))
        served.wait_for_line("is not applied: INVALID_ARGUMENT: Expected model n to have an absolute path")
        # By the third read of the same file, the polls that read it before have said what they had to say.
        with reads_of(config) as await_reads:
            await_reads(3)
        replace_file(config, config_text(entry("o", Path("relative"))))
        served.wait_for_line("is not applied: INVALID_ARGUMENT: Expected model o to have an absolute path")
        assert served.log.count("is not applied") == 3


def test_a_config_file_that_cannot_be_read_is_complained_about_once(base: Path, tmp_path: Path) -> None:
    """The same holds for the parser's messages."""
    config = config_file(tmp_path, entry("m", base))
    with serving(f"--model_config_file={config}", POLLED) as served:
        replace_file(config, "model_config_list { config {")
        served.wait_for_line("is not applied: INVALID_ARGUMENT: Invalid protobuf file")
        # By the third read of the same file, the polls that read it before have said what they had to say.
        with reads_of(config) as await_reads:
            await_reads(3)
        replace_file(config, config_text(entry("m", base)))
        served.wait_for_line("can be applied again")
        assert served.log.count("Error parsing text-format") == 1, served.log
        assert served.log.count("is not applied") == 1, served.log


def labelled_version(served: Served, label: str) -> int | str:
    """Returns the version that a label of ``m`` is on, or the error's text."""
    reply = ask(served, "GET", f"/v1/models/m/labels/{label}/metadata")
    return int(json.loads(reply.body)["model_spec"]["version"]) if reply.status == 200 else reply.error


def test_the_statuses_of_reload_requests(one_version: Served, base: Path, tmp_path: Path) -> None:
    good, empty, broken = entry("m", base), tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    put_version("unknown_op", broken, 4)
    with Stub(one_version) as stub:
        refused = {
            "Illegal to list model m multiple times in config list": (good, good),
            "Expected model r to have an absolute path or URI; got base_path()=r": (entry("r", Path("r")),),
            "Model n requests unsupported platform onnx": ({**entry("n", base), "modelPlatform": "onnx"},),
            "Illegal to change a model's platform. For model m platform was tensorflow "
            "and new platform requested is onnx": ({**good, "modelPlatform": "onnx"},),
        }
        for text, entries in refused.items():
            assert stub.reload(*entries) == (INVALID_ARGUMENT, text)
            assert available(one_version, "m") == [1]
        code, text = stub.reload(good, entry("b", broken))
        assert code == UNKNOWN
        assert text.startswith("1 model(s) did not become available: {{{name: b version: 4} due to error: ")
        assert stub.reload(good, entry("b", broken)) == (0, "")
        code, _ = stub.reload(good, entry("late", empty), timeout=1.0)
        assert code == DEADLINE_EXCEEDED
        assert stub.reload() == (0, "")
        await_versions(one_version, "m")
        assert answer(one_version, "m") == "Servable not found for request: Latest(m)"


def test_the_config_file_is_polled_and_a_bad_one_changes_nothing(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    put_version(MODEL, other, 9)
    config = config_file(tmp_path, entry("m", base))
    with serving(f"--model_config_file={config}", WITH_GRPC, POLLED) as served:
        with steady_load(served, "m") as load:
            for bad in ("model_config_list { config {", "", config_text(entry("m", Path("relative")))):
                replace_file(config, bad)
                served.wait_for_line("is not applied")
                assert available(served, "m") == [1]
            replace_file(config, config_text(entry("m", base), entry("other", other)))
            await_versions(served, "other", 9)
        assert load.failures == []
        replace_file(config, config_text(entry("other", other)))
        await_versions(served, "m")
        assert answer(served, "other") == 3.0


def test_a_slow_request_holds_its_own_version_and_nothing_else(empty_base: Path, tmp_path: Path) -> None:
    put_version("loop", empty_base, 1)
    other = tmp_path / "other"
    put_version(MODEL, other, 1)
    with serving(f"m={empty_base}", f"other={other}") as served:
        replies: list[int] = []
        body = '{"inputs": {"steps": 200000}}'
        slow = threading.Thread(target=lambda: replies.append(predict(served, "m", body).status))
        slow.start()
        put_version("loop", empty_base, 2)
        served.wait_for_line("loaded m version 2")
        put_version(MODEL, other, 2)
        await_versions(served, "other", 2)
        slow.join(60)
        await_versions(served, "m", 2)
        assert replies == [200]


# ---- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_in_flight_finish(empty_base: Path, number: signal.Signals) -> None:
    put_version("loop", empty_base, 1)
    with serving(f"m={empty_base}", may_end=True) as served:
        replies: list[object] = []
        body = '{"inputs": {"steps": 100000}}'
        slow = threading.Thread(target=lambda: replies.append(predict(served, "m", body).status))
        slow.start()
        in_flight(served)
        served.process.send_signal(number)
        served.wait_for_line("finishing requests in flight")
        assert served.process.wait(60) == 0
        slow.join(60)
    assert replies == [200]
    assert "unloaded m version 1" in served.log


def test_the_grace_period_ends_and_so_does_the_server(empty_base: Path) -> None:
    put_version("loop", empty_base, 1)
    with serving(f"m={empty_base}", "--shutdown_grace_seconds=0.2", may_end=True) as served:
        slow = threading.Thread(target=lambda: ignore_a_reset(served), daemon=True)
        slow.start()
        in_flight(served)
        served.process.terminate()
        served.wait_for_line("not everything ended within 0.2 s")
        assert served.process.wait(60) == 0
        slow.join(60)


def in_flight(served: Served) -> None:
    """Returns once a run uses the processor: the server works although nobody else sends requests."""
    stat = Path(f"/proc/{served.process.pid}/stat")

    def ticks() -> int:
        fields = stat.read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    assert until(lambda: ticks() > before + 10)


def ignore_a_reset(served: Served) -> None:
    try:
        predict(served, "m", '{"inputs": {"steps": 100000000}}')
    except OSError:
        return


def test_stopping_under_load_cuts_no_request(base: Path) -> None:
    with serving(f"m={base}", may_end=True) as served:
        statuses: list[int] = []
        refused = threading.Event()

        def client() -> None:
            while not refused.is_set():
                try:
                    statuses.append(predict(served, "m", {"instances": [2.0]}).status)
                except ConnectionError:
                    # Refused, or closed before the server read a byte of the request: nothing was cut.
                    refused.set()

        thread = threading.Thread(target=client)
        thread.start()
        assert until(lambda: len(statuses) > 20)
        served.process.terminate()
        assert served.process.wait(60) == 0
        thread.join(60)
    assert set(statuses) == {200}


def test_a_hang_up_applies_the_file(base: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path, entry("m", base))
    with serving(f"--model_config_file={config}") as served:
        replace_file(config, config_text(entry("renamed", base)))
        os.kill(served.process.pid, signal.SIGHUP)
        await_versions(served, "renamed", 1)
        await_versions(served, "m")
        assert ask(served, "GET", "/v1/models/m").status == 200


EARLY = """
import os, signal, sys
from servable.cli import dispatch as cli
from servable.config import settings

def read_and_hang_up(*arguments, read=settings.server_config):
    config = read(*arguments)
    os.replace(sys.argv[1] + ".later", sys.argv[1])
    os.kill(os.getpid(), signal.SIGHUP)
    return config

settings.server_config = read_and_hang_up
sys.exit(cli.main(["serve", "--port=off", "--rest_api_port=0", f"--model_config_file={sys.argv[1]}"]))
"""
"""A server that gets SIGHUP, and another config file, before it can handle either."""


def test_a_hang_up_before_there_is_a_server_counts_as_soon_as_there_is_one(
    base: Path, tmp_path: Path
) -> None:
    config = config_file(tmp_path, entry("m", base))
    later = config_text(entry("renamed", base, versionLabels={"stable": 1}))
    config.with_name(config.name + ".later").write_text(later)
    with serving(config, command=(sys.executable, "-c", EARLY)) as served:
        assert "ready: 1 of 1 models available" in served.log
        assert predict(served, "renamed/labels/stable", {"instances": [2.0]}).status == 200
