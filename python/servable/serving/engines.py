"""Finds the engines' libraries for a configuration, and begins to open TensorFlow's."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from servable.config.model_paths import is_remote, local_path
from servable.config.values import ServerConfig
from servable.engines import libraries, precision, tensorflow_library
from servable.engines.formats import holds_only_saved_models, may_hold_saved_model
from servable.engines.libraries import Libraries

if TYPE_CHECKING:
    from servable.engines.tensorflow_library import Opening


def with_engines(config: ServerConfig, is_engine_given: bool, onednn: str) -> tuple[ServerConfig, Opening]:
    """Returns the configuration with the libraries that were found, and TensorFlow's as it opens.

    onednn: see ``tensorflow_library.set_onednn``. Raises ``TensorFlowNotFoundError`` and ``StatusError`` if
    what the models need is missing.
    """
    found = libraries.find_all(config.core.tensorflow_library, os.environ)
    if not found.found:
        raise libraries.no_engine(found)
    if error := precision.unavailable(config.load.engine_precision, found.missing.get("openvino", "")):
        raise error
    if "tensorflow" in found.missing and tensorflow_library.look_in_time(
        lambda: _surely_needs_tensorflow(config), otherwise=False
    ):
        raise libraries.no_tensorflow(found)
    tensorflow_library.set_onednn(onednn)
    opening = tensorflow_library.Opening(
        found.found.get("tensorflow", ""),
        config.core.op_libraries,
        config.core.log_level,
        lambda: _may_need_tensorflow(config),
        config.core.log_format,
    )
    return _with_libraries(config, found, is_engine_given), opening


def _may_need_tensorflow(config: ServerConfig) -> bool:
    """True unless every model is known to be of another format; stated op libraries are always opened."""
    models = config.models
    return bool(config.core.op_libraries or not models) or any(
        is_remote(one.base_path) or may_hold_saved_model(local_path(one.base_path), config.load.prefer_tflite)
        for one in models
    )


def _surely_needs_tensorflow(config: ServerConfig) -> bool:
    """True if there are op libraries, or models that are all local and of nothing but SavedModels."""
    prefer_tflite = config.load.prefer_tflite
    return bool(config.core.op_libraries) or (
        bool(config.models)
        and not any(is_remote(one.base_path) for one in config.models)
        and all(holds_only_saved_models(local_path(one.base_path), prefer_tflite) for one in config.models)
    )


def _with_libraries(config: ServerConfig, libraries: Libraries, is_engine_given: bool) -> ServerConfig:
    """Returns ``config`` with the engines' libraries. Without OpenVINO nothing is accelerated by default."""
    core = replace(config.core, libraries=libraries.found, missing_engines=libraries.missing)
    load = config.load
    if "openvino" in libraries.missing and not is_engine_given:
        load = replace(load, engine="tensorflow")
    lifecycle = replace(config.lifecycle, final_errors=tuple(libraries.missing.values()))
    return replace(config, core=core, load=load, lifecycle=lifecycle)
