"""Files of models: regular ones are read, all others refused at once, by name."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from servable.config.config_files import read_model_config_file
from servable.errors import StatusError
from servable.regular_files import open_file


def test_regular_files_are_read_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_file(str(tmp_path / name)) as file:
            assert file.read() == b"content"


def test_what_is_no_file_is_refused_by_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "it is a pipe"), (Path("/dev/zero"), "it is a device")):
        with pytest.raises(OSError, match=what):
            open_file(str(path))
    with pytest.raises(IsADirectoryError):
        open_file(str(tmp_path))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    with listener, pytest.raises(OSError, match=r"socket|No such device"):
        open_file(str(tmp_path / "socket"))


def test_a_config_file_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "models.config")
    with pytest.raises(StatusError, match="it is a pipe"):
        read_model_config_file(str(tmp_path / "models.config"))
