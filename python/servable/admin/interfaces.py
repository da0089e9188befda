"""The administration's view of the core: what it looks at and records by, and the port that it listens on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from servable.config.values import AdminOptions

State = tuple[str, int, str, str, str]
"""(name, version, state, code, message), as ``_core.Server.states`` tells it."""


class Administration(Protocol):
    """An administration that listens; see ``_core.Administration``."""

    @property
    def address(self) -> str:
        """``host:port``."""

    def close(self) -> bool:
        """Stops listening, within a second; requests being answered go on. Whether there are none."""


class Core(Protocol):
    """The part of ``_core.Server`` that the administration uses."""

    def serve_admin(
        self, address: str, options: AdminOptions, answer: Callable[[str, str, str, bytes], tuple[str, bytes]]
    ) -> Administration:
        """Opens it at ``address`` (``IP:PORT``); ``answer(method, path, query, body)`` answers requests.

        Raises ``OSError`` where it cannot listen, ``ValueError`` for an address that is none.
        """

    def states(self) -> list[State]:
        """Returns every version that is known, with its state and error."""

    def record(self, name: str, requests: int, every: int, seconds: float) -> list[bytes]:
        """Returns requests to a model, as serialized PredictionLogs; see ``_core.Server.record``."""
