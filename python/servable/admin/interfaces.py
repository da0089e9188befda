"""The parts of the core that the administration uses: its listener, the versions' states, recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from servable.config.values import AdminOptions

Times = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
Candidate = tuple[str, float | None, float | None, Times | None, str]
Acceleration = tuple[str, str, str, str, int, list[Candidate]]
"""What is known of a signature's acceleration, as in ``_core.Server.accelerations``."""

Argument = tuple[str, str, "list[int] | None"]
Signature = tuple[str, str, list[Argument], list[Argument]]
"""A signature with its method, as in ``_core.Server.signatures``."""

State = tuple[str, int, str, str, str]
"""(name, version, state, code, message), as in ``_core.Server.states``."""


TrafficTarget = tuple[
    str,
    "int | None",
    bool,
    list[tuple[str, int]],
    "tuple[int, str, float] | None",
    "tuple[int, int, float | None] | None",
]
"""What is known of a target of a model's traffic, as in ``_core.TrafficTarget``."""

ShadowTold = tuple[list[tuple[str, int]], list[tuple[str, float, float]], "str | None", "str | None"]
"""What is known of a shadow, as in ``_core.ShadowTold``."""


class Administration(Protocol):
    """A listening administration; see ``_core.Administration``."""

    @property
    def address(self) -> str:
        """``host:port``."""

    def listener(self) -> int | None:
        """Returns a copy of the listening socket, a descriptor to be closed; None once it is closed."""

    def pass_on(self) -> None:
        """Accepts no more; leaves connections that wait to others who have the socket. Open ones go on."""

    def close(self) -> bool:
        """Stops listening, within a second. Requests being answered continue; True if there are none."""


class Core(Protocol):
    """The part of ``_core.Server`` that the administration uses."""

    def uses(self) -> Sequence[tuple[str, int, float, int, int]]:
        """See ``lifecycle.interfaces.DemandCore``."""

    def serve_admin(
        self,
        address: str,
        options: AdminOptions,
        answer: Callable[[str, str, str, bytes], tuple[str, bytes]],
        socket: int | None = None,
    ) -> Administration:
        """Listens at ``address`` (``IP:PORT``), or on ``socket``, which does already.

        ``answer(method, path, query, body)`` answers requests.

        Raises ``OSError`` if it cannot listen, ``ValueError`` for an invalid address.
        """

    def states(self) -> list[State]:
        """Returns every known version, with its state and error."""

    def record(self, name: str, requests: int, every: int, seconds: float) -> list[bytes]:
        """Returns requests to a model, as serialized PredictionLogs; see ``_core.Server.record``."""

    def traffic(self, name: str) -> tuple[Sequence[TrafficTarget], ShadowTold | None] | None:
        """Returns what has become of the traffic of a model; see ``_core.Server.traffic``."""

    def accelerations(self, name: str, version: int) -> Sequence[Acceleration]:
        """Returns what is known of a version's acceleration; see ``_core.Server.accelerations``."""

    def engine(self, name: str, version: int) -> str:
        """Returns the name of the engine for the files of a version; "" if it is not served."""

    def signatures(self, name: str, version: int) -> Sequence[Signature]:
        """Returns the signatures of a version that is served; see ``_core.Server.signatures``."""

    def bring_console(
        self,
        files: Sequence[tuple[str, str, bytes]],
        answer: Callable[[str, str, str, bytes], tuple[str, bytes]],
    ) -> None:
        """Brings the console along; see ``_core.Server.bring_console``."""
