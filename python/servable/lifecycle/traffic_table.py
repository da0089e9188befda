"""How the core spreads the traffic of models, which follows the configuration."""

from __future__ import annotations

from collections.abc import Sequence

from servable.config.traffic import Traffic
from servable.config.values import ModelConfig
from servable.lifecycle.interfaces import Core


class TrafficTable:
    """What is in force, by model. Guarded by whoever applies a configuration; reads nothing of the models."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._in_force: dict[str, Traffic] = {}

    def configure(self, models: Sequence[ModelConfig], renewed: str = "") -> None:
        """Takes over the configuration, all of it. renewed: a model whose roll-backs are forgotten."""
        wanted = {model.name: model.traffic for model in models if model.traffic is not None}
        for name in self._in_force.keys() - wanted.keys():
            self._core.set_traffic(name, None)
            del self._in_force[name]
        for name, traffic in wanted.items():
            if self._in_force.get(name) != traffic or name == renewed:
                self._core.set_traffic(name, traffic, name == renewed)
                self._in_force[name] = traffic
