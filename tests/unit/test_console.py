"""What the console tells of a server, without one; and its files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from servable.admin.changes import MOST, Changes
from servable.admin.http import Routes
from servable.config.arguments import parse
from servable.config.settings import server_config
from servable.config.values import (
    AdminOptions,
    CoreOptions,
    LifecycleOptions,
    LoadOptions,
    ModelConfig,
    ServerConfig,
)
from servable.console import built, listing
from servable.console.about import About
from servable.console.api import Api
from servable.console.listing import MOST_ADVICE, Advice, Listing
from servable.errors import StatusError, UsageError
from servable.lifecycle.availability import Availability

HOSTILE = ["<script>alert(1)</script>", "\u202eabc", "x" * 10_000, '"\\\u2028', "\ud800"]


# ---- files


def test_files_are_read_with_their_types(tmp_path: Path) -> None:
    (tmp_path / "console").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>")
    for name in ("index-1.js", "index-2.css", "odd.xyz"):
        (tmp_path / "console" / name).write_bytes(b"x")
    assert built.files(tmp_path) == [
        ("console/index-1.js", "text/javascript; charset=utf-8", b"x"),
        ("console/index-2.css", "text/css; charset=utf-8", b"x"),
        ("console/odd.xyz", "application/octet-stream", b"x"),
        ("index.html", "text/html; charset=utf-8", b"<!doctype html>"),
    ]


@pytest.mark.parametrize("names", [[], ["index.js"]])
def test_missing_files_are_logged_with_what_to_do(
    names: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert built.files(tmp_path) == []
    assert built.files(tmp_path / "missing") == []
    (first, second) = caplog.messages
    assert first.startswith(f"the console is not there: {tmp_path} has no index.html.") and "make" in first
    assert f"{tmp_path}/missing" in second


def test_too_much_is_not_kept_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built, "MOST_BYTES", 3)
    (tmp_path / "index.html").write_text("1234")
    assert built.files(tmp_path) == []
    assert caplog.messages[0].endswith("has 4 bytes, more than 3")


# ---- where it is


@pytest.mark.parametrize(
    ("serve", "flags", "where"),
    [
        (True, [], "everywhere"),
        (True, ["--no-console"], "nowhere"),
        (True, ["--no_console", "--admin_address=127.0.0.1:0"], "nowhere"),
        (True, ["--console=false"], "nowhere"),
        (True, ["--no-console", "--console"], "everywhere"),
        (True, ["--rest_api_port=off"], "nowhere"),
        (True, ["--rest_api_port=off", "--admin_address=127.0.0.1:0"], "administration"),
        (False, ["--rest_api_port=8501"], "nowhere"),
        (False, ["--rest_api_port=8501", "--admin_address=127.0.0.1:0"], "administration"),
        (False, ["--admin_address=127.0.0.1:0", "--console=false"], "nowhere"),
    ],
)
def test_the_console_is_where_it_is_asked_for(serve: bool, flags: list[str], where: str) -> None:
    arguments = parse(["--model_base_path=/m", *flags], serve)
    assert server_config(arguments, {}).core.console == where


def test_flags_are_turned_off_by_a_no_before_them() -> None:
    assert not parse(["--no-enable-model-warmup"], True).boolean("enable_model_warmup")
    for wrong in ("--no-console=true", "--no-port", "--no-such", "--no-"):
        with pytest.raises(UsageError, match=f"unknown flag {wrong.partition('=')[0]}"):
            parse([wrong], True)
    assert parse(["--no-console"], False).unknown == ("--no-console",)


# ---- changes


def test_changes_are_remembered_with_what_became_of_them() -> None:
    changes = Changes(clock=lambda: 1.5)

    def refuse() -> None:
        raise StatusError("NOT_FOUND", "no such model")

    def break_down() -> None:
        raise RuntimeError("broken")

    broken = {"standing": "failed", "versions": [{"error": {"code": "DATA_LOSS", "message": "cut"}}]}
    assert changes.record("load", "a", lambda: broken) == broken
    assert changes.record("load", "b", lambda: {"standing": "available", "versions": []})
    assert changes.record("record", "b", lambda: b"bytes") == b"bytes"
    with pytest.raises(StatusError):
        changes.record("unload", "c", refuse)
    with pytest.raises(RuntimeError):
        changes.record("reload_config", None, break_down)
    told = [(one["what"], one["model"], one["outcome"], one["message"]) for one in changes.newest_first()]
    assert told == [
        ("reload_config", None, "INTERNAL", "RuntimeError: broken"),
        ("unload", "c", "NOT_FOUND", "no such model"),
        ("record", "b", "OK", ""),
        ("load", "b", "OK", "available"),
        ("load", "a", "DATA_LOSS", "cut"),
    ]
    assert {one["at"] for one in changes.newest_first()} == {1.5}


def test_only_the_last_changes_are_remembered() -> None:
    changes = Changes()
    for number in range(MOST + 5):
        changes.record("load", str(number), lambda: None)
    names = [one["model"] for one in changes.newest_first()]
    assert len(names) == MOST and names[0] == str(MOST + 4)


def test_clients_push_no_change_of_an_operator_out() -> None:
    changes = Changes()
    changes.record("load", "own", lambda: None)
    for number in range(3 * MOST):
        changes.record("load", str(number), lambda: None, "client")
    changes.record("unload", "own", lambda: None)
    told = changes.newest_first()
    assert [told[0]["what"], told[-1]["model"], len(told)] == ["unload", "own", MOST + 2]
    assert [one["by"] for one in told] == ["operator", *["client"] * MOST, "operator"]
    assert told[1]["model"] == str(3 * MOST - 1)


def test_what_fails_again_in_the_same_way_is_told_once() -> None:
    times = iter(range(100))
    changes = Changes(clock=lambda: float(next(times)))

    def fails(message: str) -> None:
        raise StatusError("INVALID_ARGUMENT", message)

    for message in ("a", "a", "b", "b", "b", "a"):
        with pytest.raises(StatusError):
            changes.record("reload_config", None, partial(fails, message))
    for _ in range(2):
        changes.record("reload_config", None, lambda: None)
    told = [(one["at"], one["outcome"], one["message"]) for one in changes.newest_first()]
    assert told == [
        (7.0, "OK", ""),
        (6.0, "OK", ""),
        (5.0, "INVALID_ARGUMENT", "a"),
        (4.0, "INVALID_ARGUMENT", "b"),
        (1.0, "INVALID_ARGUMENT", "a"),
    ]


def test_the_administrations_changes_are_among_them() -> None:
    management: Any = SimpleNamespace(
        unload=lambda name: {"name": name, "standing": "removed"}, models=lambda: {"models": []}, label=None
    )
    changes = Changes()
    routes = Routes(management, changes)
    routes.answer("DELETE", "/admin/models/a%2Fb", "", b"")
    routes.answer("GET", "/admin/models", "", b"")
    for method, path in [("DELETE", "/admin/models"), ("POST", "/admin/models/a/other"), ("PUT", "/admin/x")]:
        with pytest.raises(StatusError):
            routes.answer(method, path, "", b"")
    with pytest.raises(StatusError):
        routes.answer("PATCH", "/admin/models/a/labels", "", b"[]")
    told = [(one["what"], one["model"], one["outcome"]) for one in changes.newest_first()]
    assert told == [("label", "a", "INVALID_ARGUMENT"), ("unload", "a/b", "OK")]


# ---- models


class Server:
    """Stands in for the core, the manager, the inventory and the management."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.states_read = 0
        self.failures: dict[tuple[str, int], tuple[str, StatusError]] = {}
        self.standing = Availability.AVAILABLE
        self.state = "AVAILABLE"

    def states(self) -> list[tuple[str, int, str, str, str]]:
        self.states_read += 1
        return [(name, number, self.state, "OK", "") for name in self.names for number in (1, 2)]

    def engine(self, name: str, version: int) -> str:
        return "tensorflow"

    def signatures(self, name: str, version: int) -> list[Any]:
        method = "tensorflow/serving/predict"
        shaped, unshaped = ("x", "DT_FLOAT", [-1, 3]), ("y", "DT_STRING", None)
        return [("serving_default", method, [shaped], [unshaped]), ("__init", "", [], [])]

    def configured(self) -> tuple[ModelConfig, ...]:
        return tuple(ModelConfig(name, f"/models/{name}", labels={"stable": 1}) for name in self.names)

    def availability(self) -> dict[str, Availability]:
        return dict.fromkeys(self.names, self.standing)

    def failure(self, name: str, version: int) -> tuple[str, StatusError] | None:
        return self.failures.get((name, version))

    def of(self, name: str, version: int) -> Any:
        return SimpleNamespace(seconds=0.12345, memory_bytes=1200)

    def model(self, name: str) -> dict[str, Any]:
        one = {"version": 2, "state": self.state, "signatures": {"old": {}}, "memory_bytes_estimate": 7}
        versions = [one]
        base = f"/models/{name}"
        return {"name": name, "standing": self.standing.value, "base_path": base, "versions": versions}

    def bring_console(self, files: object, answer: object) -> None:
        raise AssertionError("it is not asked for")

    @property
    def listing(self) -> Listing:
        server: Any = self
        return Listing(server, server, server, server)


