"""What a bucket of many models holds, as it was last listed: whole, instead of model by model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from servable.savedmodel.layout import MODEL_FILES, is_version_name
from servable.sources import LONE_VERSION
from servable.sources.cache import RemoteFile
from servable.sources.store import Files, Store

Versions = Mapping[int, tuple[str, Files]]
"""Of one model: version → its location in the store, and its files."""


class Listing:
    """The models of one bucket, by their base paths. Thread-safe.

    ``follow`` is called with the base paths of models whose files have changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, Versions] = {}
        self._follow: Callable[[Iterable[str]], None] = lambda _: None

    def followed_by(self, follow: Callable[[Iterable[str]], None]) -> None:
        """Has ``follow`` called from now on."""
        self._follow = follow

    def replace(self, models: dict[str, Versions]) -> None:
        """Takes over what the bucket holds now."""
        with self._lock:
            before = self._models
            # What is the same is kept once.
            same = {path: one for path, one in before.items() if models.get(path) == one}
            self._models = {**models, **same}
        # Who is new or gone follows from the configuration.
        self._follow([path for path in models if path in before and path not in same])

    def of(self, base_path: str) -> Versions | None:
        """Returns the versions of a model; None for one that is not in the bucket."""
        with self._lock:
            return self._models.get(base_path)


class ListedStore:
    """A ``Store`` of one model that is looked up in a listing, and read from ``store``."""

    def __init__(self, versions: Callable[[], Versions | None], store: Callable[[], Store]) -> None:
        self._versions = versions
        self._make_store = store
        self._known: Versions = {}

    def versions(self) -> dict[int, str]:
        """See ``Store``."""
        # One that is gone for a moment has lost nothing.
        self._known = self._versions() or self._known
        return {version: place for version, (place, _) in self._known.items()}

    def files(self, place: str) -> Files:
        """See ``Store``."""
        return next(files for at, files in self._known.values() if at == place)

    def read(self, place: str, file: RemoteFile) -> Iterator[bytes]:
        """See ``Store``."""
        return self._make_store().read(place, file)

    def link(self, place: str, file: RemoteFile, path: str) -> bool:
        """See ``Store``."""
        return False


def versions_of(place: str, files: Iterable[RemoteFile]) -> Versions:
    """Returns the versions that the files of one model make, given by their paths from ``place``. Pure.

    Empty if it is no model.
    """
    found: dict[str, list[RemoteFile]] = {}
    lone: list[RemoteFile] = []
    for file in files:
        folder, slash, rest = file.path.partition("/")
        lone.append(file)
        if slash and is_version_name(folder):
            found.setdefault(folder, []).append(replace(file, path=rest))
    if found:
        return {int(name): (f"{place}/{name}", tuple(inside)) for name, inside in sorted(found.items())}
    if any(file.path in MODEL_FILES for file in lone):
        return {LONE_VERSION: (place, tuple(lone))}
    return {}
