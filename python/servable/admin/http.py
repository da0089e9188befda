"""The administration over HTTP: routes a request to its operation and formats the reply.

The core listens on a separate address, checks authorization, and answers the pages of health
(``src/admin/``). Off unless ``--admin_address`` is given.

    GET    /admin/models                  every model: versions, states, labels, sizes, load times
    GET    /admin/models/NAME             one model
    PUT    /admin/models/NAME             load or change: {"base_path": …, "model_version_policy": …};
                                          fields not given stay
    DELETE /admin/models/NAME             unload
    POST   /admin/models/NAME/reload      load its versions from their files again
    POST   /admin/models/NAME/prefetch    load it, if it is loaded on demand: it will be asked
    PATCH  /admin/models/NAME/labels      {"stable": 3, "old": null}
    GET    /admin/models/NAME/traffic     how its requests are spread, and what has become of them
    PUT    /admin/models/NAME/traffic     {"share": [{"to": "canary", "percent": 5}]}, as in a config file
    DELETE /admin/models/NAME/traffic     spread no longer
    POST   /admin/models/NAME/traffic/resume   give back what was rolled back
    POST   /admin/models/NAME/record      {"requests": 100, "seconds": 60, "every": 1}: clients' requests
                                          meanwhile, as TFRecords of PredictionLog
    GET    /admin/config                  the configuration in force; ?format=text: as a config file
    POST   /admin/config/reload           apply the config file again

``?wait=SECONDS`` (60) bounds how long PUT, reload and prefetch wait.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from servable.admin.changes import Changes
from servable.admin.interfaces import Core
from servable.admin.operations import Fields, Management
from servable.config.values import AdminOptions
from servable.errors import StatusError, invalid_argument
from servable.savedmodel import tfrecord

_log = logging.getLogger("servable.admin")

LONGEST_WAIT = 3600.0
DEFAULT_WAIT = 60.0
"""Limit and default of ``?wait``, in seconds."""

Answer = Callable[[str, str, str, bytes], tuple[str, bytes]]
"""Answers method, path, query and body with content type and bytes. Raises only ``StatusError``."""


class AdminServer:
    """Listens from construction until ``close``; on the socket ``listening``, if that does already."""

    def __init__(
        self,
        core: Core,
        options: AdminOptions,
        answer: Answer,
        scheme: str = "http",
        listening: int | None = None,
    ) -> None:
        try:
            self._served = core.serve_admin(_resolved(options.address), options, answer, listening)
        except (OSError, ValueError) as error:
            raise StatusError(
                "UNAVAILABLE", f"Failed to start the administration at {options.address}: {error}"
            ) from None
        self.address = self._served.address
        _log.info("administration at %s://%s/admin/models", scheme, self.address)

    def listener(self) -> int | None:
        """Returns a copy of the listening socket, a descriptor to be closed; None once it is closed."""
        return self._served.listener()

    def pass_on(self) -> None:
        """Accepts no more; leaves connections that wait to others who have the socket. Open ones go on."""
        self._served.pass_on()

    def close(self) -> bool:
        """Stops listening, within a second. Requests being answered continue; True if there are none."""
        return self._served.close()


def _resolved(address: str) -> str:
    """Resolves the host name in ``address`` to an IP address, as the core needs it."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = found[0]
    ip = str(where[0])
    if family != socket.AF_INET6:
        return f"{ip}:{port}"
    zone = where[3] if len(where) > 3 else 0
    return f"[{ip}%{zone}]:{port}" if zone and "%" not in ip else f"[{ip}]:{port}"


_Change = Callable[[str, dict[str, str], Any], "Fields | bytes"]
_Find = Callable[[str, str, dict[str, str], Any], "Fields | str | bytes"]


