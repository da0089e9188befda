"""Says how many models are available: when the ports open, and once more when late ones have come."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from servable.lifecycle.availability import Availability
from servable.lifecycle.manager import Manager
from servable.serving.systemd import Notifier

_log = logging.getLogger("servable.server")

_ANSWERS = frozenset({Availability.AVAILABLE, Availability.ON_DEMAND})

_MAY_COME = frozenset(
    {Availability.WAITING, Availability.MISSING, Availability.FAILING, Availability.HANGING}
)


class Readiness:
    """Tells the log, and systemd by ``notifier``, about the models of ``manager``."""

    def __init__(self, manager: Manager, notifier: Notifier) -> None:
        self._manager = manager
        self._notifier = notifier

    def tell(self, *, took_over: bool) -> None:
        """The ports are open. A thread waits for models that may still come, until ``Manager.stop``."""
        availability = self._manager.availability()
        text = _text(availability)
        _log.info("ready: %s", text)
        self._notifier.ready(text, took_over=took_over)
        late = {name for name, one in availability.items() if one in _MAY_COME}
        if late:
            arguments = (late, _available(availability))
            threading.Thread(target=self._tell_again, args=arguments, name="late-models", daemon=True).start()

    def _tell_again(self, late: set[str], before: int) -> None:
        """Waits until each model has come, has failed for good, or is not configured any more."""
        if not self._manager.wait(lambda now: not any(now.get(name) in _MAY_COME for name in late)):
            return
        availability = self._manager.availability()
        if _available(availability) > before:
            text = _text(availability)
            _log.info("ready: %s", text)
            self._notifier.serving(text)


def _available(availability: Mapping[str, Availability]) -> int:
    return sum(one in _ANSWERS for one in availability.values())


def _text(availability: Mapping[str, Availability]) -> str:
    return f"{_available(availability)} of {len(availability)} models available"
