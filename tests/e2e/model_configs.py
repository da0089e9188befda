"""Model configurations: messages, texts, and files polled by a server."""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import START_SECONDS
from google.protobuf import text_format
from google.protobuf.json_format import ParseDict

from servable.messages import message_class, pool

IN_CLOSE_NOWRITE = 0x10
EVENT_BYTES = 16
"""Size of an event of a watched file: without a name."""


def entry(name: str, base: Path | str, **more: Any) -> dict[str, Any]:
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


@contextmanager
def reads_of(path: Path) -> Iterator[Callable[[int], None]]:
    """Yields a function that waits until a file has been read so many more times, as inotify(7) tells.

    Counts the reads that end from now on, of the file that is there now.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_CLOEXEC)
    assert watch >= 0, os.strerror(ctypes.get_errno())

    def wait(times: int) -> None:
        for _ in range(times):
            assert select.select([watch], [], [], START_SECONDS)[0], f"{path} is not read"
            os.read(watch, EVENT_BYTES)

    try:
        added = libc.inotify_add_watch(watch, os.fsencode(path), IN_CLOSE_NOWRITE)
        assert added >= 0, os.strerror(ctypes.get_errno())
        yield wait
    finally:
        os.close(watch)
