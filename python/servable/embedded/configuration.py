"""Turns the flags of ``servable serve``, given as keywords, into the configuration of an embedded server."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from servable.config import settings
from servable.config.arguments import Arguments, check_text, parse
from servable.config.values import ModelConfig, ServerConfig, check_models
from servable.embedded import process
from servable.engines import tensorflow_library
from servable.errors import FailedPreconditionError, TensorFlowNotFoundError, UsageError
from servable.serving.engines import with_engines

if TYPE_CHECKING:
    from servable.engines.tensorflow_library import Opening

Flag = bool | int | float | str | os.PathLike[str] | None | list[str] | tuple[str, ...]
"""The value of a flag: as on the command line, or Python's own; None is ``off`` for a port."""

DEFAULTS: dict[str, Flag] = {
    "host": "127.0.0.1",
    "port": 0,
    "rest_api_port": 0,
    "engine": "tensorflow",
    "max_num_load_retries": 0,
    "shutdown_grace_seconds": 5,
}
"""Where an embedded server differs: for this machine alone, on free ports, quiet, and soon at its end."""

_PORTS = ("port", "rest_api_port")

_REFUSED = {
    "handover_socket": "the ports of an embedded server are its program's",
    "log_format": "logs() and the logger 'servable' have the log",
    "model_base_path": "the models are the first argument",
    "model_config_file": "the models are the first argument",
    "model_name": "the name is an argument of its own",
}
"""Flags for a server that has its process for itself, and what to do instead."""


def configuration(models: tuple[ModelConfig, ...], flags: Mapping[str, Flag]) -> tuple[ServerConfig, Opening]:
    """Returns the configuration, and TensorFlow's library as it opens.

    Raises ``UsageError``, ``StatusError`` and ``TensorFlowNotFoundError``, as the command does.
    """
    arguments = parsed(flags, models[0].base_path if models else os.sep)
    config = replace(settings.server_config(arguments, os.environ), models=models)
    check_models(models)
    check_text([text for model in models for text in (model.name, model.base_path)])
    is_engine_given = flags.get("engine") is not None
    check_library(config.core.tensorflow_library)
    process.started()
    return with_engines(config, is_engine_given, arguments.text("tensorflow_onednn"))


def parsed(flags: Mapping[str, Flag], base_path: str = os.sep) -> Arguments:
    """Returns the flags as a command line has them. Raises ``UsageError``."""
    for name in flags:
        if name in _REFUSED:
            raise UsageError(f"{name} is not for an embedded server: {_REFUSED[name]}")
    given = {name: value for name, value in flags.items() if value is not None or name in _PORTS}
    line = [one for name, value in {**DEFAULTS, **given}.items() for one in _written(name, value)]
    return parse([*line, f"--model_base_path={base_path}"], serve=True)


def check_library(stated: str) -> None:
    """Raises ``FailedPreconditionError`` if TensorFlow was imported whose library is not the server's.

    Two in one process would register the same operations twice, which ends it.
    """
    imported = getattr(sys.modules.get("tensorflow"), "__file__", None)
    if not imported:
        return
    try:
        library = tensorflow_library.find(stated)
    except TensorFlowNotFoundError:
        return
    if os.path.realpath(os.path.dirname(library)) != os.path.realpath(os.path.dirname(imported)):
        raise FailedPreconditionError(
            "FAILED_PRECONDITION",
            f"a process can hold one TensorFlow: {imported} is imported, and the server would open {library}",
            f"leave out tensorflow_library and ${tensorflow_library.ENVIRONMENT}: the imported one's is used",
        )


def _written(name: str, value: Flag) -> Iterator[str]:
    """Yields the flag as it is written on the command line; nothing for None, but for a port."""
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _written(name, one)
    elif isinstance(value, bool):
        yield f"--{name}={str(value).lower()}"
    elif value is None:
        if name in _PORTS:
            yield f"--{name}=off"
    else:
        yield f"--{name}={os.fspath(value) if isinstance(value, os.PathLike) else value}"