def test_models_are_told_by_name_in_pages() -> None:
    server = Server(*(f"m{number:03}" for number in range(250)))
    page = server.listing.page({})
    assert (len(page["models"]), page["total"], page["next"]) == (100, 250, "m099")
    assert server.states_read == 1
    assert page["models"][7] == {
        "name": "m007",
        "standing": "available",
        "base_path": "/models/m007",
        "labels": {"stable": 1},
        "versions": [
            {
                "version": number,
                "state": "AVAILABLE",
                "engine": "tensorflow",
                "load_seconds": 0.123,
                "memory_bytes": 1200,
            }
            for number in (2, 1)
        ],
    }
    seen, after = 0, {}
    while after is not None:
        page = server.listing.page({"limit": "60", **after})
        seen += len(page["models"])
        after = None if page["next"] is None else {"after": page["next"]}
    assert seen == 250
    found = server.listing.page({"search": "M24", "limit": "3", "after": "m241"})
    assert ([one["name"] for one in found["models"]], found["total"], found["next"]) == (
        ["m242", "m243", "m244"], 10, "m244",
    )  # fmt: skip
    nothing = server.listing.page({"search": "?"})
    assert nothing == {"models": [], "total": 0, "next": None}


def test_a_page_of_long_models_has_fewer_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_BYTES", 1000)
    server = Server(*(f"m{number}" + "x" * (2000 if number == 3 else 0) for number in range(9)))
    sizes, after = [], {}
    while after is not None:
        page = server.listing.page({"limit": "5", **after})
        assert page["total"] == 9
        sizes.append([one["name"][:2] for one in page["models"]])
        after = None if page["next"] is None else {"after": page["next"]}
    assert sizes[1:3] == [["m3"], ["m4", "m5", "m6"]], sizes
    assert [name for names in sizes for name in names] == [f"m{number}" for number in range(9)]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "1e2", "٣", "9" * 20])
