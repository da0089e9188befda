"""Finds out what is to be served: paths, objects that have to be exported, and several of them by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from servable.config.model_paths import model_from_path
from servable.config.values import ModelConfig
from servable.embedded.exporting import ExportFolder, export
from servable.errors import InvalidArgumentError, NotFoundError, UsageError, invalid_argument

DEFAULT_NAME = "model"
"""The name of an object."""


class _NoExports(ExportFolder):
    def model(self, number: int) -> str:
        raise invalid_argument(
            "a server that runs takes paths: export the object, or start another server with it"
        )


NO_EXPORTS = _NoExports()
"""For places where an object cannot be served."""


def model_configs(what: object, name: str, folder: ExportFolder) -> tuple[ModelConfig, ...]:
    """Returns the models for a path or object, or for a mapping from names to these; for ``()`` none yet.

    name: of the only one; "": by its path. Objects are exported into ``folder``. Raises ``StatusError``.
    """
    if isinstance(what, tuple) and not what:
        return ()
    if not isinstance(what, Mapping):
        return (_model(what, name, folder, 0),)
    if name:
        raise invalid_argument("a mapping has the models' names: leave out name=")
    if not what:
        raise invalid_argument(
            "there is no model: expected a path, an object, or a mapping from names to these"
        )
    return tuple(_model(one, str(name), folder, number) for number, (name, one) in enumerate(what.items()))


def _model(what: object, name: str, folder: ExportFolder, number: int) -> ModelConfig:
    if isinstance(what, ModelConfig):
        return replace(what, name=name) if name else what
    if isinstance(what, (str, os.PathLike)):
        model = _at_path(os.fsdecode(what))
        return replace(model, name=name) if name else model
    base_path = folder.model(number)
    export(what, base_path)
    return ModelConfig(name or DEFAULT_NAME, base_path)


def _at_path(path: str) -> ModelConfig:
    if path and "://" not in path:
        # NAME=PATH is for the command line: an absolute path has no name before it.
        path = os.path.abspath(os.path.expanduser(path))
    try:
        return model_from_path(path)
    except UsageError as error:
        is_there = "://" in path or os.path.exists(path)
        raise (
            InvalidArgumentError("INVALID_ARGUMENT", str(error))
            if is_there
            else NotFoundError("NOT_FOUND", str(error))
        ) from None
