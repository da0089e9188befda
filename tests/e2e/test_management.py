"""The administration of a running server: over HTTP, as in a script, and by the commands."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from clients import Stub, answer, available, await_versions, steady_load
from conftest import Served
from model_configs import config_file, config_text, entry, replace_file
from servers import ADMIN, DROP_IN, MODELS, ONE_TRY, POLLED, WITH_GRPC, admin_url, put_version, serving
from tfrecord import WARM_UP
from wire import ask, predict

from servable.messages import message_class
from servable.savedmodel.tfrecord import read_records

pytestmark = pytest.mark.needs_tensorflow

MODEL = "half_plus_two"


@dataclass
class Admin:
    """A server with one model ``m`` in versions 1 and 2, and access to its administration."""

    served: Served
    base: Path

    @property
    def url(self) -> str:
        """The address of the administration, ``http://127.0.0.1:PORT``."""
        return admin_url(self.served)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> requests.Response:
        """Sends one request below ``/admin``."""
        return requests.request(method, f"{self.url}/admin/{path}", json=body, headers=headers, timeout=60)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs one command of ``servable`` against this server."""
        environment = {**os.environ, "SERVABLE_ADMIN_ADDRESS": self.url.removeprefix("http://")}
        command = [sys.executable, "-m", "servable", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=environment, check=False
        )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path with versions 1 and 2, shared by the tests."""
    folder = tmp_path_factory.mktemp("models") / "m"
    for version in (1, 2):
        put_version(MODEL, folder, version)
    return folder


@pytest.fixture(scope="module")
def admin(base: Path) -> Iterator[Admin]:
    with serving(f"m={base}", WITH_GRPC, ADMIN, ONE_TRY) as served:
        yield Admin(served, base)


def numbers(model: dict[str, Any], state: str = "AVAILABLE") -> list[int]:
    return [one["version"] for one in model["versions"] if one["state"] == state]


# ---- recording


def recorded(path: Path) -> list[Any]:
    """Returns the PredictionLogs of a warm-up file."""
    log = message_class("tensorflow.serving.PredictionLog")
    return [log.FromString(data) for data in read_records(str(path))]


def test_requests_are_recorded_over_both_protocols_and_replayed(tmp_path: Path) -> None:
    base = tmp_path / "m"
    put_version(MODEL, base, 1)
    with serving(f"m={base}", WITH_GRPC, ADMIN) as served, Stub(served) as stub:
        with ThreadPoolExecutor() as pool:
            admin = Admin(served, base)
            command = pool.submit(admin.run, "warmup", "record", "m", "--requests", "6", "--seconds", "60")
            asked = 0.0
            while not command.done():
                assert answer(served, "m", 0.0) == 2.0
                assert "error" in predict(served, "m", {"instances": ["no number"]}).body.decode()
                asked += 1.0
                # At least 3 over each protocol: no two requests are equal except the first.
                assert answer(served, "m", asked) == stub.predict("m", asked)
        outcome = command.result()
        assert outcome.returncode == 0, outcome.stderr
        put_version(MODEL, base, 2)
        shutil.copytree(base / "1" / "assets.extra", base / "2" / "assets.extra", dirs_exist_ok=True)
        (base / "2" / "saved_model.pb").touch()
    file = base / "1" / WARM_UP
    assert outcome.stdout == f"{file}: 6 requests recorded, 6 in all\n"
    logs = recorded(file)
    inputs = [log.predict_log.request.inputs["x"] for log in logs]
    assert len({log.SerializeToString() for log in logs}) == len(logs) == 6
    assert {bool(one.tensor_content) for one in inputs} == {
        True,
        False,
    }  # REST's as written, gRPC's as received
    with serving(f"m={base}") as served:
        assert "Number of warmup records read: 6" in served.log
        assert answer(served, "m") == 3.0


def test_examples_are_recorded(shared: Path, tmp_path: Path) -> None:
    multi = shared / "testdata" / "multi"
    with serving(f"multi={multi}", WITH_GRPC, ADMIN) as served, ThreadPoolExecutor() as pool:
        admin, file = Admin(served, tmp_path), tmp_path / "warm.tfrecord"
        command = pool.submit(
            admin.run, "warmup", "record", "multi", "--output", str(file), "--requests", "2"
        )
        while not command.done():
            for verb, signature in (("classify", "clas"), ("regress", "reg1")):
                body = {"signature_name": signature, "examples": [{"x": 1.0}]}
                reply = ask(served, "POST", f"/v1/models/multi:{verb}", json.dumps(body).encode())
                assert reply.status == 200, reply.body
    outcome = command.result()
    assert outcome.returncode == 0, outcome.stderr
    assert sorted(log.WhichOneof("log_type") for log in recorded(file)) == ["classify_log", "regress_log"]


