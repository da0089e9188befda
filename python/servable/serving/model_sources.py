"""Where models come from, as configured: folders, stores, files to be converted, and folders of models.

What only some servers need is imported only there: a start with a local folder stays quick.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from servable.config.base_paths import AllowedPaths
from servable.config.model_paths import cache_dir, is_remote
from servable.config.values import ServerConfig
from servable.lifecycle.interfaces import Preparation
from servable.lifecycle.manager import Manager
from servable.serving.models_dir import ModelsDir
from servable.sources.discovery import discovery_at
from servable.sources.filesystem import FilesystemSource
from servable.sources.routing import RemoteSource, RoutedSource

if TYPE_CHECKING:
    from servable.sources.listing import Listing


def listing_of_bucket(config: ServerConfig) -> Listing | None:
    """Returns what is to be told of the models of ``--models_dir``, if they are fetched one by one."""
    if not (config.lifecycle.lazy_load and is_remote(config.models_dir)):
        return None
    from servable.sources.listing import Listing

    return Listing()


def source_of(config: ServerConfig, listing: Listing | None) -> RoutedSource:
    """Returns the source of all versions, which opens stores once a model needs one."""

    def remote_source() -> RemoteSource:
        from servable.sources import remote

        return remote.RemoteSource(
            config.remote_poll_seconds,
            _cache(config),
            config.max_archive_bytes,
            on_demand=config.lifecycle.lazy_load,
            listing=listing,
        )

    return RoutedSource(FilesystemSource(config.poll_seconds), remote_source)


def models_dir_of(config: ServerConfig, manager: Manager, listing: Listing | None) -> ModelsDir | None:
    """Returns what follows ``--models_dir``, None without one."""
    place = config.models_dir
    if not place:
        return None
    poll_seconds = config.remote_poll_seconds if is_remote(place) else config.poll_seconds
    discovery = discovery_at(place, listing)
    if is_remote(place):
        from servable.sources.remembered import Remembered

        discovery = Remembered(place, discovery, _cache(config))
    return ModelsDir(
        place, discovery, manager, poll_seconds, AllowedPaths(config.lifecycle.allowed_base_paths)
    )


def conversion_of(config: ServerConfig) -> Preparation:
    """Returns what makes SavedModels of Keras files."""
    from servable.sources.conversion import Conversion

    return Conversion(_cache(config))


def _cache(config: ServerConfig) -> str:
    return cache_dir(config.cache_dir, os.environ)
