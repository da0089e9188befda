"""The administration's HTTP server: JSON under ``/admin``, health under ``/livez`` and ``/readyz``.

Off unless ``--admin_address`` is given, and on an address of its own: nothing of it is reachable through the
ports that serve models. Guarded by a bearer token where one is set; without a token it answers only on a
loopback address, and to a ``Host`` that no foreign name server can have pointed here; but for the two health
paths, which tell nothing and are open to probes. Requests from browsers (those with an ``Origin``) are
refused, so that no web page can drive it. How many may connect, and for how long: ``admin_listener.py``.

    GET    /admin/models                  every model: versions, states, labels, sizes, load times
    GET    /admin/models/NAME             one
    PUT    /admin/models/NAME             load or change: {"base_path": …, "model_version_policy": …};
                                          what is not given stays
    DELETE /admin/models/NAME             unload
    POST   /admin/models/NAME/reload      load its versions again from their files
    PATCH  /admin/models/NAME/labels      {"stable": 3, "old": null}
    POST   /admin/models/NAME/record      {"requests": 100, "seconds": 60, "every": 1}: what clients ask
                                          meanwhile, as TFRecords of PredictionLog
    GET    /admin/config                  what is followed now; ?format=text: as a config file
    POST   /admin/config/reload           apply the config file again

``?wait=SECONDS`` (60) bounds how long PUT and reload wait.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from servable.admin.listener import Connection, Listener
from servable.admin.operations import Fields, Management
from servable.config.values import AdminOptions
from servable.errors import StatusError, invalid_argument
from servable.savedmodel import tfrecord

_log = logging.getLogger("admin")

LARGEST_BODY = 1 << 20
"""Bytes."""
LONGEST_WAIT = 3600.0
_METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")
_KNOWN_METHODS = (*_METHODS, "OPTIONS", "TRACE", "CONNECT")
DEFAULT_WAIT = 60.0

STATUSES = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "DEADLINE_EXCEEDED": 504,
    "UNAVAILABLE": 503,
    "UNIMPLEMENTED": 405,
}
"""HTTP statuses of the administration by canonical code; 500 for the rest."""


class AdminServer:
    """Listens from construction on; ``close`` ends it. ready: whether requests to models are answered now."""

    def __init__(self, options: AdminOptions, management: Management, ready: Callable[[], bool]) -> None:
        host, _, port = options.address.rpartition(":")
        try:
            self._http = _Listener(host.strip("[]"), int(port), _Handler)
        except (OSError, ValueError) as error:
            raise StatusError(
                "UNAVAILABLE", f"Failed to start the administration at {options.address}: {error}"
            ) from None
        shown, port_opened = self._http.server_address[:2]
        guard = _Guard(options.token, _is_loopback(str(shown)), host)
        self._http.service = _Service(guard, management, ready)
        self.address = f"{_bracketed(str(shown))}:{port_opened}"
        self._thread = threading.Thread(target=self._http.serve_forever, name="admin", daemon=True)
        self._thread.start()
        _log.info("administration at http://%s/admin/models", self.address)

    def close(self) -> None:
        """Stops listening, within a second or so; requests that are being answered go on."""
        self._http.close()
        self._thread.join()


class _Listener(Listener):
    service: _Service


class _Guard:
    """Who may administer.

    token: "" for none; then only where the listener is on_loopback, and by a name that is this machine's.
    host: the name that was configured.
    """

    def __init__(self, token: str, on_loopback: bool, host: str) -> None:
        self._token = token
        self._on_loopback = on_loopback
        self._names = {"localhost", host.lower()}

    def check(self, authorization: str, origin: str | None, hosts: Sequence[str]) -> None:
        """Raises ``StatusError`` unless a request with these headers may administer."""
        if origin is not None:
            raise StatusError("PERMISSION_DENIED", "Requests of web pages (with an Origin) are refused")
        if self._token:
            if not hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode()):
                raise StatusError("UNAUTHENTICATED", "A bearer token is needed: Authorization: Bearer TOKEN")
            return
        if not self._on_loopback:
            raise StatusError(
                "PERMISSION_DENIED",
                "The administration listens beyond this machine and has no token: only health is answered",
                "set --admin_token or $SERVABLE_ADMIN_TOKEN, or listen on 127.0.0.1",
            )
        for host in hosts:
            if not self._is_ours(host):
                raise StatusError(
                    "PERMISSION_DENIED",
                    f"Host {host[:100]} is refused: without a token the administration answers to its IP "
                    "address, to localhost, and to the name in --admin_address",
                    "a web page may have had its name point here; use an IP address, or set --admin_token",
                )

    def _is_ours(self, host: str) -> bool:
        """Whether a ``Host`` header says what no web page's own name can be."""
        name, colon, port = host.strip().lower().rpartition(":")
        if not colon or not (port.isdecimal() or not port):
            name = host.strip().lower()
        name = name.rstrip(".")
        return name in self._names or _is_ip(name.removeprefix("[").removesuffix("]"))