def test_a_recording_that_gets_nothing_says_so(admin: Admin, tmp_path: Path) -> None:
    target = str(tmp_path / "file")
    outcome = admin.run("warmup", "record", "m", "--seconds", "0.1", "--output", target)
    assert outcome.returncode == 1 and not Path(target).exists()
    assert "no request to m was answered within 0.1 s" in outcome.stderr
    unknown = admin.run("warmup", "record", "nobody", "--output", target)
    assert unknown.returncode == 1 and "There is no model nobody" in unknown.stderr


@pytest.mark.parametrize(
    "limits", [{"requests": 0}, {"requests": True}, {"every": 1.5}, {"seconds": 0}, {"seconds": "1"}, []]
)
def test_limits_of_a_recording_that_make_no_sense(admin: Admin, limits: object) -> None:
    reply = admin.ask("POST", "models/m/record", limits)
    assert reply.status_code == 400 and reply.json()["code"] == "INVALID_ARGUMENT"


# ---- queries


def test_models_are_listed_with_all_that_is_known(admin: Admin) -> None:
    reply = admin.ask("GET", "models")
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/json"
    fields = reply.json()
    assert fields["resident_bytes"] > 50e6
    (model,) = [one for one in fields["models"] if one["name"] == "m"]
    assert (model["standing"], model["base_path"]) == ("available", str(admin.base))
    version = model["versions"][0]
    assert (version["version"], version["state"], version["path"]) == (2, "AVAILABLE", str(admin.base / "2"))
    assert version["signatures"]["serving_default"] == {
        "inputs": {"x": "float[-1]"},
        "outputs": {"y": "float[-1]"},
    }
    files = sum(file.stat().st_size for file in (admin.base / "2").rglob("*") if file.is_file())
    assert version["file_bytes"] == files
    assert version["memory_bytes_estimate"] == int(1.2 * files)
    assert version["load_seconds"] > 0


def test_health(admin: Admin) -> None:
    for path, body in (("livez", {"live": True}), ("readyz", {"ready": True})):
        reply = requests.get(f"{admin.url}/{path}", timeout=30)
        assert (reply.status_code, reply.json()) == (200, body)


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    put_version(MODEL, tmp_path, 1)
    with serving(f"m={tmp_path}") as served:
        assert "administration" not in served.log
        assert requests.get(f"{served.rest}/admin/models", timeout=30).status_code == 404


def test_not_ready_before_the_models_are(tmp_path: Path) -> None:
    put_version("unknown_op", tmp_path / "b", 1)
    config = config_file(tmp_path, entry("b", tmp_path / "b"))
    flags = ("--port=0", f"--grpc_socket_path={tmp_path}/sock", f"--model_config_file={config}", ADMIN)
    with serving(*flags, command=DROP_IN, ready="administration at") as served:
        served.wait_for_line("could not load b version 1")
        assert requests.get(f"{admin_url(served)}/readyz", timeout=30).status_code == 503
        assert requests.get(f"{admin_url(served)}/livez", timeout=30).status_code == 200


# ---- changes


def test_load_and_unload(admin: Admin) -> None:
    path = {"base_path": str(MODELS / "pair")}
    reply = admin.ask("PUT", "models/two words", path)
    assert (reply.status_code, reply.json()["standing"]) == (200, "available")
    assert available(admin.served, "two%20words") == [1]
    assert admin.ask("DELETE", "models/two words").status_code == 200
    await_versions(admin.served, "two%20words")
    missing = admin.ask("DELETE", "models/two words")
    assert (missing.status_code, missing.json()["error"]) == (404, "There is no model two words")


def test_a_model_that_fails_says_why(admin: Admin) -> None:
    reply = admin.ask("PUT", "models/broken", {"base_path": str(MODELS / "unknown_op")})
    fields = reply.json()
    assert (reply.status_code, fields["standing"]) == (200, "failed")
    assert "ServableTestsNoSuchOp" in fields["versions"][0]["error"]["message"]
    assert admin.ask("DELETE", "models/broken").status_code == 200


