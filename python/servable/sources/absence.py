"""Which versions are where a model is, and which that a configuration lists are not, by a look of one's own.

Sources announce what they have found, and so nothing about what they have not.
"""

from __future__ import annotations

from collections.abc import Iterable

from servable.config.model_paths import is_remote, local_path
from servable.config.values import All, ModelConfig, Specific
from servable.savedmodel import doctor
from servable.sources import archive
from servable.sources.filesystem import look
from servable.sources.store import open_store


def absent(model: ModelConfig) -> str:
    """Looks where the model is. Returns a line about a version that is listed and not there, "" without one.

    "" also where that cannot be known: an archive says what it has once it was fetched, an unreadable folder
    never. Raises what the store raises.
    """
    if not isinstance(model.policy, Specific):
        return ""
    found = versions_at(model.base_path)
    return "" if found is None else absent_among(model, found)


def versions_at(base_path: str) -> list[int] | None:
    """Looks there. Returns the versions, ascending; None where that cannot be known, as of an archive.

    Raises what the store raises.
    """
    if archive.is_archive(base_path):
        return None
    if is_remote(base_path):
        return sorted(open_store(base_path, "", 0).versions())
    found = look(ModelConfig("", local_path(base_path), policy=All())).versions
    return None if found is None else [one.version for one in found]


def absent_among(model: ModelConfig, found: Iterable[int]) -> str:
    """Returns a line about the first version that is listed and is not among those found; "" without one."""
    there = dict.fromkeys(found, "")
    for version in model.policy.versions if isinstance(model.policy, Specific) else ():
        if version not in there:
            return doctor.version_absent(model.name, version, there)
    return ""
