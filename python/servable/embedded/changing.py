"""Changes what a running server serves: a model more, a model less, or other models. Each call blocks."""

from __future__ import annotations

import time
from collections.abc import Sequence

from servable.config.values import ModelConfig
from servable.embedded import moving, versions
from servable.embedded.outcomes import ANSWERS
from servable.errors import StatusError, status_error
from servable.lifecycle.availability import Availability
from servable.serving.server import Server

_UNSETTLED = {Availability.WAITING, Availability.HANGING}


def load(server: Server, model: ModelConfig, seconds: float) -> None:
    """Serves a model more, and returns once it is available.

    Raises ``StatusError``, and does not serve it then: ALREADY_EXISTS for a name that is served, the error of
    the load, DEADLINE_EXCEEDED after so many ``seconds``.
    """
    manager, since = server.manager, time.monotonic()
    # What is left of a former load would be taken for the outcome of this one.
    if not manager.wait_for_withdrawal(model.name, seconds, wholly=True):
        raise _late(model.name, "it is still being unloaded")
    if any(one.name == model.name for one in manager.configured()):
        raise status_error("ALREADY_EXISTS", f"model {model.name} is served already")
    manager.change(lambda models: (*models, model))
    try:
        _wait(server, [model], since, since + seconds)
    except StatusError:
        unload(server, model.name, 0)
        raise


def unload(server: Server, name: str, seconds: float) -> bool:
    """Serves a model no longer. Returns whether it was unloaded within so many ``seconds``.

    Requests in flight are answered first.
    """
    manager = server.manager
    manager.change(lambda models: tuple(one for one in models if one.name != name))
    return manager.wait_for_withdrawal(name, seconds)


def apply(server: Server, models: Sequence[ModelConfig], seconds: float) -> None:
    """Serves exactly these models from now on; returns once they are available, and the others unloaded.

    Of a model that is served already, the versions that were stay until the new ones are there. Where its
    path is another one, what is there is loaded, also under the number of a version that was served. Raises
    ``StatusError`` for what is refused, with nothing changed, and for a model that does not become available,
    which is tried again as any other.
    """
    manager, since = server.manager, time.monotonic()
    until = since + seconds
    before = {model.name: model.base_path for model in manager.configured()}
    gone = before.keys() - {model.name for model in models}
    manager.change(lambda _: tuple(models), allow_unavailable_labels=True)
    for model in models:
        if before.get(model.name, model.base_path) != model.base_path:
            moving.follow(server, model, until)
    _wait(server, models, since, until)
    for name in gone:
        manager.wait_for_withdrawal(name, max(0.0, until - time.monotonic()))


def _wait(server: Server, models: Sequence[ModelConfig], since: float, until: float) -> None:
    manager, names = server.manager, {model.name for model in models}
    settled = manager.wait(
        lambda now: not any(now.get(name) in _UNSETTLED for name in names),
        max(0.0, until - time.monotonic()),
    )
    # Before a model is judged by one version that has failed: another may be about to serve.
    versions.wait_for_outcomes(manager, models, until)
    for model in models:
        failed = manager.errors().get(model.name)
        if manager.availability().get(model.name) in ANSWERS:
            continue
        if failed is not None:
            number, error = failed
            message = f"model {model.name} version {number}: {error.message}"
            raise status_error(error.code, message, error.hint)
        if not settled:
            raise _late(model.name, "it is still being loaded")
        raise status_error("NOT_FOUND", f"model {model.name}: no version was found in {model.base_path}")
    for model in models:
        versions.wait_for_listed(server, model, since, until)


def _late(name: str, why: str) -> StatusError:
    return status_error("DEADLINE_EXCEEDED", f"model {name}: {why}")