def test_policies_and_labels(admin: Admin) -> None:
    both = {"base_path": str(admin.base), "model_version_policy": {"all": {}}}
    assert admin.ask("PUT", "models/m", both).status_code == 200
    await_versions(admin.served, "m", 1, 2)
    labelled = admin.ask("PATCH", "models/m/labels", {"stable": 1, "canary": 2})
    assert labelled.json()["labels"] == {"canary": 2, "stable": 1}
    with Stub(admin.served) as stub:
        assert stub.predict("m", label="stable") == 3.0
    refused = admin.ask("PATCH", "models/m/labels", {"stable": 9})
    assert (refused.status_code, refused.json()["code"]) == (409, "FAILED_PRECONDITION")
    assert admin.ask("PATCH", "models/m/labels", {"canary": None}).json()["labels"] == {"stable": 1}
    text = admin.ask("GET", "config?format=text").text
    assert 'version_labels {\n      key: "stable"\n      value: 1\n    }' in text
    assert admin.ask("GET", "config").json()["server"]["poll_seconds"] == 1.0
    admin.ask("PATCH", "models/m/labels", {"stable": None})


def test_a_reload_loads_again_without_a_failed_request(admin: Admin) -> None:
    before = admin.ask("GET", "models/m").json()["versions"][0]["available_since"]
    with steady_load(admin.served, "m") as load:
        for _ in range(5):
            assert admin.ask("POST", "models/m/reload").status_code == 200
    assert load.failures == []
    version = admin.ask("GET", "models/m").json()["versions"][0]
    assert (version["state"], version["available_since"] > before) == ("AVAILABLE", True)


def test_a_reload_that_fails_leaves_the_version_serving(tmp_path: Path) -> None:
    put_version(MODEL, tmp_path, 1)
    with serving(f"m={tmp_path}", WITH_GRPC, ADMIN) as served:
        admin = Admin(served, tmp_path)
        (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
        assert admin.ask("POST", "models/m/reload").status_code == 200
        served.wait_for_line("could not load m version 1")
        assert available(served, "m") == [1]
        assert answer(served, "m") == 3.0


def test_a_config_file_counts_again_when_it_changes(base: Path, tmp_path: Path) -> None:
    config = config_file(tmp_path, entry("m", base))
    with serving(f"--model_config_file={config}", POLLED, ADMIN) as served:
        admin = Admin(served, base)
        admin.ask("PUT", "models/added", {"base_path": str(base)})
        replace_file(config, "not a config")
        served.wait_for_line("is not applied")
        replace_file(config, config_text(entry("m", base)))
        await_versions(served, "added", 2)
        assert admin.ask("POST", "config/reload").status_code == 200
        await_versions(served, "added")


# ---- refusals


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "nothing", None, 404),
        ("GET", "models/unknown", None, 404),
        ("POST", "models/m", {}, 405),
        ("PUT", "models/x", {}, 400),
        ("PUT", "models/x", [1], 400),
        ("PUT", "models/x", {"base_path": "relative"}, 400),
        ("PUT", "models/x", {"base_path": "/a", "unknown_field": 1}, 400),
        ("PUT", "models/x", {"base_path": "/a", "name": "y"}, 400),
        ("PUT", "models/x?wait=-1", {"base_path": "/a"}, 400),
        ("PATCH", "models/m/labels", {"a": "1"}, 400),
        ("POST", "config/reload", None, 409),
        ("PUT", "models/x", {"base_path": "/" + "a" * (1 << 20)}, 400),
    ],
)
def test_errors_are_json(admin: Admin, method: str, path: str, body: object, status: int) -> None:
    reply = admin.ask(method, path, body)
    assert reply.status_code == status
    assert reply.json().keys() >= {"error", "code"}


def test_web_pages_are_refused(admin: Admin) -> None:
    assert admin.ask("GET", "models", Origin="http://example.com").status_code == 403


def test_other_names_of_the_machine_are_refused(admin: Admin) -> None:
    assert admin.ask("GET", "models", Host="evil.example").status_code == 403
    assert requests.get(f"{admin.url}/readyz", headers={"Host": "evil.example"}, timeout=30).ok


