"""Serves the models of ``--models_dir``, and follows the folder while the server runs.

Only what is new there is added, and only what is gone is removed: what an administrator changes stays. A
place that has no model any more takes none away.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence

from servable.config.base_paths import AllowedPaths, Way
from servable.config.model_paths import shown_uri
from servable.config.values import ModelConfig
from servable.errors import StatusError
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

    poll_seconds: pause between looks; 0: one look; None: none but the first. allowed: models that lead beyond
    are left out.
    """

    def __init__(
        self,
        place: str,
        discovery: Discovery,
        manager: Manager,
        poll_seconds: float | None,
        allowed: AllowedPaths | None = None,
    ) -> None:
        # As logs show it.
        self._place = shown_uri(place)
        self._discovery = discovery
        self._manager = manager
        self._poll_seconds = poll_seconds
        self._allowed = allowed or AllowedPaths()
        self._found: dict[str, ModelConfig] = {}
        # What was logged of models that are not allowed, by name.
        self._refused: dict[str, str] = {}
        # What was last found to be wrong, and whether the place could not be read.
        self._said = ""
        self._is_away = False

    def apply(self) -> None:
        """Takes over what is there now. Errors are logged, once as long as they are the same."""
        try:
            looked = self._discovery.look()
            text = odd(self._place, looked)
            if looked:
                self._take(looked)
            elif self._found:
                # An empty folder is what is left where a disk is not mounted; nobody wants all models to go.
                text += "; what was found before stays"
            if self._is_away:
                _log.info("%s can be read again", self._place)
            self._is_away = False
        except Exception as error:  # stores raise what they like, and what is served stays
            text = f"the models in {self._place} cannot be followed: {said(error)}"
            self._is_away = True
        if text and text != self._said:
            _log.warning("%s", text)
        self._said = text

    def _take(self, looked: dict[str, ModelConfig]) -> None:
        found = self._permitted(looked)
        if found != self._found:
            self._change(found)
            self._found = found

    def _permitted(self, found: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
        """Returns ``found`` without the models that may not be served, which are logged, each once."""
        new = [model for name, model in found.items() if self._found.get(name) != model]
        refused: dict[str, str] = {}
        # Asked together, they cost one thread; a refusal names the first of them only.
        if self._refusal(new) is not None:
            for model in new:
                if error := self._refusal([model]):
                    refused[model.name] = said(error)
        for name, text in refused.items():
            if self._refused.get(name) != text:
                _log.warning("%s is left out: %s", shown_uri(found[name].base_path), text)
        self._refused = refused
        return {name: model for name, model in found.items() if name not in refused}

    def _refusal(self, models: Sequence[ModelConfig]) -> StatusError | None:
        try:
            self._allowed.check(models, (), Way.START)
        except StatusError as error:
            return error
        return None

    def _change(self, found: dict[str, ModelConfig]) -> None:
        before = self._found
        gone = before.keys() - found.keys()
        new = {name: model for name, model in found.items() if before.get(name) != model}
        leave = gone | new.keys()
        others: dict[str, str] = {}

        def edited(models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
            for one in models:
                known = before.get(one.name)
                if known is None or known.base_path != one.base_path:
                    # An administrator's.
                    others[one.name] = one.base_path
            stay = (one for one in models if one.name in others or one.name not in leave)
            return (*stay, *(model for name, model in new.items() if name not in others))

        self._manager.change(edited, True, Way.START)
        for name in new.keys() & others.keys():
            if others[name] != new[name].base_path:
                left_out, instead = shown_uri(new[name].base_path), shown_uri(others[name])
                _log.warning("%s is left out: %s is served from %s", left_out, name, instead)
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
