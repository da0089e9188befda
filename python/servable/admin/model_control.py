"""Loading and unloading of models for clients of the Open Inference Protocol, by name alone.

What a model is made of stays the operator's: a client can take one away, have it back, and have its files
read again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from servable.config.values import ModelConfig
from servable.errors import StatusError, invalid_argument
from servable.lifecycle.availability import Availability
from servable.lifecycle.manager import Manager

LONGEST_LOAD = 3600.0
"""Seconds that a client may wait for a load or an unload."""

HasLeft = Callable[[], bool]
"""Says whether the client that asked waits no longer; quick."""


def _stays() -> bool:
    return False


@dataclass
class ModelControl:
    """Loads and unloads; may be called from any thread."""

    manager: Manager
    _unloaded: dict[str, ModelConfig] = field(default_factory=dict)
    """The models that were taken away, as they were configured; never more than were configured at once."""
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, action: str, name: str, has_left: HasLeft = _stays) -> None:
        """Does ``load`` or ``unload`` and returns when it is in force.

        Raises ``StatusError``: CANCELLED if the client has left before.
        """
        if action == "load":
            self._load(name, has_left)
        elif action == "unload":
            self._unload(name, has_left)
        else:
            raise invalid_argument(f"A model can be loaded and unloaded, got {action!r}")

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Surrounds the applying of the operator's configuration: what was unloaded before is forgotten."""
        with self._changing:
            yield
            self._unloaded.clear()

    @contextmanager
    def decided(self, name: str) -> Iterator[bool]:
        """Surrounds the operator's decision on one model, like ``replaced``.

        Yields whether a client had unloaded it.
        """
        with self._changing:
            yield name in self._unloaded
            self._unloaded.pop(name, None)

    def _load(self, name: str, has_left: HasLeft) -> None:
        # What is left of a former load would be taken for the outcome of this one.
        if not self.manager.wait_for_withdrawal(name, LONGEST_LOAD, wholly=True, gives_up=has_left):
            raise _not_waited_for(f"failed to load '{name}'", "it is still being unloaded", has_left)
        with self._changing:
            configured = any(one.name == name for one in self.manager.configured())
            before = self._unloaded.get(name)
            if not configured and before is not None:
                self.manager.change(lambda models: (*models, before))
            self._unloaded.pop(name, None)
        if not configured and before is None:
            raise StatusError("NOT_FOUND", f"failed to load '{name}', failed to poll from model repository")
        if configured and not self.manager.reload(name, LONGEST_LOAD, has_left):
            raise _not_waited_for(f"failed to load '{name}'", "it is still being loaded", has_left)
        self._wait(name, has_left)

    def _unload(self, name: str, has_left: HasLeft) -> None:
        with self._changing:
            found = next((one for one in self.manager.configured() if one.name == name), None)
            if found is None and name not in self._unloaded:
                raise StatusError("NOT_FOUND", f"failed to unload '{name}': there is no such model")
            if found is not None:
                self.manager.change(lambda models: tuple(one for one in models if one.name != name))
                self._unloaded[name] = found
        if not self.manager.wait_for_withdrawal(name, LONGEST_LOAD, gives_up=has_left):
            raise _not_waited_for(f"failed to unload '{name}'", "it is still being unloaded", has_left)

    def _wait(self, name: str, has_left: HasLeft) -> None:
        """Waits until a model is available. Raises ``StatusError`` if it will not be."""
        unsettled = {Availability.WAITING, Availability.HANGING}

        def wait() -> bool:
            return self.manager.wait(
                lambda now: now.get(name, Availability.FAILED) not in unsettled, LONGEST_LOAD, has_left
            )

        settled = wait()
        if settled and self.manager.availability().get(name) is Availability.ON_DEMAND:
            self.manager.prefetch(name)
            unsettled.add(Availability.ON_DEMAND)
            settled = wait()
        if not settled:
            raise _not_waited_for(f"failed to load '{name}'", "it is still being loaded", has_left)
        if self.manager.availability().get(name) is not Availability.AVAILABLE:
            failed = self.manager.errors().get(name)
            why = f": version {failed[0]}: {failed[1].message}" if failed else ""
            raise StatusError("FAILED_PRECONDITION", f"failed to load '{name}', no version is available{why}")


def _not_waited_for(failed: str, still: str, has_left: HasLeft) -> StatusError:
    """Returns the error of a change that goes on, but that nobody waits for any more."""
    if has_left():
        return StatusError("CANCELLED", f"the client has left: {still}")
    return StatusError("DEADLINE_EXCEEDED", f"{failed}: {still}")
