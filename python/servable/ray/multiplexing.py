"""Loads the models of a replica when they are asked for, and unloads those that were not for longest.

Ray counts the models and tells its routers which replica has which; the server of the replica has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from servable.ray.models import PLACE, SAFE_NAME, Model

if TYPE_CHECKING:
    from servable.embedded import Server
    from servable.embedded.display import VersionStatus

UNLOAD_SECONDS = 30.0
"""Seconds that the unloading of a model is waited for before the next is loaded."""


class Loaded:
    """A model that is loaded. Ray deletes it to have it unloaded, from any thread."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = name
        self._is_over = False

    def __del__(self) -> None:
        # Python calls it a second time, when a model of this name may be loaded again.
        if not self._is_over:
            self._is_over = True
            if self._server.is_running:
                self._server.unload(self._name, UNLOAD_SECONDS)


class Multiplexer:
    """Has a model loaded before its request is answered. For one event loop.

    models: where they are, by name; or where any is, by ``PLACE`` as the only name. most: as many as are
    loaded at once.
    """

    def __init__(self, server: Server, models: Mapping[str, Model], most: int) -> None:
        from ray import serve

        async def load(name: str) -> Loaded:
            await asyncio.to_thread(self._load, name)
            return Loaded(server, name)

        self._server = server
        self._models = dict(models)
        self._loaded = serve.multiplexed(load, max_num_models_per_replica=most)

    async def ready(self, name: str) -> None:
        """Returns once a model is loaded that is known. Raises the ``StatusError`` of a load that fails.

        The request has to be begun without waiting for anything else: then the model cannot be unloaded
        before it has found it.
        """
        if self._place(name) is not None:
            await self._loaded(name)

    async def change(self, models: Mapping[str, Model]) -> None:
        """Takes over other places; what is loaded follows them. Raises ``StatusError``."""
        self._models = dict(models)
        loaded = [name for name, versions in self._server.models().items() if any(map(_serves, versions))]
        places = {name: self._place(name) for name in loaded}
        configs = {name: place.config(name) for name, place in places.items() if place is not None}
        await asyncio.to_thread(self._server.apply, configs or ())

    def _place(self, name: str) -> Model | None:
        known = self._models.get(name)
        if known is None and PLACE in self._models and SAFE_NAME.fullmatch(name):
            known = self._models[PLACE]
        return known

    def _load(self, name: str) -> None:
        place = self._place(name)
        if place is not None:
            self._server.load(place.config(name))


def _serves(version: VersionStatus) -> bool:
    return version.state == "AVAILABLE"
