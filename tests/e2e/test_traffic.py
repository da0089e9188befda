"""Traffic between versions of a running server: shares, headers, keys, shadows and roll-backs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from clients import Load, Stub, answer, await_versions, steady_load
from conftest import Served
from model_configs import config_file, config_text, entry, replace_file
from open_inference import infer as infer_by_rest, tensor
from open_inference_grpc import infer as infer_by_grpc, request as infer_request
from servers import ADMIN, ONE_TRY, POLLED, WITH_GRPC, admin_url, put_version, serving, until
from stubs import PATIENCE, floats_request, own_message
from wire import Reply, Wire, message

pytestmark = pytest.mark.needs_tensorflow

OLD, NEW = "half_plus_two", "normalise"
"""The models of versions 1 and 2: of 2.0 they make 3.0 and 2.0; of 0.0 the first makes 2.0, and the second
never ends."""
VERSION_OF = {3.0: 1, 2.0: 2}
ALL = {"modelVersionPolicy": {"all": {}}, "versionLabels": {"stable": 1, "canary": 2}}


@dataclass
class Spread:
    """A server with model ``m`` in two versions or more."""

    served: Served

    def admin(self, method: str, path: str = "", body: object = None) -> requests.Response:
        """Asks the administration about the traffic of ``m``."""
        url = f"{admin_url(self.served)}/admin/models/m/traffic{path}"
        return requests.request(method, url, json=body, timeout=PATIENCE)

    def put(self, **rules: Any) -> dict[str, Any]:
        """Sets the rules; returns what the server says."""
        reply = self.admin("PUT", body=rules)
        assert reply.status_code == 200, reply.text
        told: dict[str, Any] = reply.json()
        return told

    def told(self, to: str = "default") -> dict[str, Any]:
        """Returns what is told of a target."""
        (found,) = [one for one in self.admin("GET").json()["targets"] if one["to"] == to]
        return dict(found)

    def shadow(self) -> dict[str, int]:
        """Returns what has become of copies."""
        counts: dict[str, int] = self.admin("GET").json()["shadow"]["requests"]
        return {name: count for name, count in counts.items() if count}

    def metric(self, start: str) -> dict[str, float]:
        """Returns the samples of the metrics whose lines begin so."""
        page = requests.get(f"{admin_url(self.served)}/metrics", timeout=PATIENCE).text
        lines = [line.rpartition(" ") for line in page.splitlines() if line.startswith(start)]
        return {name: float(value) for name, _, value in lines}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs ``servable traffic``."""
        environment = {**os.environ, "SERVABLE_ADMIN_ADDRESS": admin_url(self.served).removeprefix("http://")}
        command = [sys.executable, "-m", "servable", "traffic", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=environment, check=False
        )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path with versions 1 and 2; 3 is the same as 1."""
    folder = tmp_path_factory.mktemp("models") / "m"
    for version, model in ((1, OLD), (2, NEW), (3, OLD)):
        put_version(model, folder, version)
    return folder


@contextmanager
def spreading(base: Path, folder: Path, *arguments: str, **more: Any) -> Iterator[Spread]:
    """Serves ``base`` as ``m`` with all versions, and the labels of ``ALL``."""
    config = config_file(folder, entry("m", base, **{**ALL, **more}))
    with serving(
        f"--model_config_file={config}", WITH_GRPC, ADMIN, ONE_TRY, "--metrics_path=/metrics", *arguments
    ) as served:
        await_versions(served, "m", *sorted(int(one.name) for one in base.iterdir()))
        yield Spread(served)


@pytest.fixture(scope="module")
def spread(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    with spreading(base, tmp_path_factory.mktemp("config")) as spread:
        yield spread


def predict(wire: Wire, x: float = 2.0, path: str = "m", **headers: str) -> Reply:
    body = json.dumps({"instances": [x]})
    return wire.send(message("POST", f"/v1/models/{path}:predict", body, **headers)).final_reply()


def version(reply: Reply) -> int:
    assert reply.status == 200, reply
    return VERSION_OF[json.loads(reply.body)["predictions"][0]]


def by_rest(served: Served, times: int, **headers: str) -> Counter[int]:
    """Asks so often; returns how often which version answered."""
    with Wire(served) as wire:
        return Counter(version(predict(wire, **headers)) for _ in range(times))


def by_grpc(channel: grpc.Channel, *metadata: tuple[str, str]) -> int:
    """Asks for a prediction; returns the version by its answer, which names the same."""
    request = floats_request("m", 2.0)
    stub = channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        type(request).SerializeToString,
        own_message("PredictResponse").FromString,
    )
    reply = stub(request, timeout=PATIENCE, metadata=metadata)
    answered = VERSION_OF[reply.outputs["y"].float_val[0]]
    assert reply.model_spec.version.value == answered
    return answered


def by_v2_rest(served: Served, **headers: str) -> int:
    reply = infer_by_rest(served, "m", {"inputs": [tensor("x", "FP32", [1], [2.0])]}, **headers)
    assert reply.status == 200, reply
    answered = json.loads(reply.body)
    assert int(answered["model_version"]) == VERSION_OF[answered["outputs"][0]["data"][0]]
    return int(answered["model_version"])


def by_v2_grpc(channel: grpc.Channel, *metadata: tuple[str, str]) -> int:
    request = infer_request("m", x=np.array([2.0], np.float32))
    return int(infer_by_grpc(channel, request, metadata=metadata).model_version)


def share(to: str, percent: float) -> list[dict[str, Any]]:
    return [{"to": to, "percent": percent}]


# ---- shares


def test_a_share_of_the_requests_goes_to_its_version(spread: Spread) -> None:
    spread.put(default_to="stable", share=share("canary", 25))
    counts = by_rest(spread.served, 600)
    # 150 are expected; six standard deviations are 64.
    assert 86 <= counts[2] <= 214, counts
    told = spread.told("canary")
    assert (told["version"], told["percent"], told["requests"]["weight"] >= counts[2]) == (2, 25, True)
    assert spread.metric('servable_split_requests_total{model="m",target="default"')
    with grpc.insecure_channel(spread.served.grpc) as channel:
        assert {by_grpc(channel) for _ in range(100)} == {1, 2}
        assert {by_v2_grpc(channel) for _ in range(100)} == {1, 2}
    assert {by_v2_rest(spread.served) for _ in range(100)} == {1, 2}


def test_nothing_and_all_are_exact(spread: Spread) -> None:
    for percent, expected in ((0, {1}), (100, {2})):
        spread.put(default_to="stable", share=share("2", percent))
        assert set(by_rest(spread.served, 50)) == expected
        with grpc.insecure_channel(spread.served.grpc) as channel:
            assert {by_grpc(channel), by_v2_grpc(channel), by_v2_rest(spread.served)} == expected


def test_who_names_a_version_or_a_label_gets_it_and_who_asks_about_the_model_is_told_of_the_default(
    spread: Spread,
) -> None:
    spread.put(default_to="stable", share=share("canary", 100))
    with Wire(spread.served) as wire, Stub(spread.served) as stub:
        for path, expected in (("m/versions/1", 1), ("m/labels/stable", 1), ("m", 2)):
            reply = predict(wire, path=path)
            assert version(reply) == expected
            assert reply.headers.get("x-servable-version") == ("2" if path == "m" else None)
        assert (stub.predict("m", version=1), stub.predict("m", label="stable")) == (3.0, 3.0)
        request = own_message("GetModelMetadataRequest")()
        request.model_spec.name = "m"
        request.metadata_field.append("signature_def")
        assert stub.call("GetModelMetadata", request).model_spec.version.value == 1
    spread.admin("DELETE")
    with Wire(spread.served) as wire:
        reply = predict(wire)
    # The latest, as without rules: version 3 is the same as 1.
    assert version(reply) == 1 and "x-servable-version" not in reply.headers


# ---- headers and keys


def test_a_header_leads_to_its_version_over_every_protocol(spread: Spread) -> None:
    spread.put(
        default_to="stable",
        header=[{"name": "X-Canary", "value": "yes", "to": "canary"}],
    )
    for value, expected in (("yes", 2), ("no", 1), ("YES", 1)):
        assert by_rest(spread.served, 3, **{"X-Canary": value}) == {expected: 3}
        assert by_v2_rest(spread.served, **{"x-canary": value}) == expected
        with grpc.insecure_channel(spread.served.grpc) as channel:
            metadata = ("x-canary", value)
            assert by_grpc(channel, metadata) == by_v2_grpc(channel, metadata) == expected
    assert by_rest(spread.served, 3) == {1: 3}
    assert spread.told("canary")["requests"]["header"] >= 3


def test_a_key_keeps_its_version_while_the_share_grows_and_over_both_protocols(spread: Spread) -> None:
    users = [f"user-{number}" for number in range(150)]
    chosen: list[set[str]] = []
    with grpc.insecure_channel(spread.served.grpc) as channel:
        for percent in (10, 30):
            spread.put(default_to="stable", share=share("canary", percent), key_header="X-User")
            with Wire(spread.served) as wire:
                versions = {user: version(predict(wire, **{"X-User": user})) for user in users}
                again = {user: version(predict(wire, **{"X-User": user})) for user in users[:50]}
            assert again == {user: versions[user] for user in users[:50]}
            assert {user: by_grpc(channel, ("x-user", user)) for user in users[:50]} == again
            chosen.append({user for user, one in versions.items() if one == 2})
    few, more = chosen
    assert 0 < len(few) < len(more) < len(users) and few < more
    # Whatever a client sends as its key, it is answered.
    for key in ("", "ä".encode().decode("latin-1"), "a" * 5000, "%00", '"{}'):
        assert sum(by_rest(spread.served, 1, **{"X-User": key}).values()) == 1


# ---- what is refused


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"share": share("canary", 101)}, "from 0 to 100"),
        ({"share": share("gone", 5)}, "gone is neither a version nor a label"),
        ({"share": [{"to": "canary", "percent": "NaN"}]}, "from 0 to 100, got nan"),
        ({"share": [{"to": "canary", "percent": "much"}]}, "Not a TrafficSplit"),
        ({"shares": []}, "Not a TrafficSplit"),
        ({}, "neither a share, a header nor a shadow"),
        ({"share": share("canary", 5), "key_header": "a:b"}, "cannot be the name of a header"),
        ({"default_to": "stable", "shadow": {"to": "1", "percent": 100}}, "there is nothing to compare"),
        ({"default_to": "2", "share": share("canary", 5)}, "2 and canary are both version 2"),
    ],
)
def test_rules_that_cannot_be_are_refused_and_the_former_stay(
    spread: Spread, rules: dict[str, Any], said: str
) -> None:
    spread.put(default_to="stable", share=share("canary", 100))
    reply = spread.admin("PUT", body=rules)
    assert reply.status_code == 400 and said in reply.json()["error"], reply.text
    assert by_rest(spread.served, 3) == {2: 3}


def test_a_policy_that_keeps_one_version_is_refused(base: Path, tmp_path: Path) -> None:
    with serving(f"m={base}", ADMIN, ONE_TRY) as served:
        reply = Spread(served).admin("PUT", body={"share": share("2", 5)})
        assert reply.status_code == 400
        assert "it needs 2 versions at once, and the version policy keeps the latest 1 only" in reply.text
        assert Spread(served).admin("POST", "/resume").status_code == 409


def test_a_target_that_is_not_there_leaves_its_share_to_the_default(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    put_version(OLD, folder, 1)
    traffic = {"default_to": "1", "share": share("2", 100)}
    with spreading(folder, tmp_path, traffic=traffic, versionLabels={}) as spread:
        assert by_rest(spread.served, 5) == {1: 5}
        told = spread.told("2")
        assert (told["available"], told["requests"]) == (False, {"unavailable": 5})
        put_version(NEW, folder, 2)
        await_versions(spread.served, "m", 1, 2)
        assert by_rest(spread.served, 5) == {2: 5}
        shutil.rmtree(folder / "2")
        await_versions(spread.served, "m", 1)
        assert by_rest(spread.served, 5) == {1: 5}
        assert spread.told("2")["requests"]["unavailable"] >= 10


# ---- changes


def test_the_command_sets_shows_and_clears(spread: Spread) -> None:
    done = spread.run("set", "m", "canary=100%", "--default", "stable", "--max_errors", "50%")
    assert done.returncode == 0, done.stderr
    assert by_rest(spread.served, 3) == {2: 3}
    shown = spread.run("show", "m")
    assert shown.stdout.startswith("TARGET") and "default (stable)" in shown.stdout, shown.stdout
    listed = requests.get(f"{admin_url(spread.served)}/admin/models/m", timeout=PATIENCE).json()
    assert listed["traffic"]["rules"]["share"] == [{"to": "canary", "percent": 100.0}]
    assert spread.run("resume", "m").returncode == 0
    assert "is not spread" in spread.run("clear", "m").stdout
    assert by_rest(spread.served, 3) == {1: 3}
    refused = spread.run("set", "m", "gone=5%")
    assert refused.returncode == 1 and "gone is neither a version nor a label" in refused.stderr
    assert spread.run("set", "m", "canary").returncode == 2


def test_a_config_file_changes_shares_without_a_failed_request(base: Path, tmp_path: Path) -> None:
    same = tmp_path / "m"
    for number in (1, 2):
        put_version(OLD, same, number)

    def text(percent: float) -> str:
        return config_text(entry("m", same, **ALL, traffic={"default_to": "1", "share": share("2", percent)}))

    with spreading(same, tmp_path, POLLED, traffic={"default_to": "1", "share": share("2", 5)}) as spread:
        with steady_load(spread.served, "m") as load:
            for percent in (50, 0, 100, 20):
                replace_file(tmp_path / "models.config", text(percent))
                assert until(lambda percent=percent: spread.told("2")["percent"] == percent)
                wait_for(load, 50)
        assert load.failures == []
        # What an administrator says holds until the file changes.
        spread.put(default_to="1", share=share("2", 7))
        replace_file(tmp_path / "models.config", text(21))
        assert until(lambda: spread.told("2")["percent"] == 21)


def wait_for(load: Load, more: int) -> None:
    reached = load.answered + more
    assert until(lambda: load.answered >= reached)


# ---- shadows


def shadowed(to: str, **more: Any) -> dict[str, Any]:
    return {"to": to, "percent": 100, **more}


def test_a_shadow_is_compared_and_counted_and_never_returned(spread: Spread) -> None:
    spread.put(default_to="stable", shadow=shadowed("3"))
    before = spread.shadow().get("equal", 0)
    assert by_rest(spread.served, 10) == {1: 10}
    with grpc.insecure_channel(spread.served.grpc) as channel:
        assert (by_grpc(channel), by_v2_grpc(channel), by_v2_rest(spread.served)) == (1, 1, 1)
    assert until(lambda: spread.shadow().get("equal", 0) == before + 13), spread.shadow()
    spread.put(default_to="stable", shadow=shadowed("canary"))
    assert by_rest(spread.served, 10) == {1: 10}
    assert until(lambda: spread.shadow() == {"different": 10}), spread.shadow()
    told = spread.admin("GET").json()["shadow"]
    assert told["compared"] == 10 and told["last_difference"].startswith("y: ")
    assert {"p50", "p99"} == told["returned_milliseconds"].keys() == told["shadow_milliseconds"].keys()
    line = 'servable_shadow_requests_total{model="m",target="canary",outcome="different"}'
    assert spread.metric(line) == {line: 10.0}
    tolerated = shadowed("canary", tolerance=1.0)
    spread.put(default_to="stable", shadow=tolerated)
    assert by_rest(spread.served, 1) == {1: 1}
    # 2.0 is off by a third of 3.0.
    assert until(lambda: spread.shadow().get("equal", 0) == 1), spread.shadow()


def test_a_shadow_that_never_ends_delays_and_fails_nothing(base: Path, tmp_path: Path) -> None:
    traffic = {"default_to": "1", "shadow": shadowed("2", timeout_seconds=0.5)}
    with spreading(base, tmp_path, traffic=traffic) as spread:
        with Wire(spread.served) as wire:
            for _ in range(200):
                reply = predict(wire, 0.0)
                assert json.loads(reply.body) == {"predictions": [2.0]}
        assert spread.shadow()["dropped_busy"] > 0
        assert until(lambda: spread.shadow().get("failed", 0) >= 2), spread.shadow()
        assert "DEADLINE_EXCEEDED" in spread.admin("GET").json()["shadow"]["last_error"]


def test_a_shadow_that_is_unloaded_meanwhile_is_counted_and_its_unload_not_held_up(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    for number in (1, 2):
        put_version(OLD, folder, number)
    traffic = {"default_to": "1", "shadow": shadowed("2")}
    with spreading(folder, tmp_path, traffic=traffic) as spread:
        with steady_load(spread.served, "m") as load:
            wait_for(load, 20)
            shutil.rmtree(folder / "2")
            await_versions(spread.served, "m", 1)
            assert until(lambda: spread.shadow().get("dropped_unavailable", 0) > 0), spread.shadow()
            put_version(OLD, folder, 2)
            await_versions(spread.served, "m", 1, 2)
            equal = spread.shadow()["equal"]
            assert until(lambda: spread.shadow()["equal"] > equal)
        assert load.failures == []


def test_a_shadow_that_never_ends_holds_up_no_other_and_neither_its_unload_nor_the_servers_end(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "m"
    for number, name in ((1, OLD), (2, NEW), (3, OLD), (4, NEW)):
        put_version(name, folder, number)

    def ask(wire: Wire, times: int) -> None:
        for _ in range(times):
            assert json.loads(predict(wire, 0.0).body) == {"predictions": [2.0]}

    with spreading(folder, tmp_path, versionLabels={}) as spread, Wire(spread.served) as wire:
        spread.put(default_to="1", shadow=shadowed("2", timeout_seconds=3600))
        ask(wire, 80)
        spread.put(default_to="1", shadow=shadowed("3"))
        ask(wire, 5)
        assert until(lambda: spread.shadow() == {"equal": 5}), spread.shadow()
        shutil.rmtree(folder / "2")
        spread.served.wait_for_line(r"unloaded m version 2")
        spread.put(default_to="1", shadow=shadowed("4", timeout_seconds=3600))
        ask(wire, 5)
    assert "not everything ended" not in spread.served.log


def test_a_shadow_with_another_signature_fails_alone(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    put_version(OLD, folder, 1)
    put_version("pair", folder, 2)
    traffic = {"default_to": "1", "shadow": shadowed("2")}
    with spreading(folder, tmp_path, traffic=traffic) as spread:
        assert answer(spread.served, "m") == 3.0
        assert until(lambda: spread.shadow() == {"failed": 1}), spread.shadow()


# ---- roll-backs


def bounds(**more: Any) -> dict[str, Any]:
    return {"min_requests": 5, "window_seconds": 60, "for_seconds": 0, **more}


def test_a_version_that_fails_is_rolled_back_until_it_is_resumed(base: Path, tmp_path: Path) -> None:
    with spreading(base, tmp_path, "--rest_api_timeout_in_ms=200") as spread:
        rules = {"default_to": "stable", "share": share("canary", 100)}
        spread.put(**rules, roll_back=bounds(max_error_percent=50))
        with Wire(spread.served) as wire:
            for _ in range(5):
                assert predict(wire, 0.0).status == 504
            spread.served.wait_for_line(
                r"traffic of model m: canary \(version 2\) is rolled back, and its share goes to the "
                r"default: 100 % of its requests failed, more than 50 %, of 5 requests in 60 s"
            )
            assert json.loads(predict(wire, 0.0).body) == {"predictions": [2.0]}
        told = spread.told("canary")
        assert told["rolled_back"]["version"] == 2 and told["requests"]["rolled_back"] == 1
        gauge = 'servable_split_rolled_back{model="m",target="canary"}'
        assert spread.metric(gauge) == {gauge: 1.0}
        backs = 'servable_split_roll_backs_total{model="m",target="canary",cause="errors"}'
        assert spread.metric(backs) == {backs: 1.0}
        assert "ROLLED BACK" in spread.run("show", "m").stdout
        assert by_rest(spread.served, 3) == {1: 3}
        assert spread.admin("POST", "/resume").status_code == 200
        assert by_rest(spread.served, 3) == {2: 3}
        assert "rolled_back" not in spread.told("canary")
        assert spread.admin("DELETE").status_code == 200
        assert spread.metric("servable_split_") == {}


@pytest.mark.parametrize(
    "bound",
    [{"max_p99_milliseconds": 0.001}, {"max_p99_ratio_to_default": 0.0001}],
    ids=["alone", "compared"],
)
def test_a_version_that_is_slow_is_rolled_back(spread: Spread, bound: dict[str, float]) -> None:
    spread.put(default_to="stable", share=share("canary", 50), roll_back=bounds(**bound))
    for _ in range(40):
        by_rest(spread.served, 1)
    assert until(lambda: "rolled_back" in spread.told("canary")), spread.told("canary")
    assert "its p99 was" in spread.told("canary")["rolled_back"]["why"]
    assert by_rest(spread.served, 10) == {1: 10}


def test_requests_at_fault_roll_nothing_back_unless_they_count(spread: Spread) -> None:
    for counts in (False, True):
        rule = bounds(max_error_percent=10, count_client_errors=counts)
        spread.put(default_to="stable", share=share("canary", 100), roll_back=rule)
        with Wire(spread.served) as wire:
            for _ in range(10):
                wire.send(message("POST", "/v1/models/m:predict", '{"instances": ["no number"]}'))
                assert wire.final_reply().status == 400
        if counts:
            assert until(lambda: "rolled_back" in spread.told("canary"))
        else:
            by_rest(spread.served, 6)
            assert until(lambda: spread.told("canary")["window"]["requests"] == 6)
            assert "rolled_back" not in spread.told("canary")


def test_without_a_rule_nothing_is_rolled_back(spread: Spread) -> None:
    told = spread.put(default_to="stable", share=share("canary", 100))
    assert "window" not in told["targets"][1]
