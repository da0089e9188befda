"""Finds out whether a model is there at all, before another one is unloaded for it."""

from __future__ import annotations

from dataclasses import replace

from servable.config.model_paths import is_remote, local_path, shown_uri
from servable.config.values import ModelConfig
from servable.errors import NotFoundError, StatusError, UnavailableError
from servable.sources import archive
from servable.sources.absence import absent, absent_among
from servable.sources.cache import Cache
from servable.sources.filesystem import choose, look
from servable.sources.store import open_store


def find(model: ModelConfig, cache: str) -> None:
    """Returns if a version is there that is wanted, in the store or in this node's ``cache``, a folder.

    Of versions that are listed, each has to be. Raises ``NotFoundError`` otherwise, and ``UnavailableError``
    if that cannot be found out.
    """
    if not is_remote(model.base_path):
        found = look(replace(model, base_path=local_path(model.base_path)))
        if not found.versions:
            raise _nothing(model, *found.problems[:1])
        _check(absent(model))
        return
    try:
        is_there = _is_in_store(model)
    except FileNotFoundError:
        is_there = False
    except StatusError:
        raise
    except Exception as error:  # stores raise what they like
        if is_cached(model, cache):
            return
        why = str(error) or type(error).__name__
        said = f"model {model.name}: {shown_uri(model.base_path)} cannot be read: {why}"
        raise UnavailableError("UNAVAILABLE", said) from None
    if not is_there:
        raise _nothing(model)


def is_cached(model: ModelConfig, cache: str) -> bool:
    """Returns whether this node's ``cache``, a folder, has what ``find`` looks for in a store."""
    cached = Cache(cache, model.base_path).versions()
    return bool(cached) and not absent_among(model, cached)


def _is_in_store(model: ModelConfig) -> bool:
    if archive.is_archive(model.base_path):
        archive.find(model.base_path)
        return True
    found = open_store(model.base_path, "", 0).versions()
    chosen = choose(model.policy, found)
    if chosen:
        _check(absent_among(model, found))
    return bool(chosen)


def _check(said: str) -> None:
    if said:
        raise NotFoundError("NOT_FOUND", said)


def _nothing(model: ModelConfig, problem: str = "") -> NotFoundError:
    said = problem or f"model {model.name}: no version was found in {shown_uri(model.base_path)}"
    message, _, hint = said.partition("\n")
    return NotFoundError("NOT_FOUND", message, hint.strip())
