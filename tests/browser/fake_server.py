"""A server that answers as the console's page expects, with what no real one has at hand.

A thousand models, hostile names, every standing, a token, traffic of an hour. It serves the built page
under the same headers. `stop` and `start` make it go and come back at the same port.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from conftest import ROOT

ASSETS = ROOT / "python" / "servable" / "console" / "assets"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
Fields = dict[str, Any]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>document.title='owned'</script>",
    "'\"`${alert(1)}{{7*7}}",
    "javascript:alert(1)",
    "\u202eright to left\u202c and \u2066isolated",
    "a/b?c=d#e:predict",
    "__proto__",
    "x" * 10_000,
    "नमस्ते 你好 مرحبا 😀",
    "two\nlines\tand a tab",
]


def tensor(name: str, dtype: str, shape: list[int] | None) -> Fields:
    """Returns a tensor of a signature."""
    return {"name": name, "dtype": dtype, "shape": shape}


def signature(inputs: list[Fields], outputs: list[Fields]) -> Fields:
    """Returns a signature of a version."""
    return {"method": "tensorflow/serving/predict", "inputs": inputs, "outputs": outputs}


HALF_PLUS_TWO = signature([tensor("x", "DT_FLOAT", [-1])], [tensor("y", "DT_FLOAT", [-1])])
DIGITS = signature(
    [tensor("pixels", "DT_FLOAT", [-1, 28, 28, 1])], [tensor("probabilities", "DT_FLOAT", [-1, 10])]
)


def version(number: int, signatures: Fields | None = None) -> Fields:
    """Returns an available version."""
    return {
        "version": number,
        "state": "AVAILABLE",
        "engine": "tensorflow",
        "load_seconds": 0.184,
        "memory_bytes": 3_400_000,
        "available_since": time.time() - 400,
        "file_bytes": 3_100_000,
        "path": f"/models/m/{number}",
        "signatures": {"serving_default": HALF_PLUS_TWO} if signatures is None else signatures,
    }


def failed(number: int, message: str, advice: str) -> Fields:
    """Returns a version that did not load."""
    error = {"code": "NOT_FOUND", "message": message}
    return {"version": number, "state": "END", "error": error, "advice": advice}


def model(name: str, *versions: Fields, labels: dict[str, int] | None = None) -> Fields:
    """Returns a model; without versions, one that is available."""
    all_versions = list(versions) or [version(1)]
    available = any(one["state"] == "AVAILABLE" for one in all_versions)
    return {
        "name": name,
        "standing": "available" if available else "failed",
        "base_path": f"/models/{name[:200]}",
        "version_policy": {"latest": {"num_versions": 1}},
        "labels": labels or {},
        "versions": all_versions,
    }


def hostile_models() -> list[Fields]:
    """Returns models in which everything that can be named has a hostile name."""
    models = []
    for index, name in enumerate(HOSTILE):
        tensors = [tensor(text, "DT_STRING", [-1]) for text in HOSTILE]
        signatures = {text: signature(tensors[:2], tensors) for text in [HOSTILE[index], *HOSTILE]}
        models.append(
            model(
                name,
                version(2, signatures),
                failed(1, "\n".join(HOSTILE), HOSTILE[index]),
                labels=dict.fromkeys(HOSTILE, 2),
            )
        )
    return models


@dataclass
class Scene:
    """What the server has and does."""

    models: list[Fields] = field(default_factory=list)
    manage: bool = False
    token: str | None = None
    weak_token: str | None = None
    """A token that is good, and has the rights for nothing but the server's own page."""
    predict: Callable[[Fields], Fields] = lambda request: {"predictions": [1.0]}
    changes: list[Fields] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    """Method, path and body of what was asked for, but for GET."""


class FakeServer:
    """Serves a scene until it is closed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Listens, at the port that it has had before."""
        scene = self.scene

        class Handler(_Handler):
            shown = scene

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Closes the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    # More than five connections may wait, as many as a browser opens on a busy machine.
    request_queue_size = 128
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    shown: Scene
    # One connection for each request: none outlives the port.
    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        parts = [unquote(part) for part in split.path.strip("/").split("/")]
        if parts == [""] or (parts[0] == "console" and parts[1] != "api"):
            return self._file("/".join(parts) or "index.html")
        scene = self.shown
        shown = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if scene.token is not None and shown not in (scene.token, scene.weak_token):
            return self._json(401, {"error": "A token is needed"})
        if scene.token is not None and shown != scene.token and parts != ["console", "api", "server"]:
            return self._json(403, {"error": "This token may not do that"})
        fields = {key: values[-1] for key, values in parse_qs(split.query).items()}
        if method != "GET":
            scene.requests.append((method, split.path, json.loads(body) if body else None))
        status, content = _answer_of(scene, method, parts, fields, json.loads(body) if body else None)
        return (
            self._json(status, content)
            if not isinstance(content, str)
            else self._send(status, "text/plain", content.encode())
        )

    def _file(self, name: str) -> None:
        path = ASSETS / name
        if not path.is_file():
            return self._json(404, {"error": f"Not Found: /{name}"})
        return self._send(200, TYPES[path.suffix], path.read_bytes())

    def _json(self, status: int, content: Fields) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)


