"""Which of the versions that a configuration lists are not where the model is, by a look of one's own.

Sources announce what they have found, and so nothing about what they have not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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
    if not isinstance(model.policy, Specific) or archive.is_archive(model.base_path):
        return ""
    if is_remote(model.base_path):
        return absent_among(model, open_store(model.base_path, "", 0).versions())
    found = look(replace(model, base_path=local_path(model.base_path), policy=All())).versions
    return "" if found is None else absent_among(model, [one.version for one in found])


def absent_among(model: ModelConfig, found: Iterable[int]) -> str:
    """Returns a line about the first version that is listed and is not among those found; "" without one."""
    there = dict.fromkeys(found, "")
    for version in model.policy.versions if isinstance(model.policy, Specific) else ():
        if version not in there:
            return doctor.version_absent(model.name, version, there)
    return ""
