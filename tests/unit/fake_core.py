"""A core without TensorFlow: answers calls as told by a test, and records them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from servable.admin.interfaces import Acceleration
from servable.config.traffic import Traffic
from servable.config.values import PayloadLog


class FakeError(Exception):
    """The error that the core raises."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass
class FakeReport:
    """A load report of a float model with one input and one output."""

    seconds: float = 0.01
    placement: str = "caller"
    memory_bytes: int | None = None
    signatures: list[tuple[str, list[tuple[str, str, str]], list[tuple[str, str, str]]]] = field(
        default_factory=lambda: [("serving_default", [("x", "float", "[-1]")], [("y", "float", "[-1]")])]
    )


class FakeCore:
    """Loads succeed at once unless ``on_load``, called with (name, version, path, options), raises.

    ``on_retire`` and ``on_unload``, called with (name, version), may delay an unload. ``on_cancel`` is called
    likewise.
    """

    def __init__(self, options: object = None) -> None:
        self.options = options
        self.on_load: Callable[[str, int, str, Any], None] = lambda *_: None
        self.on_retire: Callable[[str, int], None] = lambda *_: None
        self.on_unload: Callable[[str, int], None] = lambda *_: None
        self.on_cancel: Callable[[str, int], None] = lambda *_: None
        self.on_bring: Callable[[str, int, str], None] = lambda *_: None
        self.calls: list[tuple[Any, ...]] = []
        self.state: dict[tuple[str, int], str] = {}
        self.errors: dict[tuple[str, int], tuple[str, str]] = {}
        self.labels: dict[str, dict[str, int]] = {}
        self.configured: set[str] = set()
        self.payload_logs: list[PayloadLog] = []
        self.spread: dict[str, Traffic] = {}
        self.reopened = 0
        self.changed = threading.Condition()
        self.stopped = False
        self.sockets: dict[str, socket.socket] = {}
        # Loads on demand: what tests ask for, and what they are told; what has requests in flight, and uses.
        self.asked: list[tuple[str, int]] = []
        self.told: list[tuple[str, int, str]] = []
        self.pauses: dict[tuple[str, int], float] = {}
        self.on_demand: set[tuple[str, int]] = set()
        self.in_flight: set[tuple[str, int]] = set()
        self.used: dict[tuple[str, int], tuple[float, int]] = {}
        self.grown: dict[tuple[str, int], int] = {}
        self.taken: dict[str, int] = {}
        self.ended = False

    def _note(self, name: str, version: int, state: str, *call: Any) -> None:
        with self.changed:
            self.calls.append((*call, name, version))
            self.state[name, version] = state
            self.changed.notify_all()

    def announce(self, name: str, version: int) -> None:
        self._note(name, version, "START", "announce")

    def load(self, name: str, version: int, path: str, options: Any) -> FakeReport:
        self._note(name, version, "LOADING", "load")
        try:
            self.on_load(name, version, path, options)
        except FakeError as error:
            if not options.retrying:
                self.errors[name, version] = (error.code, error.message)
                self._note(name, version, "END", "failed")
            raise
        self._note(name, version, "AVAILABLE", "loaded")
        return FakeReport(memory_bytes=self.taken.get(name))

    def retire(self, name: str, version: int) -> None:
        self.on_retire(name, version)

    def unload(self, name: str, version: int) -> None:
        self.on_unload(name, version)
        self._note(name, version, "END", "unload")

    def cancel(self, name: str, version: int) -> None:
        self.on_cancel(name, version)

    def bring(self, name: str, version: int, path: str) -> None:
        self.on_bring(name, version, path)

    def fail(self, name: str, version: int, code: str, message: str) -> None:
        self.errors[name, version] = (code, message)
        self._note(name, version, "END", "fail")

    def ask(self, name: str, version: int) -> None:
        """Has requests wait for a version."""
        with self.changed:
            self.asked.append((name, version))
            self.changed.notify_all()

    def set_on_demand(self, name: str, version: int, on_demand: bool) -> None:
        with self.changed:
            (self.on_demand.add if on_demand else self.on_demand.discard)((name, version))
            self.changed.notify_all()

    def next_demand(self, seconds: float) -> tuple[str, int] | None:
        with self.changed:
            self.changed.wait_for(lambda: self.asked or self.ended, seconds)
            return self.asked.pop(0) if self.asked and not self.ended else None

    def demand_loaded(self, name: str, version: int) -> None:
        self._tell(name, version, "")

    def demand_failed(self, name: str, version: int, error: tuple[str, str], seconds: float) -> None:
        self.pauses[name, version] = seconds
        self._tell(name, version, f"{error[0]}: {error[1]}")

    def _tell(self, name: str, version: int, outcome: str) -> None:
        with self.changed:
            self.told.append((name, version, outcome))
            self.changed.notify_all()

    def end_demand(self) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def uses(self) -> list[tuple[str, int, float, int, int]]:
        with self.changed:
            available = [key for key, state in self.state.items() if state == "AVAILABLE"]
            return [(*key, *self.used.get(key, (0.0, 0)), self.grown.get(key, 0)) for key in available]

    def rest(self, name: str, version: int) -> bool:
        if (name, version) in self.in_flight:
            return False
        self._note(name, version, "UNLOADING", "rest")
        return True

    def wait_told(self, name: str, version: int, outcome: str = "", times: int = 1) -> None:
        """Waits until those who wait for a version have been told something that begins so."""

        def told() -> bool:
            found = [one for one in self.told if one[:2] == (name, version) and one[2].startswith(outcome)]
            return len(found) >= times

        with self.changed:
            assert self.changed.wait_for(told, 10), f"expected {name} {version} {outcome!r}, got {self.told}"

    def set_configured(self, names: set[str]) -> None:
        self.configured = names

    def set_labels(self, name: str, labels: dict[str, int]) -> None:
        self.labels[name] = labels

    def set_traffic(self, name: str, rules: Traffic | None, renewed: bool = False) -> None:
        self.calls.append(("set_traffic", name, renewed))
        if rules is None:
            del self.spread[name]
        else:
            self.spread[name] = rules

    def traffic(self, name: str) -> Any:
        if name not in self.spread:
            return None
        return [("default", 1, True, [("weight", 3), ("key", 0)], None, None)], None

    def set_payload_logs(self, logs: Sequence[PayloadLog]) -> None:
        self.payload_logs = list(logs)

    def reopen_logs(self) -> None:
        self.reopened += 1

    def states(self) -> list[tuple[str, int, str, str, str]]:
        with self.changed:
            return [(*key, state, *self.errors.get(key, ("OK", ""))) for key, state in self.state.items()]

    def accelerations(self, name: str, version: int) -> list[Acceleration]:
        return []

    def record(self, name: str, requests: int, every: int, seconds: float) -> list[bytes]:
        return [f"{name} {requests} {every} {seconds}".encode()]

    def serve_admin(
        self, address: str, options: object, answer: object, socket: int | None = None
    ) -> NoReturn:
        raise OSError("a core without TensorFlow has no administration")

    def start(self) -> dict[str, str]:
        return {"rest": "[::]:18501", "grpc": "[::]:18500"}

    def adopt(self, port: str, socket: int) -> None:
        self.calls.append(("adopt", port))

    def listeners(self) -> dict[str, int]:
        return {port: os.dup(one.fileno()) for port, one in self.sockets.items()}

    def pass_on(self) -> None:
        self.calls.append(("pass_on",))

    def wait_for_clients(self, seconds: float) -> bool:
        self.calls.append(("wait_for_clients",))
        return True

    def phase(self, name: str, version: int) -> str:
        return "its files are being read" if self.state.get((name, version)) == "LOADING" else ""

    def drain(self) -> None:
        self.calls.append(("drain",))

    def stop(self, grace_seconds: float) -> bool:
        self.stopped = True
        return True

    def wait_for(self, *expected: tuple[str, int, str], seconds: float = 10.0) -> None:
        """Waits until each (name, version) is in the given state; fails if that does not happen."""
        with self.changed:
            reached = self.changed.wait_for(
                lambda: all(self.state.get((name, version)) == state for name, version, state in expected),
                seconds,
            )
            assert reached, f"expected {expected}, got {self.state}"