def _answer_of(
    scene: Scene, method: str, parts: list[str], query: dict[str, str], body: Any
) -> tuple[int, Fields | str]:
    found = {one["name"]: one for one in scene.models}
    if parts[:2] == ["console", "api"]:
        return _console(scene, parts[2:], query, found)
    if parts[0] == "v1" and method == "POST":
        return 200, scene.predict(body)
    if parts[0] == "admin" and not scene.manage:
        return 404, {"error": "Not Found"}
    if parts[:2] == ["admin", "config"]:
        return 200, 'model_config_list {\n  config { name: "m" base_path: "/models/m" }\n}\n'
    return _manage(scene, method, parts[2:], found)


def _console(
    scene: Scene, parts: list[str], query: dict[str, str], found: dict[str, Fields]
) -> tuple[int, Fields]:
    if parts == ["server"]:
        return 200, _server(scene)
    if parts == ["models"]:
        search, after = query.get("search", "").lower(), query.get("after")
        names = sorted(name for name in found if search in name.lower())
        rest = names if after is None else [name for name in names if name > after]
        limit = int(query.get("limit", "100"))
        more = rest[limit - 1] if len(rest) > limit else None
        return 200, {"models": [found[name] for name in rest[:limit]], "total": len(names), "next": more}
    if parts[:1] == ["models"]:
        known = found.get("/".join(parts[1:]))
        return (404, {"error": f"There is no model {parts[1]}"}) if known is None else (200, known)
    if parts == ["traffic"]:
        return 200, _traffic(sorted(found))
    if parts == ["changes"]:
        return 200, {"changes": scene.changes}
    return 404, {"error": "Not Found"}


def _server(scene: Scene) -> Fields:
    standings = [one["standing"] for one in scene.models]
    return {
        "version": "0.1.0",
        "started": time.time() - 4000,
        "uptime_seconds": 4000.5,
        "manage": scene.manage,
        "admin_address": None,
        "rest_address": "127.0.0.1:8501",
        "grpc_address": "127.0.0.1:8500",
        "engines": {"tensorflow": "2.21.0"},
        "models": {
            "total": len(standings),
            "available": standings.count("available"),
            "failed": standings.count("failed"),
        },
        "resident_bytes": 412_000_000,
        "auth": scene.token is not None,
    }


def _traffic(models: list[str]) -> Fields:
    now = int(time.time()) // 5 * 5
    steps = range(720)
    wave = [120 + 80 * math.sin(step / 40) + 25 * math.sin(step / 5) for step in steps]
    return {
        "interval_seconds": 5,
        "t": [now - 5 * (719 - step) for step in steps],
        "requests": [round(5 * one) for one in wave],
        "errors": [round(max(0, one - 210)) for one in wave],
        "p50_ms": [0.4 + one / 400 if step > 60 else None for step, one in enumerate(wave)],
        "p90_ms": [0.9 + one / 150 if step > 60 else None for step, one in enumerate(wave)],
        "p99_ms": [2.5 + one / 40 if step > 60 else None for step, one in enumerate(wave)],
        "batch_rows": [1 + one / 50 for one in wave],
        "queue_ms": [one / 900 for one in wave],
        "in_flight": [round(one / 30) for one in wave],
        "cpu_cores": [one / 160 for one in wave],
        "resident_bytes": [400_000_000 + 100_000 * step for step in steps],
        "models": models,
    }


def _manage(scene: Scene, method: str, parts: list[str], found: dict[str, Fields]) -> tuple[int, Fields]:
    name = parts[0] if parts else ""
    if method == "PUT":
        scene.models.append(model(name))
        return 200, scene.models[-1]
    if name not in found:
        return 404, {"error": f"There is no model {name}"}
    if method == "DELETE":
        scene.models.remove(found[name])
    scene.changes.insert(
        0, {"at": time.time(), "what": method, "model": name, "outcome": "OK", "message": ""}
    )
    return 200, found[name]
