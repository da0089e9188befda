"""Waits for the versions of models that serve several: a model is available as soon as one of them is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from servable.config.model_paths import is_remote
from servable.config.values import All, Latest, ModelConfig, Specific
from servable.embedded.beside import Beside
from servable.errors import UnavailableError, status_error
from servable.lifecycle.manager import Manager
from servable.serving.server import Server
from servable.sources.absence import absent, absent_among

GLANCE_SECONDS = 0.05
"""Between two looks at what the manager tells nobody of."""


def wait_for_outcomes(manager: Manager, models: Sequence[ModelConfig], until: float) -> None:
    """Waits until each version that was found of these models serves or has failed, or it is ``until``.

    Only of models that are to serve all their versions, some of them, or the latest few: of others, the model
    says enough.
    """
    names = [model.name for model in models if _serves_several(model)]

    def are_settled() -> bool:
        return all(
            one.answers or one.error is not None
            for name in names
            for one in manager.conditions(name).values()
            if one.aspired
        )

    manager.wait(lambda _: are_settled(), max(0.0, until - time.monotonic()))


def _serves_several(model: ModelConfig) -> bool:
    policy = model.policy
    if isinstance(policy, Specific):
        return len(policy.versions) > 1
    return isinstance(policy, All) or (isinstance(policy, Latest) and policy.count > 1)


def wait_for_listed(server: Server, model: ModelConfig, since: float, until: float) -> None:
    """Returns once each version that the model's policy lists is available; at once if it lists none.

    since: when it was asked for. What a look found that began before says nothing about what is there now.

    Raises ``StatusError``: that of a load that failed, NOT_FOUND for a version that is not there,
    DEADLINE_EXCEEDED once it is ``until``, UNAVAILABLE if the server stops.
    """
    manager, absence = server.manager, _Absence(server, model, since)
    for version in model.policy.versions if isinstance(model.policy, Specific) else ():
        while not manager.is_available(model.name, version):
            failure = manager.failure(model.name, version)
            if failure is not None:
                _, error = failure
                message = f"model {model.name} version {version}: {error.message}"
                raise status_error(error.code, message, error.hint)
            if said := absence.of(version):
                raise status_error("NOT_FOUND", said)
            if time.monotonic() > until:
                late = f"model {model.name}: version {version} is not available"
                raise status_error("DEADLINE_EXCEEDED", late)
            if not manager.wait(lambda _: True, 0):
                raise UnavailableError("UNAVAILABLE", "The server is stopping")
            time.sleep(GLANCE_SECONDS)


class _Absence:
    """Finds out whether a version that is listed is not there."""

    def __init__(self, server: Server, model: ModelConfig, since: float) -> None:
        self._server = server
        self._model = model
        self._since = since
        self._looking: Beside[str] | None = None

    def of(self, version: int) -> str:
        """Returns a line if the version, or another one that is listed, is not there; else "".

        The source knows what it has found in a store since. A folder is looked at beside, as a disk may
        fall silent. What cannot be looked at may be found by the source yet.
        """
        model = self._model
        if is_remote(model.base_path):
            found = self._server.source.listed(model.name, self._since)
            return "" if found is None else absent_among(model, found)
        if self._looking is None and version not in self._server.manager.conditions(model.name):
            self._looking = Beside(partial(absent, model))
        return (self._looking.value_now() or "") if self._looking is not None else ""
