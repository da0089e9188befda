"""The states of a version: pure, and the same in the status API, the core and here."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The states of a version, named as in the status API and the core's ``STATES``."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"
