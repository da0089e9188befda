"""The administration over HTTP: routes a request to its operation and formats the reply.

The core listens on a separate address, checks authorization, and answers the pages of health
(``src/admin/``). Off unless ``--admin_address`` is given.

    GET    /admin/models                  every model: versions, states, labels, sizes, load times
    GET    /admin/models/NAME             one model
    PUT    /admin/models/NAME             load or change: {"base_path": …, "model_version_policy": …};
                                          fields not given stay
    DELETE /admin/models/NAME             unload
    POST   /admin/models/NAME/reload      load its versions from their files again
    PATCH  /admin/models/NAME/labels      {"stable": 3, "old": null}
    POST   /admin/models/NAME/record      {"requests": 100, "seconds": 60, "every": 1}: clients' requests
                                          meanwhile, as TFRecords of PredictionLog
    GET    /admin/config                  the configuration in force; ?format=text: as a config file
    POST   /admin/config/reload           apply the config file again

``?wait=SECONDS`` (60) bounds how long PUT and reload wait.
"""

from __future__ import annotations

import json
import logging
import socket
from typing import Any
from urllib.parse import parse_qs, unquote

from servable.admin.interfaces import Core
from servable.admin.operations import Fields, Management
from servable.config.values import AdminOptions
from servable.errors import StatusError, invalid_argument
from servable.savedmodel import tfrecord

_log = logging.getLogger("servable.admin")

LONGEST_WAIT = 3600.0
DEFAULT_WAIT = 60.0
"""Limit and default of ``?wait``, in seconds."""


class AdminServer:
    """Listens from construction until ``close``; on the socket ``listening``, if that does already."""

    def __init__(
        self,
        core: Core,
        options: AdminOptions,
        management: Management,
        scheme: str = "http",
        listening: int | None = None,
    ) -> None:
        answer = Routes(management).answer
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


class Routes:
    """Answers authorized requests."""

    def __init__(self, management: Management) -> None:
        self._management = management

    def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[str, bytes]:
        """Returns content type and bytes of the reply. Raises only ``StatusError``."""
        try:
            fields = {key: values[-1] for key, values in parse_qs(query).items()}
            return _typed(self._find(method, path, fields, json.loads(body) if body else None))
        except StatusError:
            raise
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise invalid_argument(f"The body is not JSON: {error}") from None
        except Exception as error:
            _log.exception("%s %s failed", method, path)
            raise StatusError("INTERNAL", f"{type(error).__name__}: {error}") from None

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


def _typed(content: Fields | str | bytes) -> tuple[str, bytes]:
    if isinstance(content, bytes):
        return "application/octet-stream", content
    if isinstance(content, str):
        return "text/plain; charset=utf-8", content.encode()
    return "application/json", (json.dumps(content, indent=2) + "\n").encode()