def answered(
    find: _Find, method: str, path: str, query: str, body: bytes, *, compact: bool = False
) -> tuple[str, bytes]:
    """Returns content type and bytes of what ``find`` finds for a request. Raises only ``StatusError``.

    compact: JSON without white space, for programs.
    """
    try:
        fields = {key: values[-1] for key, values in parse_qs(query).items()}
        return _typed(find(method, path, fields, _parsed(body)), compact)
    except StatusError:
        raise
    except Exception as error:
        _log.exception("%s %s failed", method, path)
        raise StatusError("INTERNAL", f"{type(error).__name__}: {error}") from None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError) as error:
        # Also for a number of thousands of digits.
        raise invalid_argument(f"The body is not JSON: {error}") from None


class Routes:
    """Answers authorized requests. changes: remembers those that change something."""

    def __init__(self, management: Management, changes: Changes | None = None) -> None:
        self._management = management
        self._changes = changes or Changes()

    def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[str, bytes]:
        """Returns content type and bytes of the reply. Raises only ``StatusError``."""
        return answered(self._find, method, path, query, body)

    def _find(self, method: str, path: str, query: dict[str, str], body: Any) -> Fields | str | bytes:
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
            return self._changes.record("reload_config", None, self._management.reload_config)
        raise _no_such(method, ["config", *rest])

    def _models(self, method: str, rest: list[str], query: dict[str, str], body: Any) -> Fields | bytes:
        if method == "GET" and not rest:
            return self._management.models()
        if method == "GET" and len(rest) == 1:
            return self._management.model(rest[0])
        if method == "GET" and rest[1:] == ["traffic"]:
            return self._management.traffic(rest[0])
        changes: dict[tuple[str, str], tuple[str, _Change]] = {
            ("PUT", ""): ("load", self._load),
            ("DELETE", ""): ("unload", self._unload),
            ("POST", "reload"): ("reload", self._reload),
            ("POST", "prefetch"): ("prefetch", self._prefetch),
            ("PATCH", "labels"): ("label", self._label),
            ("PUT", "traffic"): ("set_traffic", self._set_traffic),
            ("DELETE", "traffic"): ("clear_traffic", self._clear_traffic),
            ("POST", "traffic/resume"): ("resume_traffic", self._resume_traffic),
            ("POST", "record"): ("record", self._record),
        }
        found = changes.get((method, "/".join(rest[1:])))
        if found is None or not rest:
            raise _no_such(method, ["models", *rest])
        (what, change), name = found, rest[0]
        return self._changes.record(what, name, lambda: change(name, query, body))

    def _load(self, name: str, query: dict[str, str], body: Any) -> Fields:
        return self._management.load(name, _object(body), _wait(query))

    def _unload(self, name: str, _query: dict[str, str], _body: Any) -> Fields:
        return self._management.unload(name)

    def _reload(self, name: str, query: dict[str, str], _body: Any) -> Fields:
        return self._management.reload(name, _wait(query))

    def _prefetch(self, name: str, query: dict[str, str], _body: Any) -> Fields:
        return self._management.prefetch(name, _wait(query))

    def _label(self, name: str, _query: dict[str, str], body: Any) -> Fields:
        return self._management.label(name, _object(body))

    def _set_traffic(self, name: str, _query: dict[str, str], body: Any) -> Fields:
        return self._management.set_traffic(name, _object(body))

    def _clear_traffic(self, name: str, _query: dict[str, str], _body: Any) -> Fields:
        return self._management.clear_traffic(name)

    def _resume_traffic(self, name: str, _query: dict[str, str], _body: Any) -> Fields:
        return self._management.resume_traffic(name)

    def _record(self, name: str, _query: dict[str, str], body: Any) -> bytes:
        records = self._management.record(name, {} if body is None else _object(body))
        return b"".join(map(tfrecord.record, records))


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


def _typed(content: Fields | str | bytes, compact: bool) -> tuple[str, bytes]:
    if isinstance(content, bytes):
        return "application/octet-stream", content
    if isinstance(content, str):
        return "text/plain; charset=utf-8", content.encode()
    text = json.dumps(content, separators=(",", ":")) if compact else json.dumps(content, indent=2)
    return "application/json", f"{text}\n".encode()
