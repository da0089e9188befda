"""The labels in the core, which follow the configuration and the serving versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from servable.config.values import ModelConfig
from servable.lifecycle import labels
from servable.lifecycle.interfaces import Core
from servable.lifecycle.models import Models


class LabelTable:
    """Labels by model. Guarded by ``Models.changed``, which callers hold."""

    def __init__(self, core: Core, models: Models) -> None:
        self._core = core
        self._models = models
        # The configured models that have labels, and the labels in force.
        self._labelled: dict[str, ModelConfig] = {}
        self._in_force: dict[str, dict[str, int]] = {}

    def configure(self, models: Sequence[ModelConfig], gone: Iterable[str]) -> None:
        """Takes over the configuration: ``models`` is all of it, ``gone`` is no longer in it."""
        self._labelled = {model.name: model for model in models if model.labels}
        for name in gone:
            self._core.set_labels(name, {})
            self._in_force.pop(name, None)
        for model in models:
            self._in_force.setdefault(model.name, {})
            self._place(model)

    def follow(self, name: str) -> None:
        """Moves a model's labels to where its changed versions now allow them."""
        config = self._labelled.get(name)
        if config is not None and config.labels != self._in_force.get(name):
            self._place(config)

    def version(self, name: str, label: str) -> int | None:
        """Returns the version that a model's label is on, None if there is no such label."""
        return self._in_force.get(name, {}).get(label)

    def _place(self, model: ModelConfig) -> None:
        """Sets the labels of a configured model to those in force now; see ``labels.py``."""
        known = self._models.by_name.get(model.name)
        now = labels.in_force(
            model.labels,
            self._in_force.get(model.name, {}),
            lambda version: known is not None and known.stays(version),
        )
        if now != self._in_force.get(model.name) or not now:
            self._in_force[model.name] = now
            self._core.set_labels(model.name, now)
