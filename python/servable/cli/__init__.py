"""The commands: one module each, ``dispatch`` first."""

from __future__ import annotations

from servable.cli.dispatch import main, tensorflow_model_server

__all__ = ["main", "tensorflow_model_server"]