def test_silent_and_half_spoken_connections_hold_up_neither_probes_nor_the_end(tmp_path: Path) -> None:
    put_version(MODEL, tmp_path, 1)
    with serving(f"m={tmp_path}", ADMIN, may_end=True) as served, ExitStack() as connections:
        where = urlsplit(admin_url(served))
        for content in (b"", b"GET /readyz HTTP/1.1\r\nX: ") * 40:
            one = socket.create_connection((where.hostname, where.port or 0))
            connections.enter_context(one).sendall(content)
        assert requests.get(f"{admin_url(served)}/readyz", timeout=30).status_code == 200
        assert served.stop() == 0


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    put_version(MODEL, tmp_path, 1)
    with serving(f"m={tmp_path}", ADMIN, environment={"SERVABLE_ADMIN_TOKEN": "secret"}) as served:
        admin = Admin(served, tmp_path)
        assert admin.ask("GET", "models").status_code == 401
        assert admin.ask("GET", "models", Authorization="Bearer wrong").status_code == 401
        assert admin.ask("GET", "models", Authorization="Bearer secret").status_code == 200
        assert requests.get(f"{admin.url}/readyz", timeout=30).status_code == 200
        assert "secret" not in admin.ask("GET", "config", Authorization="Bearer secret").text


def test_beyond_the_machine_a_token_is_needed(tmp_path: Path) -> None:
    put_version(MODEL, tmp_path, 1)
    with serving(f"m={tmp_path}", "--admin_address=0.0.0.0:0") as served:
        admin = admin_url(served).replace("0.0.0.0", "127.0.0.1")
        reply = requests.get(f"{admin}/admin/models", timeout=30)
        assert (reply.status_code, "token" in reply.json()["error"]) == (403, True)
        assert requests.get(f"{admin}/livez", timeout=30).status_code == 200


# ---- the commands


def test_the_commands(admin: Admin) -> None:
    loaded = admin.run("load", "pair", str(MODELS / "pair"))
    assert loaded.returncode == 0, loaded.stderr
    head, row = loaded.stdout.splitlines()
    assert head.split() == ["MODEL", "VERSION", "STATE", "SIZE", "LOADED", "IN", "PATH"]
    assert row.split()[:3] == ["pair", "1", "AVAILABLE"]
    listed = admin.run("models")
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= {"MODEL", "m", "pair"}
    assert json.loads(admin.run("models", "pair", "--json").stdout)["name"] == "pair"
    assert "stable" in admin.run("label", "pair", "stable=1").stdout
    assert "stable" not in admin.run("label", "pair", "stable=").stdout
    assert admin.run("reload", "pair").returncode == 0
    assert admin.run("unload", "pair").stdout == "pair is served no longer\n"
    await_versions(admin.served, "pair")


def test_a_command_that_changes_a_model_keeps_its_labels(admin: Admin) -> None:
    """Without ``--versions``, also its policy."""
    base = str(admin.base)
    try:
        assert admin.run("load", "labelled", base, "--versions=1,2").returncode == 0
        await_versions(admin.served, "labelled", 1, 2)
        assert admin.run("label", "labelled", "stable=1").returncode == 0
        for versions in ("--versions=all", None):
            changed = admin.run("load", "labelled", base, *([versions] if versions else []))
            assert changed.returncode == 0, changed.stderr
            model = admin.ask("GET", "models/labelled").json()
            assert (model["labels"], model["version_policy"]) == ({"stable": 1}, {"all": {}})
        assert predict(admin.served, "labelled/labels/stable", {"instances": [2.0]}).status == 200
    finally:
        admin.ask("DELETE", "models/labelled")


def test_the_commands_say_what_went_wrong(admin: Admin) -> None:
    refused = admin.run("label", "m", "stable=77")
    assert refused.returncode == 1
    assert "which is not currently available for inference" in refused.stderr
    broken = admin.run("load", "broken", str(MODELS / "unknown_op"))
    assert (broken.returncode, "FAILED" in broken.stdout) == (1, True)
    assert admin.run("unload", "broken").returncode == 0
    assert admin.run("load", "x", "/x", "--versions=newest").returncode == 2
    for seconds in ("nan", "inf", "1e30", "-1"):
        impatient = admin.run("reload", "m", f"--wait={seconds}")
        assert impatient.returncode == 1
        assert "wait expects seconds from 0 to 3600" in impatient.stderr, impatient.stderr
    nobody = admin.run("models", "--admin_address=127.0.0.1:" + "1")
    assert (nobody.returncode, "--admin_address=HOST:PORT" in nobody.stderr) == (1, True)