def test_a_limit_that_makes_no_sense(limit: str) -> None:
    with pytest.raises(StatusError, match="limit expects"):
        Server("a").listing.page({"limit": limit})


def test_versions_that_are_tried_again_say_why() -> None:
    server = Server("a")
    server.state = "LOADING"
    error = StatusError("DATA_LOSS", "c" * 5000)
    server.failures["a", 2] = ("/models/a/2", error)
    newest, oldest = server.listing.page({})["models"][0]["versions"]
    assert newest["error"] == {"code": "DATA_LOSS", "message": "c" * 500 + "…"}
    assert "error" not in oldest and "engine" not in oldest


def test_one_model_has_signatures_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server("a")
    version = server.listing.model("a")["versions"][0]
    assert version["signatures"] == {
        "serving_default": {
            "method": "tensorflow/serving/predict",
            "inputs": [{"name": "x", "dtype": "DT_FLOAT", "shape": [-1, 3]}],
            "outputs": [{"name": "y", "dtype": "DT_STRING", "shape": None}],
        }
    }
    assert (version["engine"], version["memory_bytes"]) == ("tensorflow", 7) and "advice" not in version
    server.state = "END"
    server.failures["a", 2] = ("/models/a/2", StatusError("NOT_FOUND", "Op type not registered 'Odd'"))
    version = server.listing.model("a")["versions"][0]
    assert version["error"]["code"] == "NOT_FOUND" and "signatures" not in version
    assert "--op_library" in version["advice"]
    server.failures["a", 2] = ("/models/a/2", StatusError("NOT_FOUND", "odd", "a hint of its own"))
    assert server.listing.model("a")["versions"][0]["advice"] == "a hint of its own"


def test_a_model_without_versions_says_what_to_do(tmp_path: Path) -> None:
    server = Server(str(tmp_path).removeprefix("/"))
    server.standing, server.state = Availability.MISSING, "START"
    told: Any = server.listing
    told.management = SimpleNamespace(
        model=lambda name: {"name": name, "standing": "missing", "base_path": str(tmp_path), "versions": []}
    )
    assert "the folder is empty" in told.model("m")["advice"]
    advice = Advice()
    assert "does not exist" in advice.on_missing("m", str(tmp_path / "none" / "m"))
    assert advice.on_missing("m", "s3://bucket/m") == ""


