"""What the console's page asks of the server.

    GET /console/api/server       the server: version, addresses, engines, how many models
    GET /console/api/models       models by name: ?search=TEXT&after=NAME&limit=100
    GET /console/api/models/NAME  one model: signatures, and what to do about failures
    GET /console/api/traffic      answered by the core (``src/console/traffic.rs``)
    GET /console/api/changes      the last changes, at the administration's address alone

On the REST port it only looks (``src/rest/console.rs``). At the administration's address it stands beside the
operations, which the page uses there as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import servable
from servable.admin.changes import Changes
from servable.admin.http import Answer, answered
from servable.admin.operations import Fields
from servable.console.about import About
from servable.console.listing import Listing
from servable.errors import StatusError
from servable.lifecycle.inventory import resident_bytes

PREFIX = "/console/api/"
_MODEL = "models/"


@dataclass(frozen=True)
class Api:
    """Answers the page. Every method may be called from any thread."""

    about: About
    listing: Listing
    changes: Changes

    def answer(self, method: str, path: str, query: str, body: bytes) -> tuple[str, bytes]:
        """Returns content type and bytes of a reply on the REST port. Raises only ``StatusError``."""
        return answered(self._looking, method, path, query, body, compact=True)

    def beside(self, operations: Answer) -> Answer:
        """Returns what answers at the administration's address: the page's questions, and ``operations``."""

        def answer(method: str, path: str, query: str, body: bytes) -> tuple[str, bytes]:
            if not path.startswith(PREFIX):
                return operations(method, path, query, body)
            return answered(self._managing, method, path, query, body, compact=True)

        return answer

    def _looking(self, method: str, path: str, query: dict[str, str], _body: Any) -> Fields:
        return self._find(method, path, query, manage=False)

    def _managing(self, method: str, path: str, query: dict[str, str], _body: Any) -> Fields:
        return self._find(method, path, query, manage=True)

    def _find(self, method: str, path: str, query: dict[str, str], manage: bool) -> Fields:
        asked = path.removeprefix(PREFIX)
        if method != "GET":
            raise StatusError("UNIMPLEMENTED", f"{method} is not possible at {path}")
        told: dict[str, Callable[[], Fields]] = {
            "server": lambda: self._server(manage),
            "models": lambda: self.listing.page(query),
        }
        if manage:
            told["changes"] = lambda: {"changes": self.changes.newest_first()}
        if asked in told:
            return told[asked]()
        name = asked.removeprefix(_MODEL)
        if name != asked and name and "/" not in name:
            return self.listing.model(unquote(name))
        raise StatusError("NOT_FOUND", f"There is nothing at {path}")

    def _server(self, manage: bool) -> Fields:
        about = self.about
        return {
            "version": servable.__version__,
            "started": round(about.started, 3),
            "uptime_seconds": round(time.monotonic() - about.began, 3),
            "manage": manage,
            "admin_address": about.administration(),
            "rest_address": about.port("rest"),
            "grpc_address": about.port("grpc"),
            "engines": about.engines,
            "models": self.listing.counts(),
            "resident_bytes": resident_bytes(),
            "auth": about.needs_token(manage),
        }
