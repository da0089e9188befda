"""Where versions come from: the contract of a source, in TensorFlow Serving's terms.

A source says what *ought* to be served. For each model it announces the **complete** list of versions it
wants loaded (the aspired versions); absence from the list is the only way to ask for an unload, and an
announcement may be repeated or lost without harm. What happens to the list is the manager's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from servable.config.values import ModelConfig


@dataclass(frozen=True)
class AspiredVersion:
    """One version that a source wants served: its number, and the local folder of its SavedModel.

    fingerprint: changes when the files of the version do ("" where the source does not look); a version that
    failed to load is tried again when it changes. One that serves stays as it is.
    """

    version: int
    path: str
    fingerprint: str = ""


class Receiver(Protocol):
    """Who a source announces to (the manager). Called from the source's threads; never blocks for long."""

    def aspire(self, model: str, versions: tuple[AspiredVersion, ...]) -> None:
        """``versions`` is everything wanted of ``model`` from now on; empty: nothing, unload it all."""

    def missing(self, model: str) -> None:
        """Nothing can be said about ``model``: its place could not be read. What is loaded stays loaded."""


class Source(Protocol):
    """Finds versions.

    ``start`` is called once, before or after ``watch``; ``stop`` once, and nothing is announced after it.

    ``watch`` may be called from any thread at any time and replaces the whole list of models. A model that is
    no longer in it is announced with an empty list once. One model's trouble never delays or changes what is
    announced for another.
    """

    def watch(self, models: Sequence[ModelConfig]) -> None:
        """Find versions of these models, and of no others, from now on."""

    def start(self, receiver: Receiver) -> None:
        """Begin to announce."""

    def stop(self) -> None:
        """Announce nothing more. Returns when no announcement is under way."""
