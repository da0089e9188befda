"""What a server finds when it starts: sockets that listen already, the server before it, systemd."""

from __future__ import annotations

import logging
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Protocol

from servable.config.values import ServerConfig
from servable.serving import inherited
from servable.serving.former import Former
from servable.serving.systemd import Notifier, take_sockets

_log = logging.getLogger("servable.handover")


class Adopting(Protocol):
    """The part of the core that takes sockets."""

    def adopt(self, port: str, socket: int) -> None:
        """Has ``start`` use a copy of ``socket``, which listens already, instead of opening ``port``."""


@dataclass
class Surroundings:
    """Without any of them: a server that is started by hand.

    sockets: by port. kept: whoever made the sockets keeps them open, also while no server runs.
    """

    sockets: dict[str, socket.socket] = field(default_factory=dict)
    kept: bool = False
    former: Former | None = None
    notifier: Notifier = field(default_factory=lambda: Notifier({}))

    @classmethod
    def find(cls, config: ServerConfig, environment: MutableMapping[str, str]) -> Surroundings:
        """Takes what is there; removes the variables of systemd. Raises ``StatusError``."""
        around = cls(notifier=Notifier(environment))
        wanted = inherited.wanted(config)
        passed = [(name, inherited.listening(one, "LISTEN_FDS")) for name, one in take_sockets(environment)]
        around.sockets, around.kept = inherited.by_port(passed, wanted), bool(passed)
        for port, one in around.sockets.items():
            _log.info("systemd passes a socket for %s: %s", inherited.PORTS[port], inherited.address(one))
        around.former = Former.find(config.handover_socket) if config.handover_socket else None
        if around.former is not None:
            around._take_from(around.former, wanted)
        return around

    def _take_from(self, former: Former, wanted: dict[str, str]) -> None:
        try:
            sockets, said = inherited.matching(former.sockets, wanted)
        except BaseException:
            former.close()
            raise
        for line in said:
            _log.warning("%s", line)
        former.keep(sockets)
        self.sockets = {**sockets, **self.sockets}
        self.kept = self.kept or former.kept
        _log.info(
            "the running server (pid %d) hands over %s once this one is ready",
            former.pid,
            ", ".join(f"{inherited.PORTS[port]} at {inherited.address(one)}" for port, one in sockets.items())
            or "no port",
        )

    def give(self, core: Adopting) -> None:
        """Gives the core the sockets of its ports."""
        for port, one in self.sockets.items():
            if port != "admin":
                core.adopt(port, one.fileno())

    @property
    def admin(self) -> int | None:
        """The descriptor of the administration's socket."""
        one = self.sockets.get("admin")
        return None if one is None else one.fileno()

    @property
    def is_admin_in_use(self) -> bool:
        """True if the former server answers at the administration's socket, which so has to wait."""
        return self.former is not None and "admin" in self.former.sockets and "admin" in self.sockets

    def take_over(self) -> None:
        """Has the former server leave; closes the sockets, of which the core has copies."""
        if self.former is not None:
            self.former.take_over()
        self._close_sockets()

    def close(self) -> None:
        """Closes the sockets, and lets a former server go on."""
        if self.former is not None:
            self.former.close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for one in self.sockets.values():
            one.close()
        self.sockets = {}
