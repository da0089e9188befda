"""When the models of a start have settled, so that the ports may open, and whether the server may go on."""

from __future__ import annotations

from collections.abc import Collection

from servable.config.values import ServerConfig
from servable.errors import StatusError
from servable.lifecycle.availability import Availability
from servable.lifecycle.manager import Manager

# Tuples, as a set would ask for a hash of each of thousands of models.
_ANSWERS = (Availability.AVAILABLE, Availability.ON_DEMAND)
_FOR_GOOD = (*_ANSWERS, Availability.FAILED, Availability.MISSING)
_FOR_NOW = (*_FOR_GOOD, Availability.FAILING, Availability.HANGING)


def have_settled(availability: dict[str, Availability], wait_for_retries: bool) -> bool:
    """True if the ports may open; see ``ServerConfig.wait_for_retries``.

    A model with nothing to load does not delay the others; a server with only such models opens its ports
    only in ``servable serve``, and otherwise waits for a first version, as TensorFlow Serving does.
    """
    settled = _FOR_GOOD if wait_for_retries else _FOR_NOW
    # The last ones first: models settle more or less in their order, and this is asked again and again.
    if not all(one in settled for one in reversed(availability.values())):
        return False
    if not wait_for_retries or not availability:
        return True
    return any(one is not Availability.MISSING for one in availability.values())


def check_settled(config: ServerConfig, manager: Manager, former_pid: int | None) -> None:
    """Raises TensorFlow Serving's error if a model has failed and --exit_on_failed_start is set.

    former_pid: of the server that this one is to replace: one that could answer nothing takes over from none
    that can.
    """
    availability = manager.availability()
    bad = {name for name, one in availability.items() if one in (Availability.FAILED, Availability.FAILING)}
    if bad and config.exit_on_failed_start:
        raise StatusError("UNKNOWN", not_available(manager, bad, "servable(s)"))
    if former_pid is not None and availability and not any(one in _ANSWERS for one in availability.values()):
        raise StatusError(
            "FAILED_PRECONDITION",
            f"no model is available, so the running server (pid {former_pid}) goes on: "
            + not_available(manager, availability, "servable(s)"),
        )


def not_available(manager: Manager, names: Collection[str], noun: str) -> str:
    """Returns TensorFlow Serving's list of models that did not become available, with their errors."""
    errors = manager.errors()
    nothing = (0, StatusError("NOT_FOUND", "no version was found in its base path"))
    listed = ""
    for name in sorted(names):
        version, error = errors.get(name, nothing)
        listed += f"{{{{name: {name} version: {version}}} due to error: {error}}}, "
    return f"{len(names)} {noun} did not become available: {{{listed}}}"