def test_advice_is_kept_for_a_while_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [0.0], []
    monkeypatch.setattr(listing, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def look(path: str, about: str) -> str:
        looks.append(path)
        if about == "raises":
            raise OSError("gone")
        return path

    advice = Advice()
    for _ in range(2):
        assert advice._known("/a", "m", look) == "/a"
    assert advice._known("/a", "raises", look) == ""
    now[0] += 31
    assert advice._known("/a", "m", look) == "/a" and len(looks) == 3
    for number in range(2 * MOST_ADVICE):
        advice._known(f"/{number}", "m", look)
    assert len(advice._kept) <= MOST_ADVICE


# ---- answers


def api(*names: str, **core: Any) -> Api:
    config = ServerConfig((), CoreOptions(**core), LoadOptions(), LifecycleOptions())
    about = About(config, lambda: {"rest": "[::]:1", "grpc": "10.0.0.1:2"}, lambda: "127.0.0.1:3", 10.0)
    return Api(about, Server(*names).listing, Changes())


def ask(answer: Callable[..., tuple[str, bytes]], path: str, query: str = "", method: str = "GET") -> Any:
    kind, content = answer(method, f"/console/api/{path}", query, b"")
    assert kind == "application/json" and content.isascii()
    return json.loads(content)


def operations(method: str, path: str, query: str, body: bytes) -> tuple[str, bytes]:
    return "text/plain", f"{method} {path} {query} {body!r}".encode()


def test_the_server_is_told_as_it_is_reached() -> None:
    told = api("a", "b")
    fields = ask(told.answer, "server")
    uptime, resident = fields.pop("uptime_seconds"), fields.pop("resident_bytes")
    assert uptime > 0 and resident > 1e6 and fields.pop("version")
    assert fields == {
        "started": 10.0,
        "manage": False,
        "admin_address": "http://127.0.0.1:3",
        "rest_address": "localhost:1",
        "grpc_address": "10.0.0.1:2",
        "engines": {},
        "models": {"total": 2, "available": 2, "failed": 0},
        "auth": False,
    }
    managing = told.beside(operations)
    assert ask(managing, "server")["manage"] is True
    assert managing("PUT", "/admin/models/a", "x=1", b"{}")[1] == b"PUT /admin/models/a x=1 b'{}'"


def test_who_needs_a_token_is_told() -> None:
    assert ask(api(auth_file="/tokens").answer, "server")["auth"] is True
    config = ServerConfig(
        (), CoreOptions(), LoadOptions(), LifecycleOptions(), admin=AdminOptions("127.0.0.1:0", "secret")
    )
    about = About(config, dict, lambda: None)
    assert (about.needs_token(False), about.needs_token(True)) == (False, True)
    assert (about.port("rest"), about.administration()) == (None, None)


def test_engines_have_the_versions_of_their_packages(tmp_path: Path) -> None:
    for package, version in (("tensorflow_cpu", "2.21.0"), ("onnxruntime", "1.22.0")):
        info = tmp_path / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    libraries = {
        "tensorflow": str(tmp_path / "tensorflow" / "libtensorflow_cc.so.2"),
        "onnx": str(tmp_path / "onnxruntime" / "capi" / "libonnxruntime.so.1"),
        "openvino": "/opt/libopenvino_c.so",
    }
    engines = api(libraries=libraries).about.engines
    assert engines == {"tensorflow": "2.21.0", "onnx": "1.22.0", "openvino": "/opt/libopenvino_c.so"}
    assert api(libraries={"tensorflow": "/opt/x.so"}).about.engines == {"tensorflow": "/opt/x.so"}


def test_hostile_names_come_out_as_text() -> None:
    told = api(*HOSTILE)
    names = [one["name"] for one in ask(told.answer, "models")["models"]]
    assert names == sorted(HOSTILE)
    from urllib.parse import quote

    for name in HOSTILE[:4]:
        assert ask(told.answer, f"models/{quote(name, safe='')}")["name"] == name


def test_what_is_not_there_is_said_and_changes_are_for_administrators() -> None:
    told = api("a")
    told.changes.record("load", "a", lambda: None)
    managing = told.beside(operations)
    assert ask(managing, "changes")["changes"][0]["what"] == "load"
    for path, method, code in [
        ("changes", "GET", "NOT_FOUND"),
        ("other", "GET", "NOT_FOUND"),
        ("models/", "GET", "NOT_FOUND"),
        ("models/a/b", "GET", "NOT_FOUND"),
        ("", "GET", "NOT_FOUND"),
        ("models", "POST", "UNIMPLEMENTED"),
    ]:
        with pytest.raises(StatusError) as error:
            ask(told.answer, path, method=method)
        assert error.value.code == code, path


def test_a_defect_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    told = api("a")
    told.listing.core = None  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR), pytest.raises(StatusError) as error:
        ask(told.answer, "models")
    assert error.value.code == "INTERNAL" and "GET /console/api/models failed" in caplog.text


def test_the_console_tells_no_password_of_a_store() -> None:
    server = Server("a")
    told: Any = server.listing
    signed = "https://user:secret@host/a.zip?signature=secret"
    told.manager = SimpleNamespace(
        configured=lambda: (ModelConfig("a", signed),),
        availability=server.availability,
        failure=server.failure,
    )
    told.management = SimpleNamespace(model=lambda name: {**server.model(name), "base_path": signed})
    page, one = told.page({}), told.model("a")
    assert page["models"][0]["base_path"] == one["base_path"] == "https://user:…@host/a.zip?…"