class _Service:
    """From a request to an answer, without HTTP's details."""

    def __init__(self, guard: _Guard, management: Management, ready: Callable[[], bool]) -> None:
        self.guard = guard
        self._management = management
        self._ready = ready

    def health(self, path: str) -> tuple[int, Fields] | None:
        """The answer to ``/livez`` and ``/readyz``, None for other paths."""
        if path == "/livez":
            return 200, {"live": True}
        if path == "/readyz":
            ready = self._ready()
            return (200 if ready else 503), {"ready": ready}
        return None

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Fields | str | bytes:
        """What an authorized request gets. Raises ``StatusError``."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[:2] == ["admin", "config"]:
            return self._config(method, parts[2:], query)
        if parts[:2] == ["admin", "models"]:
            return self._models(method, parts[2:], query, body)
        raise StatusError("NOT_FOUND", f"There is nothing at {path}", "see /admin/models and /admin/config")

    def _config(self, method: str, rest: list[str], query: dict[str, str]) -> Fields | str:
        if (method, rest) == ("GET", []):
            text = query.get("format") == "text"
            return self._management.config_text() if text else self._management.config()
        if (method, rest) == ("POST", ["reload"]):
            return self._management.reload_config()
        raise _no_such(method, ["config", *rest])

    def _models(self, method: str, rest: list[str], query: dict[str, str], body: Any) -> Fields | bytes:
        management = self._management
        if not rest:
            if method == "GET":
                return management.models()
        elif len(rest) == 1:
            if method == "GET":
                return management.model(rest[0])
            if method == "PUT":
                return management.load(rest[0], _object(body), _wait(query))
            if method == "DELETE":
                return management.unload(rest[0])
        elif rest[1:] == ["reload"] and method == "POST":
            return management.reload(rest[0], _wait(query))
        elif rest[1:] == ["labels"] and method == "PATCH":
            return management.label(rest[0], _object(body))
        elif rest[1:] == ["record"] and method == "POST":
            records = management.record(rest[0], {} if body is None else _object(body))
            return b"".join(map(tfrecord.record, records))
        raise _no_such(method, ["models", *rest])


def _no_such(method: str, parts: list[str]) -> StatusError:
    return StatusError("UNIMPLEMENTED", f"{method} is not possible at /admin/{'/'.join(parts)}")


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise invalid_argument("The body must be a JSON object")
    return body


def _wait(query: dict[str, str]) -> float:
    text = query.get("wait", str(DEFAULT_WAIT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT:
        raise invalid_argument(f"wait expects seconds from 0 to {LONGEST_WAIT:g}, got {text}")
    return seconds


class _Handler(Connection):
    """HTTP's details, from a connection to the service."""

    protocol_version = "HTTP/1.1"
    server_version = "servable"
    sys_version = ""
    server: _Listener

    def _handle(self) -> None:
        try:
            parts = self._parts()
            body = self._body()
            if self.cut_short():
                self.close_connection = True
                return
            health = self.server.service.health(parts.path) if self.command in ("GET", "HEAD") else None
            if health is not None:
                self._send(*health)
                return
            self._check()
            with self.server.answering(self.connection):
                self._send(200, self._answer(parts, json.loads(body) if body else None))
        except StatusError as error:
            self._send_error(error)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            self._send_error(invalid_argument(f"The body is not JSON: {error}"))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as error:
            _log.exception("%s %s failed", self.command, self.path)
            self._send_error(StatusError("INTERNAL", f"{type(error).__name__}: {error}"))

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 (names of the base)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses by itself: a method that there is not, or what is no HTTP."""
        self.close_connection = True
        # What has no version, or a strange one, is answered with a head all the same.
        self.request_version = self.protocol_version
        known = getattr(self, "command", None) in _KNOWN_METHODS
        status = 405 if code == 501 and known else code
        text = message or explain or self.responses.get(code, ("The request cannot be read", ""))[0]
        kind = "UNIMPLEMENTED" if code in (501, 505) else "INVALID_ARGUMENT"
        self._send(status, {"error": text, "code": kind})

    def _parts(self) -> SplitResult:
        try:
            return urlsplit(self.path)
        except ValueError as error:
            raise invalid_argument(f"{self.path[:100]} is no path: {error}") from None

    def _check(self) -> None:
        """Raises ``StatusError`` unless the request may administer."""
        authorization, origin = self.headers.get("Authorization", ""), self.headers.get("Origin")
        self.server.service.guard.check(authorization, origin, self.headers.get_all("Host", []))

    def _answer(self, parts: SplitResult, content: Any) -> Fields | str | bytes:
        method = "GET" if self.command == "HEAD" else self.command
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        return self.server.service.answer(method, parts.path, query, content)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not length.isdecimal() or len(length) > 12:
            self.close_connection = True
            raise invalid_argument("A body needs a Content-Length")
        if int(length) > LARGEST_BODY:
            self.close_connection = True
            raise invalid_argument(f"The body has {length} bytes, more than {LARGEST_BODY}")
        return self.rfile.read(int(length))

    def _send_error(self, error: StatusError) -> None:
        fields = {"error": error.message, "code": error.code}
        if error.hint:
            fields["hint"] = error.hint
        self._send(STATUSES.get(error.code, 500), fields)

    def _send(self, status: int, content: Fields | str | bytes) -> None:
        if isinstance(content, bytes):
            content_type, data = "application/octet-stream", content
        elif isinstance(content, str):
            content_type, data = "text/plain; charset=utf-8", content.encode()
        else:
            content_type, data = "application/json", (json.dumps(content, indent=2) + "\n").encode()
        self.begin_to_send()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        if status == 405:
            self.send_header("Allow", ", ".join(_METHODS))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """One line at level info for changes, debug for looks."""
        # A connection that ends before its first request has no command.
        looks = getattr(self, "command", None) in (None, "GET", "HEAD")
        level = logging.DEBUG if looks else logging.INFO
        _log.log(level, "%s %s", self.client_address[0], format % args)


def _is_loopback(address: str) -> bool:
    return _is_ip(address) and ipaddress.ip_address(address).is_loopback


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
