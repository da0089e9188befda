"""Model configurations: messages, texts, and files polled by a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.json_format import ParseDict

from servable.messages import message_class, pool


def entry(name: str, base: Path, **more: Any) -> dict[str, Any]:
    """Returns a ModelConfig in protobuf's JSON names."""
    return {"name": name, "basePath": str(base), "modelPlatform": "tensorflow", **more}


def model_config(*entries: dict[str, Any]) -> Any:
    """Returns a ModelServerConfig."""
    config = message_class("tensorflow.serving.ModelServerConfig")()
    return ParseDict({"modelConfigList": {"config": list(entries)}}, config, descriptor_pool=pool())


def config_text(*entries: dict[str, Any]) -> str:
    """Returns a ModelServerConfig as text."""
    return text_format.MessageToString(model_config(*entries))


def config_file(folder: Path, *entries: dict[str, Any]) -> Path:
    """Writes a config file in ``folder``."""
    file = folder / "models.config"
    file.write_text(config_text(*entries))
    return file


def replace_file(path: Path, text: str) -> None:
    """Replaces the content atomically."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.replace(path)
