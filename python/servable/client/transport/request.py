"""What a transport carries: the part of a call that is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Request(Protocol):
    """A request of any protocol; a codec's ``Call`` is one."""

    @property
    def path(self) -> str:
        """For REST after the address, for gRPC the method."""

    @property
    def body(self) -> bytes | None:
        """The content; None is a GET."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers in place of those for JSON, over REST."""
