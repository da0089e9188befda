"""assets.extra/saved_model_config.pb: its overrides, and messages about the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from servable.config.saved_model_config import FILE, options_for
from servable.config.values import LoadOptions
from servable.messages import message_class


def write(folder: Path, content: bytes) -> str:
    (folder / FILE).parent.mkdir()
    (folder / FILE).write_bytes(content)
    return str(folder)


def config(**fields: Any) -> bytes:
    """Makes a serialized SavedModelConfig with these session overrides."""
    made = message_class("tensorflow.serving.SavedModelConfig")()
    made.session_overrides.SetInParent()
    for name, value in fields.items():
        setattr(made.session_overrides, name, value)
    return bytes(made.SerializeToString())


def session(options: LoadOptions) -> Any:
    return message_class("tensorflow.ConfigProto").FromString(options.session_config)


def test_without_a_file_nothing_changes(tmp_path: Path) -> None:
    options = LoadOptions()
    assert options_for(str(tmp_path), options) is options
    assert options_for(str(tmp_path / "none"), options) is options


def test_the_meta_optimizer_can_be_turned_off_and_all_else_stays(tmp_path: Path) -> None:
    folder = write(tmp_path, config(disable_meta_optimizer=True))
    before = message_class("tensorflow.ConfigProto")(intra_op_parallelism_threads=3)
    after = session(options_for(folder, LoadOptions(session_config=before.SerializeToString())))
    assert after.graph_options.rewrite_options.disable_meta_optimizer
    assert after.intra_op_parallelism_threads == 3


def test_what_overrides_nothing_changes_nothing(tmp_path: Path) -> None:
    options = LoadOptions(session_config=b"")
    assert options_for(write(tmp_path, config()), options) == options


def test_what_cannot_be_read_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = LoadOptions()
    assert options_for(write(tmp_path, b"\xff\xff\xff"), options) == options
    assert "saved_model_config.pb is ignored: it is no SavedModelConfig" in caplog.text


def test_what_has_no_effect_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = message_class("tensorflow.serving.SavedModelConfig")()
    made.session_overrides.batch_op_rewriter_config.SetInParent()
    options = LoadOptions()
    assert options_for(write(tmp_path, made.SerializeToString()), options) == options
    assert "batch_op_rewriter_config has no effect" in caplog.text
