"""Follows a model to another path: what is served has to come from there, whatever the versions' numbers are.

A configuration alone does not do that: a version that serves stays, as in TensorFlow Serving, and where its
number is found again, it is taken for the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container
from typing import NoReturn

from servable.config.model_paths import cache_dir, is_remote, local_path
from servable.config.values import ModelConfig
from servable.errors import StatusError, status_error
from servable.lifecycle.condition import Condition
from servable.lifecycle.manager import Manager
from servable.lifecycle.state import State
from servable.serving.server import Server
from servable.sources.cache import Cache

GLANCE_SECONDS = 0.001
"""Between two looks at whether the core has taken a version out of service: that is done at once."""


def follow(server: Server, model: ModelConfig, until: float) -> None:
    """Returns once all that is served of a model comes from its path.

    Raises ``StatusError``, and what was served stays: that of a load that failed, NOT_FOUND if nothing is
    there, DEADLINE_EXCEEDED once it is ``until``.
    """
    manager, name = server.manager, model.name
    home = _home(model, server.config.cache_dir)
    _wait(manager, name, until, lambda: _has_followed(manager, name, home))
    if not manager.announced(name):
        raise status_error("NOT_FOUND", f"model {name}: no version was found in {model.base_path}")
    while stale := _stale(manager, name):
        # Ends this where the server stops.
        _wait(manager, name, until, lambda: True)
        if not manager.reload(name, max(0.0, until - time.monotonic())):
            _late(name)
        for number in stale:
            now = manager.conditions(name).get(number)
            if now is not None and now.reload_error is not None:
                _raise(name, number, now.reload_error)
    _wait(manager, name, until, lambda: _is_settled(manager.conditions(name)))
    wanted = {number: one for number, one in manager.conditions(name).items() if one.aspired}
    if any(one.answers for one in wanted.values()):
        _wait_until_alone(server, name, wanted, until)
        return
    for number, one in sorted(wanted.items(), reverse=True):
        if one.error is not None:
            _raise(name, number, one.error)


def _wait_until_alone(server: Server, name: str, wanted: Container[int], until: float) -> None:
    """Returns once no version but those ``wanted`` gets requests; the core is about to be told so."""
    while any(
        (model, state) == (name, "AVAILABLE") and number not in wanted
        for model, number, state, *_ in server.core.states()
    ):
        if time.monotonic() >= until:
            _late(name)
        time.sleep(GLANCE_SECONDS)


def _home(model: ModelConfig, cache: str) -> str:
    """Returns the folder of the versions that are found at a model's path, or what is the only one."""
    if is_remote(model.base_path):
        return Cache(cache_dir(cache, os.environ), model.base_path).folder
    return os.path.normpath(local_path(model.base_path))


def _has_followed(manager: Manager, name: str, home: str) -> bool:
    """True once the manager knows where each version is now, or that there is none."""
    announced, known = manager.announced(name), manager.conditions(name)
    if announced is None:
        return False
    paths = [os.path.normpath(one.path) for one in announced]
    if not all(home in (path, os.path.dirname(path)) for path in paths):
        return False
    return all(one.version in known and known[one.version].place.path == one.path for one in announced)


def _stale(manager: Manager, name: str) -> list[int]:
    """Returns the versions that serve from another path than theirs."""
    known = manager.conditions(name).items()
    return [
        number
        for number, one in known
        if one.aspired and one.state is State.AVAILABLE and one.loaded_from != one.place.path
    ]


def _is_settled(conditions: dict[int, Condition]) -> bool:
    """True if no version is still to come, and none serves any more in whose place another does."""
    wanted = [one for one in conditions.values() if one.aspired]
    is_replaced = any(one.answers for one in wanted)
    serves = any(one.state is State.AVAILABLE for one in conditions.values() if not one.aspired)
    return all(one.answers or one.error is not None for one in wanted) and not (is_replaced and serves)


def _wait(manager: Manager, name: str, until: float, done: Callable[[], bool]) -> None:
    if not manager.wait(lambda _: done(), max(0.0, until - time.monotonic())):
        _late(name)


def _late(name: str) -> NoReturn:
    raise status_error("DEADLINE_EXCEEDED", f"model {name}: it is still being loaded")


def _raise(name: str, number: int, error: StatusError) -> NoReturn:
    raise status_error(error.code, f"model {name} version {number}: {error.message}", error.hint)
