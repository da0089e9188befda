"""Converts the argument of reload to a serialized tensorflow.serving.ModelServerConfig."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from servable.client.text import check_text
from servable.errors import InvalidArgumentError, invalid_argument
from servable.messages import message_class, pool

PLATFORM = "tensorflow"


def serialized_config(config: object) -> bytes:
    """Accepts a mapping from names to folders, a config file's text or ``Path``, or a message of any pool.

    Raises ``InvalidArgumentError``.
    """
    if isinstance(config, Mapping):
        return _from_folders(config)
    if isinstance(config, PathLike):
        try:
            return _from_text(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise invalid_argument(f"{config} cannot be read: {error}") from None
    if isinstance(config, str):
        return _from_text(config)
    serialize: Any = getattr(config, "SerializeToString", None)
    if serialize is None:
        raise _unreadable(type(config).__name__)
    content: bytes = serialize()
    return content


def _from_folders(folders: Mapping[Any, Any]) -> bytes:
    config = message_class("tensorflow.serving.ModelServerConfig")()
    config.model_config_list.SetInParent()
    for name, folder in folders.items():
        if not isinstance(name, str) or not isinstance(folder, (str, PathLike)):
            raise _unreadable(f"a mapping with {name!r}: {folder!r}")
        check_text("a model's name", name)
        check_text("a model's folder", str(fspath(folder)))
        config.model_config_list.config.add(name=name, base_path=str(fspath(folder)), model_platform=PLATFORM)
    serialized: bytes = config.SerializeToString()
    return serialized


def _from_text(text: str) -> bytes:
    from google.protobuf import text_format

    config = message_class("tensorflow.serving.ModelServerConfig")()
    try:
        text_format.Parse(text, config, descriptor_pool=pool())
    except text_format.ParseError as error:
        raise invalid_argument(
            f"not a ModelServerConfig in text format: {error}", "for a file's name, give a pathlib.Path"
        ) from None
    serialized: bytes = config.SerializeToString()
    return serialized


def _unreadable(came: str) -> InvalidArgumentError:
    return invalid_argument(
        "expected a mapping from models' names to folders, the text of a model config file, "
        f"its pathlib.Path, or a ModelServerConfig; got {came}"
    )
