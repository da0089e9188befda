"""A model's own session settings: ``assets.extra/saved_model_config.pb``, a binary SavedModelConfig.

As in TensorFlow Serving, the file is always read, and an unreadable one causes a warning. Of its overrides,
``disable_meta_optimizer`` takes effect; the graph rewriters that the other two configure are built into
TensorFlow Serving's binary and are in no TensorFlow package.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from servable.config.values import LoadOptions
from servable.messages import message_class
from servable.regular_files import open_file

FILE = os.path.join("assets.extra", "saved_model_config.pb")

_LARGEST = 16 * 1024 * 1024
"""Largest file, in bytes; anything larger is not such a message."""

_log = logging.getLogger("servable")


def options_for(folder: str, options: LoadOptions) -> LoadOptions:
    """Returns ``options`` with the overrides of the version in ``folder``.

    Never raises because of what is on the disk.
    """
    path = os.path.join(folder, FILE)
    try:
        with open_file(path) as file:
            content = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return options
    except OSError as error:
        _log.warning("%s is ignored: %s", path, error.strerror)
        return options
    return _overridden(path, content, options)


def _overridden(path: str, content: bytes, options: LoadOptions) -> LoadOptions:
    from google.protobuf.message import DecodeError

    try:
        config = message_class("tensorflow.serving.SavedModelConfig").FromString(content)
    except DecodeError:
        _log.warning("%s is ignored: it is no SavedModelConfig", path)
        return options
    overrides = config.session_overrides
    for name in ("remote_op_remap_config", "batch_op_rewriter_config"):
        if overrides.HasField(name):
            _log.warning("%s: %s has no effect: TensorFlow has no such graph rewriter", path, name)
    if not overrides.HasField("disable_meta_optimizer"):
        return options
    session = message_class("tensorflow.ConfigProto").FromString(options.session_config)
    session.graph_options.rewrite_options.disable_meta_optimizer = overrides.disable_meta_optimizer
    return replace(options, session_config=session.SerializeToString(deterministic=True))
