"""Serves the models of ``--models_dir``, and follows the folder while the server runs.

Only what is new there is added, and only what is gone is removed: what an administrator changes stays.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

from servable.config.base_paths import Way
from servable.config.values import ModelConfig
from servable.lifecycle.manager import Manager
from servable.savedmodel.layout import is_version_name
from servable.sources.discovery import Discovery, said

_log = logging.getLogger("servable.models_dir")

LEAST_SHARE = 20
"""Looks take at most one of so many parts of the time."""


def odd(place: str, found: Collection[str]) -> str:
    """Returns what is to be said of a place that has no models, or is one by itself; "" for nothing. Pure."""
    expected = "expected are folders of models: NAME/1/saved_model.pb, or NAME/model.onnx"
    if not found:
        return f"there are no models in {place}; {expected}"
    if all(is_version_name(name) for name in found):
        return (
            f"the models in {place} are called {', '.join(sorted(found)[:3])}: is it a model by itself, and "
            f"these are its versions? Then give the folder that it is in; {expected}"
        )
    return ""


class ModelsDir:
    """Follows ``place``. Its ``apply`` and thread change the configuration of ``manager``.

    poll_seconds: pause between looks; 0: one look; None: none but the first.
    """

    def __init__(
        self,
        place: str,
        discovery: Discovery,
        manager: Manager,
        poll_seconds: float | None,
    ) -> None:
        self._place = place
        self._discovery = discovery
        self._manager = manager
        self._poll_seconds = poll_seconds
        self._found: dict[str, ModelConfig] = {}
        # What was last found to be wrong, and whether the place could not be read.
        self._said = ""
        self._is_away = False

    def apply(self) -> None:
        """Takes over what is there now. Errors are logged, once as long as they are the same."""
        try:
            found = self._discovery.look()
            if found != self._found:
                self._change(found)
                self._found = found
            text = odd(self._place, found)
            if self._is_away:
                _log.info("%s can be read again", self._place)
            self._is_away = False
        except Exception as error:  # stores raise what they like, and what is served stays
            text = f"the models in {self._place} cannot be followed: {said(error)}"
            self._is_away = True
        if text and text != self._said:
            _log.warning("%s", text)
        self._said = text

    def _change(self, found: dict[str, ModelConfig]) -> None:
        before = self._found
        gone = before.keys() - found.keys()
        new = {name: model for name, model in found.items() if before.get(name) != model}

        def edited(models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
            stay = tuple(one for one in models if one.name not in gone and one.name not in new)
            return (*stay, *new.values())

        self._manager.change(edited, True, Way.START)
        shown = ", ".join(sorted(new)[:10]) + (", …" if len(new) > 10 else "")
        _log.info("%s: %d models; new: %s; gone: %d", self._place, len(found), shown or "none", len(gone))

    def follow(self, ended: threading.Event, clock: Callable[[], float]) -> None:
        """Looks again and again until the server has ended."""
        if not self._poll_seconds:
            return
        pause = self._poll_seconds
        while not ended.wait(pause):
            begun = clock()
            self.apply()
            pause = max(self._poll_seconds, LEAST_SHARE * (clock() - begun))
