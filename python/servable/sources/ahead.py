"""Brings a model from its store into the cache before a server is asked to load it, which finds it there."""

from __future__ import annotations

from functools import partial

from servable.config.model_paths import is_remote
from servable.config.values import ModelConfig
from servable.sources import AspiredVersion, archive
from servable.sources.cache import Cache
from servable.sources.remote_model import RemoteModel
from servable.sources.store import open_store


class _Nobody:
    """A ``Receiver`` who is not interested."""

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        """Does nothing."""

    def missing(self, model: str) -> None:
        """Does nothing."""


def bring_ahead(model: ModelConfig, cache: str) -> None:
    """Returns once the wanted versions of a model are in ``cache``, a folder; at once if they are local.

    At once for an archive, too: whoever loads it asks for it again, as nobody else has what is in it. Raises
    ``StatusError``, and what the store raises.
    """
    path = model.base_path
    if not is_remote(path) or archive.is_archive(path):
        return
    found = RemoteModel(model, Cache(cache, path), _Nobody(), partial(open_store, path, "", 0))
    try:
        found.look()
    finally:
        found.close(clear=False)
