"""What clients know of the servers on a cluster's nodes: the addresses that the keeper has told last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SECONDS = 1.0
"""Between two questions."""
LAST_SECONDS = 60.0
"""Longest wait for the last answer."""


class KnownServers:
    """Asks for the addresses every second, beside the clients, as a context.

    status: asks, as ``servable.ray.Servers`` does. While it does not answer, they are those of before.
    """

    def __init__(self, status: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        self._status = status
        self._found = status()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> KnownServers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LAST_SECONDS)

    def rest(self) -> list[str]:
        """Returns those of REST."""
        return [one["rest"] for one in self._found if "rest" in one]

    def grpc(self) -> list[str]:
        """Returns those of gRPC."""
        return [one["grpc"] for one in self._found if "grpc" in one]

    def _follow(self) -> None:
        from ray.exceptions import RayError

        while not self._over.wait(SECONDS):
            try:
                self._found = self._status()
            except RayError as error:
                print(f"the keeper cannot be asked: {type(error).__name__}", flush=True)
