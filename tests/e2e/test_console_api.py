"""The console's server side: its files, what its page asks, and who may ask it."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from conftest import Served
from model_configs import config_file, entry
from servers import ADMIN, DROP_IN, ONE_TRY, WITH_GRPC, admin_url, put_version, serving, until
from tokens import TokenFile

pytestmark = pytest.mark.needs_tensorflow

PAGE = "<!doctype html><title>made up</title>"
SCRIPT = "console.log('made up');\n" * 100
HOSTILE = ["<img src=x onerror=alert(1)>", "\u202eright-to-left", "a/b c%41", "long" * 2500]
PROTECTION = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self)",
}
WITH_FILES = (
    sys.executable,
    "-c",
    "import sys; from pathlib import Path; from servable.console import built; from servable.cli import main;"
    "built.FOLDER = Path(sys.argv.pop(1)); sys.exit(main())",
)
"""``servable`` with the files in the folder that is its first argument."""


def serving_console(files: Path, *arguments: str | Path, **more: Any) -> Any:
    command = (*WITH_FILES, str(files), "serve", "--port=off", "--rest_api_port=0")
    return serving(*arguments, command=command, **more)


@dataclass
class Console:
    """A server with a model ``m``, one that fails, and the administration."""

    served: Served
    base: Path

    @property
    def urls(self) -> list[str]:
        """The addresses of the REST port and of the administration."""
        return [self.served.rest, admin_url(self.served)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    (folder / "console").mkdir()
    (folder / "index.html").write_text(PAGE)
    (folder / "console" / "index-1a2b.js").write_text(SCRIPT)
    return folder


@pytest.fixture(scope="module")
def console(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    base = tmp_path_factory.mktemp("models")
    put_version("half_plus_two", base / "m", 1)
    put_version("unknown_op", base / "broken", 1)
    flags = (f"m={base / 'm'}", f"broken={base / 'broken'}", ADMIN, ONE_TRY, WITH_GRPC)
    with serving_console(files, *flags) as served:
        yield Console(served, base)


def get(url: str, status: int = 200, **headers: str) -> requests.Response:
    reply = requests.get(url, headers=headers, timeout=30)
    assert reply.status_code == status, reply.text
    return reply


def told(url: str, path: str, **headers: str) -> Any:
    """Returns what the page is told at ``path``."""
    reply = get(f"{url}/console/api/{path}", **headers)
    assert reply.headers["Content-Type"] == "application/json" and reply.content.isascii()
    assert reply.headers["Cache-Control"] == "no-store"
    assert PROTECTION.items() <= dict(reply.headers).items()
    return reply.json()


# ---- files


def test_the_page_and_its_files_are_served_from_memory(console: Console) -> None:
    for url in console.urls:
        page = get(f"{url}/")
        assert (page.text, page.headers["Content-Type"]) == (PAGE, "text/html; charset=utf-8")
        assert page.headers["Cache-Control"] == "no-cache"
        script = get(f"{url}/console/index-1a2b.js")
        assert script.text == SCRIPT and script.headers["Content-Encoding"] == "gzip"
        assert script.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        plain = get(f"{url}/console/index-1a2b.js", **{"Accept-Encoding": "identity"})
        assert plain.text == SCRIPT and "Content-Encoding" not in plain.headers
        for reply in (page, script, plain):
            assert PROTECTION.items() <= dict(reply.headers).items()
            again = get(reply.url, 304, **{"If-None-Match": reply.headers["ETag"]})
            assert again.content == b"" and again.headers["ETag"] == reply.headers["ETag"]
        head = requests.head(f"{url}/", timeout=30)
        assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(PAGE)))
        for missing in ("/console/", "/console/index-2.js", "/console/..%2findex.html"):
            reply = get(url + missing, 404)
            assert "The console is at /" in reply.json()["error"]
            assert PROTECTION.items() <= dict(reply.headers).items()


def test_the_rest_port_only_looks(console: Console) -> None:
    url = console.served.rest
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        for path in ("/", "/console/index-1a2b.js", "/console/api/models"):
            reply = requests.request(method, url + path, data=b"x", timeout=30)
            assert reply.status_code == 405 and "only looks" in reply.json()["error"], (method, path)
    assert get(f"{url}/console/api/changes", 404).json()["error"].startswith("There is nothing at")
    get(f"{url}/admin/models", 404)
    assert get(f"{url}/console", 404).json()["error"].startswith("Not Found: /console. The API is below")


def test_without_its_files_it_is_said_what_to_do(tmp_path: Path) -> None:
    put_version("half_plus_two", tmp_path / "m", 1)
    with serving_console(tmp_path / "none", f"m={tmp_path / 'm'}") as served:
        assert served.log.count("the console is not there") == 1
        assert "make console" in get(f"{served.rest}/", 404).json()["error"]
        assert told(served.rest, "server")["models"]["available"] == 1


def test_it_is_off_where_it_is_not_wanted(files: Path, tmp_path: Path) -> None:
    put_version("half_plus_two", tmp_path / "m", 1)
    with serving_console(files, f"m={tmp_path / 'm'}", ADMIN, "--no-console") as served:
        for path in ("/", "/console/api/server"):
            reply = get(served.rest + path, 404)
            assert reply.json()["error"].startswith(f"Not Found: {path}. The API is below /v1/models/")
            assert not PROTECTION.keys() & reply.headers.keys()
            assert get(admin_url(served) + path, 404).json()["code"] == "NOT_FOUND"
        own = admin_url(served)
        refused = requests.delete(f"{own}/admin/models/m", headers={"Origin": own}, timeout=30)
        assert refused.status_code == 403


def test_tensorflow_model_server_has_it_at_the_administration_alone(tmp_path: Path) -> None:
    put_version("half_plus_two", tmp_path / "m", 1)
    sock = f"--grpc_socket_path={tmp_path}/sock"
    flags = ("--port=0", f"--model_base_path={tmp_path / 'm'}", "--model_name=m", sock, ADMIN)
    with serving(*flags, command=DROP_IN) as served:
        fields = told(admin_url(served), "server")
        assert fields["manage"] is True and fields["models"]["available"] == 1


# ---- what is told


def test_the_server(console: Console) -> None:
    for url, manage in zip(console.urls, (False, True), strict=True):
        fields = told(url, "server")
        assert (fields["manage"], fields["auth"]) == (manage, False)
        assert fields["admin_address"] == console.urls[1]
        assert fields["rest_address"].endswith(f":{console.served.rest_port}")
        assert fields["grpc_address"].endswith(f":{console.served.grpc_port}")
        assert fields["models"] == {"total": 2, "available": 1, "failed": 1}
        assert fields["engines"]["tensorflow"][:1].isdigit() and fields["uptime_seconds"] > 0
        assert fields["resident_bytes"] > 50e6


def test_models_and_what_to_do_about_those_that_failed(console: Console) -> None:
    for url in console.urls:
        page = told(url, "models?limit=1")
        assert (page["total"], page["next"], page["models"][0]["name"]) == (2, "broken", "broken")
        (m,) = told(url, "models?after=broken")["models"]
        (version,) = m["versions"]
        assert (m["standing"], m["base_path"]) == ("available", str(console.base / "m"))
        assert (version["state"], version["engine"]) == ("AVAILABLE", "tensorflow")
        assert version["load_seconds"] > 0 and version["memory_bytes"] > 0
        (version,) = told(url, "models/m")["versions"]
        signature = version["signatures"]["serving_default"]
        assert signature == {
            "method": "tensorflow/serving/predict",
            "inputs": [{"name": "x", "dtype": "DT_FLOAT", "shape": [-1]}],
            "outputs": [{"name": "y", "dtype": "DT_FLOAT", "shape": [-1]}],
        }
        broken = told(url, "models/broken")
        (version,) = broken["versions"]
        assert (broken["standing"], version["state"]) == ("failed", "END")
        assert version["error"]["message"] and "--op_library" in version["advice"]
        assert "signatures" not in version
        unknown = get(f"{url}/console/api/models/none", 404).json()
        assert unknown["error"].startswith("There is no model none")
        get(f"{url}/console/api/models?limit=0", 400)
    packed = get(f"{console.served.rest}/console/api/models/m", **{"Accept-Encoding": "gzip"})
    assert packed.json()["name"] == "m"


def test_traffic_is_told_by_model(console: Console) -> None:
    url = console.served.rest
    before = sum(told(url, "traffic?model=m")["requests"])
    for instances, status in [([1.0], 200)] * 6 + [(["x"], 400)] * 2:
        reply = requests.post(f"{url}/v1/models/m:predict", json={"instances": instances}, timeout=30)
        assert reply.status_code == status
    requests.post(f"{url}/v1/models/none:predict", json={"instances": [1.0]}, timeout=30)
    assert until(lambda: sum(told(url, "traffic?model=m")["requests"]) >= before + 8)
    for address in console.urls:
        one, all_ = told(address, "traffic?model=m"), told(address, "traffic")
        for columns in (one, all_):
            assert columns.pop("interval_seconds") == 5
            assert columns.pop("models") == ["m"]
            assert {len(column) for column in columns.values()} == {len(columns["t"])}
            assert columns["t"] == sorted(columns["t"]) and columns["resident_bytes"][-1] > 50e6
            assert 0 <= columns["cpu_cores"][-1] < 1000 and columns["in_flight"][-1] == 0
        assert sum(one["errors"]) == 2 and sum(all_["errors"]) == 3
        busiest = max(range(len(one["t"])), key=lambda at: one["requests"][at])
        half, most, nearly_all = (one[name][busiest] for name in ("p50_ms", "p90_ms", "p99_ms"))
        assert 0 < half <= most <= nearly_all
        assert one["queue_ms"][busiest] >= 0
        nothing = told(address, "traffic?model=none")
        assert sum(nothing["requests"]) == 0 and set(nothing["p50_ms"]) == {None}
    assert len(told(url, "traffic?seconds=5")["t"]) == 1
    for wrong in ("0", "3601", "x"):
        assert "seconds expects" in get(f"{url}/console/api/traffic?seconds={wrong}", 400).json()["error"]


def test_a_thousand_models_with_names_of_any_kind(files: Path, tmp_path: Path) -> None:
    put_version("half_plus_two", tmp_path / "real", 1)
    names = [f"model-{number:04}" for number in range(1000)] + HOSTILE
    entries = [entry(name, tmp_path / "real" if name in HOSTILE else tmp_path / "none") for name in names]
    config = config_file(tmp_path, *entries)
    flags = (f"--model_config_file={config}", "--file_system_poll_wait_seconds=0")
    with serving_console(files, *flags) as served:
        assert told(served.rest, "server")["models"] == {"total": 1004, "available": 4, "failed": 0}
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = told(served.rest, f"models?limit=300&after={quote(after, safe='')}")
            assert page["total"] == 1004
            seen += [one["name"] for one in page["models"]]
            after = page["next"]
        assert seen == sorted(names)
        found = told(served.rest, "models?search=MODEL-099")["models"]
        assert [one["name"] for one in found] == [f"model-099{digit}" for digit in range(10)]
        missing = told(served.rest, "models/model-0001")
        assert missing["standing"] == "missing" and str(tmp_path / "none") in missing["advice"]
        for name in HOSTILE:
            path = quote(name, safe="")
            assert told(served.rest, f"models/{path}")["name"] == name
            predict = f"{served.rest}/v1/models/{path}:predict"
            assert requests.post(predict, json={"instances": [2.0]}, timeout=30).json()["predictions"] == [
                3.0
            ]
        assert until(lambda: told(served.rest, "traffic")["models"] == sorted(HOSTILE))
        traffic = [told(served.rest, f"traffic?model={quote(name, safe='')}") for name in HOSTILE]
        assert [sum(one["requests"]) for one in traffic] == [1] * len(HOSTILE)


# ---- at the administration's address


def test_models_are_called_from_the_page_and_from_no_other(console: Console) -> None:
    own = console.urls[1]
    predict = f"{own}/v1/models/m:predict"
    body = {"instances": [2.0]}
    for headers in ({}, {"Origin": own}, {"Origin": own, "Sec-Fetch-Site": "same-origin"}):
        reply = requests.post(predict, json=body, headers=headers, timeout=30)
        assert (reply.status_code, reply.json()) == (200, {"predictions": [3.0]})
        assert PROTECTION.items() <= dict(reply.headers).items()
    assert get(f"{own}/v1/models/m/metadata").json()["model_spec"]["name"] == "m"
    assert requests.post(predict, data=b"{", timeout=30).status_code == 400
    large = {"instances": [1.5] * 400_000}
    assert len(requests.post(predict, json=large, timeout=60).json()["predictions"]) == 400_000
    zipped = requests.post(
        predict,
        data=gzip.compress(json.dumps(body).encode()),
        headers={"Content-Encoding": "gzip"},
        timeout=30,
    )
    assert zipped.json() == {"predictions": [3.0]}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": console.served.rest},
        {"Origin": "http://evil.example", "Host": "evil.example"},
        {"Host": "evil.example"},
        {"Origin": own, "Sec-Fetch-Site": "cross-site"},
    ):
        for method, url in (
            ("POST", predict),
            ("PUT", f"{own}/admin/models/x"),
            ("GET", f"{own}/console/api/models"),
        ):
            reply = requests.request(method, url, json=body, headers=headers, timeout=30)
            assert (reply.status_code, reply.json()["code"]) == (403, "PERMISSION_DENIED"), (url, headers)


def test_changes_are_told_with_what_became_of_them(console: Console) -> None:
    own = console.urls[1]
    before = told(own, "changes")["changes"]
    models = f"{own}/admin/models"
    put = {"base_path": str(console.base / "broken")}
    for method, path, body in [
        ("PUT", "n?wait=30", {"base_path": str(console.base / "m")}),
        ("PATCH", "n/labels", {"stable": 1}),
        ("PATCH", "n/labels", {"stable": 9}),
        ("PUT", "b?wait=30", put),
        ("DELETE", "n", None),
        ("DELETE", "b", None),
        ("DELETE", "none", None),
    ]:
        requests.request(method, f"{models}/{path}", json=body, headers={"Origin": own}, timeout=60)
    changes = told(own, "changes")["changes"]
    new = changes[: len(changes) - len(before)]
    assert [(one["what"], one["model"], one["outcome"] == "OK") for one in new] == [
        ("unload", "none", False),
        ("unload", "b", True),
        ("unload", "n", True),
        ("load", "b", False),
        ("label", "n", False),
        ("label", "n", True),
        ("load", "n", True),
    ]
    assert new[0]["outcome"] == "NOT_FOUND" and new[0]["message"].startswith("There is no model none")
    assert new[0]["at"] >= new[-1]["at"] > 1.7e9 and new[-1]["message"] == "available"


# ---- tokens


def test_files_are_for_everybody_and_questions_for_those_who_may_read(files: Path, tmp_path: Path) -> None:
    put_version("half_plus_two", tmp_path / "m", 1)
    tokens = TokenFile(tmp_path / "tokens")
    for name, scopes, models in [
        ("reader", "read", "*"),
        ("some", "read", "m"),
        ("caller", "predict", "*"),
        ("boss", "manage", "*"),
    ]:
        tokens.add(name, scopes, models)
    own_token = {"SERVABLE_ADMIN_TOKEN": "own"}
    with serving_console(files, f"m={tmp_path / 'm'}", ADMIN, tokens.flag, environment=own_token) as served:
        rest, admin = served.rest, admin_url(served)

        def status(url: str, token: str = "", method: str = "GET") -> int:
            shown = {"Authorization": f"Bearer {tokens.tokens.get(token, token)}"} if token else {}
            body = {"instances": [2.0]} if method == "POST" else None
            return requests.request(method, url, json=body, headers=shown, timeout=30).status_code

        for url in (rest, admin):
            assert {status(f"{url}/"), status(f"{url}/console/index-1a2b.js")} == {200}
            assert {status(f"{url}/console/api/{path}") for path in ("server", "models", "traffic", "x")} == {
                401
            }
        assert told(rest, "server", Authorization=tokens.bearer("reader"))["auth"] is True
        for path, expected in [
            ("models", {"reader": 200, "some": 403, "caller": 403, "boss": 200, "wrong": 401}),
            ("models/m", {"reader": 200, "some": 200, "caller": 403, "boss": 403, "wrong": 401}),
            ("models/n", {"reader": 404, "some": 403}),
            ("traffic", {"reader": 200, "some": 403}),
        ]:
            assert {name: status(f"{rest}/console/api/{path}", name) for name in expected} == expected, path
        predict = f"{admin}/v1/models/m:predict"
        for token, expected_status in [
            ("", 401),
            ("reader", 403),
            ("caller", 403),
            ("boss", 200),
            ("own", 200),
        ]:
            assert status(predict, token, "POST") == expected_status, token
            assert status(f"{admin}/console/api/changes", token) == expected_status, token
        assert status(f"{rest}/v1/models/m:predict", "boss", "POST") == 403
