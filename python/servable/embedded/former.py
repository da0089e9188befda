"""Has models whose latest version cannot be loaded serve the one before, as a server that ran before it came.

There the policy keeps what serves until it is replaced. A server that starts knows of the latest only: so the
one before is named to it, and once that serves, the configuration is what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from servable.config.base_paths import Way
from servable.config.values import Latest, ModelConfig, Specific
from servable.embedded.beside import Beside
from servable.embedded.outcomes import ANSWERS
from servable.lifecycle.manager import Manager
from servable.sources.absence import versions_at

TRIES = 3
"""Most versions that are tried of a model."""
LOOK_SECONDS = 10.0
LOAD_SECONDS = 300.0
"""Longest time for one of them; it may have to be fetched."""


def stand_in(manager: Manager, models: Sequence[ModelConfig]) -> None:
    """Returns once these models, which the manager has, serve a former version if the latest has failed."""
    for model in models:
        failure = manager.errors().get(model.name)
        is_there = manager.availability().get(model.name) in ANSWERS
        if is_there or failure is None or not isinstance(model.policy, Latest):
            continue
        known = manager.conditions(model.name)
        looking = Beside(partial(versions_at, model.base_path))
        looking.wait(LOOK_SECONDS)
        others = [one for one in looking.value_now() or () if one not in known and one < failure[0]]
        any(_serves(manager, model, version) for version in others[::-1][:TRIES])
        if others:
            _follow(manager, model)


def _serves(manager: Manager, model: ModelConfig, version: int) -> bool:
    """Has a version loaded, and no other; returns whether it serves."""
    _follow(manager, replace(model, policy=Specific((version,))))

    def is_settled() -> bool:
        now = manager.conditions(model.name).get(version)
        return now is not None and (now.answers or now.error is not None)

    manager.wait(lambda _: is_settled(), LOAD_SECONDS)
    return manager.is_available(model.name, version)


def _follow(manager: Manager, model: ModelConfig) -> None:
    manager.change(lambda now: tuple(model if one.name == model.name else one for one in now), way=Way.START)
