"""Models in a folder or a bucket: every folder in it that has versions, or is one, is a model of its name.

A look returns all of them. It is cheap where nothing changes: a folder is looked into until it is a model,
and from then on its source follows its versions. It is looked into again where another folder has taken its
place; and a few are at each look, one after the other, as it may change inside, from versions to a model's
file or back. A bucket is listed whole, a thousand files for each request.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from servable.config.model_paths import is_remote
from servable.config.values import Folder, ModelConfig
from servable.errors import StatusError
from servable.savedmodel.layout import MODEL_FILES, is_version_name, model_file_in
from servable.sources import LONE_VERSION
from servable.sources.answers import ANSWER_SECONDS, Answers

_log = logging.getLogger("servable.models_dir")

if TYPE_CHECKING:
    from servable.sources.cache import RemoteFile
    from servable.sources.listing import Listing, Versions

MOST_NAME = 200
"""Longest name of a model, in bytes; longer ones are no model."""
AGAIN = 200
"""So many known folders are looked into again at each look: with 10,000 of them, each at every fiftieth."""


class Discovery(Protocol):
    """A place that has models."""

    def look(self) -> dict[str, ModelConfig]:
        """Returns every model there, by name. Raises ``OSError`` or ``StatusError`` if it cannot be read."""


def discovery_at(place: str, listing: Listing | None = None) -> Discovery:
    """Returns what looks at ``place``, an absolute path or a URI.

    listing: is told what a bucket holds.
    """
    return BucketDiscovery(place, listing) if is_remote(place) else FolderDiscovery(place)


def may_be_model(name: str) -> bool:
    """True for the name of a folder that may be a model's: not hidden, and what a URL can name."""
    return bool(name) and not name.startswith(".") and "/" not in name and len(os.fsencode(name)) <= MOST_NAME


class _Known(NamedTuple):
    """A folder that is a model. inode: tells whether another one has taken its place."""

    inode: int
    model: ModelConfig


class FolderDiscovery:
    """A local folder. Folders in it that cannot be read are logged, once each, and left out.

    One that was a model stays as it was while it cannot be read, or is none: its source tells of that.
    answer_seconds: longest time that looking into one of them may take.
    """

    def __init__(self, folder: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._folder = folder
        self._known: dict[str, _Known] = {}
        self._answers = Answers(self._model, answer_seconds)
        # The last of the known folders that was looked into again.
        self._last_again = ""
        # What was logged of folders that cannot be read, by name.
        self._said: dict[str, str] = {}

    def look(self) -> dict[str, ModelConfig]:
        """See ``Discovery``."""
        with os.scandir(self._folder) as entries:
            folders = (entry for entry in entries if may_be_model(entry.name) and _may_be_folder(entry))
            there = {entry.name: entry.inode() for entry in folders}
        names = sorted(there)
        answers = self._answers.about(name for name in names if name not in self._known)
        answers |= self._answers.about(self._again(names, there), gives_up=True)
        found: dict[str, _Known] = {}
        unreadable: dict[str, str] = {}
        for name in names:
            answer, before = answers.get(name), self._known.get(name)
            if isinstance(answer, ModelConfig):
                found[name] = _Known(there[name], answer)
            elif before is not None:
                found[name] = before
            elif answer is not None:
                unreadable[name] = said(answer)
        for name, text in unreadable.items():
            if self._said.get(name) != text:
                _log.warning("%s is left out: %s", os.path.join(self._folder, name), text)
        self._known, self._said = found, unreadable
        return {name: known.model for name, known in found.items()}

    def _again(self, names: Sequence[str], there: Mapping[str, int]) -> list[str]:
        """Returns which known folders to look into again: those that are others now, and whose turn it is.

        There are no turns while one does not answer: most likely more of them lead to the same dead mount.
        """
        known = [name for name in names if name in self._known]
        changed = [name for name in known if self._known[name].inode != there[name]][:AGAIN]
        if self._answers.are_missing:
            return changed
        first = bisect_right(known, self._last_again)
        turns = list(islice(chain(known[first:], known[:first]), AGAIN))
        self._last_again = turns[-1] if turns else ""
        return [*changed, *(name for name in turns if name not in changed)]

    def _model(self, name: str) -> ModelConfig | None:
        """Raises ``OSError`` if it may be one and cannot be read."""
        path = os.path.join(self._folder, name)
        try:
            name.encode()
            with os.scandir(path) as entries:
                inside = {entry.name for entry in entries}
        except (NotADirectoryError, FileNotFoundError, UnicodeEncodeError):
            # No folder, one that has just gone, or a link that leads nowhere.
            return None
        if any(is_version_name(one) for one in inside):
            return ModelConfig(name, path)
        if inside.intersection(MODEL_FILES) and model_file_in(path):
            return ModelConfig(name, path, policy=Folder(LONE_VERSION))
        return None


def _may_be_folder(entry: os.DirEntry[str]) -> bool:
    """True for a folder, and any link: to follow that may take long."""
    try:
        return entry.is_symlink() or entry.is_dir(follow_symlinks=False)
    except OSError:
        return True


class BucketDiscovery:
    """An object store that fsspec knows. listing: is told what a look has found, if somebody follows that."""

    def __init__(self, uri: str, listing: Listing | None = None) -> None:
        self._uri = uri.rstrip("/")
        self._listing = listing

    def look(self) -> dict[str, ModelConfig]:
        """See ``Discovery``."""
        from servable.sources.store import files_below

        found = versions_among(*files_below(self._uri))
        if self._listing is not None:
            self._listing.replace({f"{self._uri}/{name}": versions for name, versions in found.items()})
        # Where the model is itself a version, its store finds that out.
        return {name: ModelConfig(name, f"{self._uri}/{name}") for name in sorted(found)}


def versions_among(root: str, files: Iterable[RemoteFile]) -> dict[str, Versions]:
    """Returns the models that files below ``root`` belong to, given by their paths from there. Pure."""
    from servable.sources.listing import versions_of

    by_name: dict[str, list[RemoteFile]] = {}
    for file in files:
        name, slash, rest = file.path.partition("/")
        if slash and may_be_model(name):
            by_name.setdefault(name, []).append(replace(file, path=rest))
    found = {name: versions_of(f"{root}/{name}", inside) for name, inside in by_name.items()}
    return {name: versions for name, versions in found.items() if versions}


def said(error: Exception) -> str:
    """Returns what is to be logged of a place that cannot be read."""
    hint = f"\n    {error.hint}" if isinstance(error, StatusError) and error.hint else ""
    return f"{error or type(error).__name__}{hint}"
