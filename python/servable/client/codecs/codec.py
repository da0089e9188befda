"""A ``Codec`` writes calls in the form of a protocol, and reads their replies.

Nothing here, in ``rest.py`` or in ``grpc.py`` does any input or output: a call is a path with bytes, a reply
is bytes. So both clients share all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Generic, Protocol, TypeVar

from servable.client.answers import Classification, Metadata, VersionStatus
from servable.client.text import check_text, shown
from servable.client.values.arrays import Array
from servable.client.values.examples import Examples
from servable.errors import invalid_argument

T = TypeVar("T")

CLASSIFY = "classify"
REGRESS = "regress"


@dataclass(frozen=True)
class Choice:
    """A model and, at most one of the two, a version or a label; neither means the newest version.

    Raises ``InvalidArgumentError`` for values that no protocol can send.
    """

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise invalid_argument(f"a version and the label {self.label!r} are both given; give one of them")
        if self.version is not None and not isinstance(self.version, Integral):
            raise invalid_argument(f"version is {self.version!r}; expected an integer")
        if self.version is not None and not -(2**63) <= self.version < 2**63:
            raise invalid_argument(f"version is {shown(self.version)}; expected an integer of 64 bits")
        check_text("the model's name", self.model)
        check_text("the label", self.label or "")


@dataclass(frozen=True)
class Call(Generic[T]):
    """One exchange with the server.

    path: for REST after the address, for gRPC the method. body: the request; None is a GET. read: converts
    the reply's bytes to the answer. repeatable: sending it twice does no harm. headers: for REST, those that
    are not as for JSON.
    """

    path: str
    body: bytes | None
    read: Callable[[bytes], T]
    repeatable: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """The answer of predict. version: the one that answered, if the reply names it."""

    outputs: dict[str, Array]
    version: int | None = None


@dataclass(frozen=True)
class BoundRequest:
    """A request to predict, with every value already of its input's dtype.

    signature: a name, never empty. metadata: of the version meant. outputs: the distinct aliases wanted, in
    the order of the answer; empty for all, by name.
    """

    choice: Choice
    signature: str
    inputs: Mapping[str, Array]
    metadata: Metadata
    outputs: tuple[str, ...] = ()


class Codec(Protocol):
    """Writes calls and reads their replies; stateless, usable from any thread.

    Methods raise ``UnimplementedError`` for calls that the protocol lacks.
    """

    def predict(self, bound: BoundRequest) -> Call[Prediction]:
        """Runs a signature."""

    def classify(
        self, choice: Choice, signature: str, examples: Examples
    ) -> Call[list[list[Classification]]]:
        """Returns classes with scores for each example."""

    def regress(self, choice: Choice, signature: str, examples: Examples) -> Call[Array]:
        """Returns a float for each example."""

    def multi_inference(
        self, choice: Choice, tasks: Mapping[str, str], examples: Examples
    ) -> Call[dict[str, Any]]:
        """Runs several signatures at once; tasks: signature → classify or regress."""

    def status(self, choice: Choice) -> Call[list[VersionStatus]]:
        """Returns the versions known to the server."""

    def metadata(self, choice: Choice) -> Call[Metadata]:
        """Returns the signatures of a version."""

    def reload(self, config: bytes) -> Call[None]:
        """Replaces the configuration by a serialized tensorflow.serving.ModelServerConfig."""
