"""What is said in which order: metadata first where dtypes are needed, another try where no server answers.

A dialogue is a generator. It yields steps, ``Send`` and ``Pause``; whoever drives it does them, with or
without ``await``, and hands back the reply or throws in the error. Nothing here does input or output, and
clock and chance come from outside.

Tries: a repeatable call that ends with UNAVAILABLE is sent again, up to ``retries`` times, after pauses that
double from 0.1 s to 2 s, each shortened by chance to between half and all of it, so that many clients do not
come back at once. The time limit spans all tries.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from servable.client.answers import Classification, Metadata, VersionStatus
from servable.client.arrays import Array
from servable.client.binding import Given, bind
from servable.client.codec import Call, Choice, Codec, Prediction
from servable.client.connection import limit
from servable.client.examples import Features, read_examples
from servable.client.metadata_cache import MetadataCache
from servable.client.text import check_text
from servable.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    invalid_argument,
)

T = TypeVar("T")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0


@dataclass(frozen=True)
class Send:
    """Send this and hand back the reply's bytes. seconds: at most, or None for no limit."""

    call: Call[Any]
    seconds: float | None


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Steps = Generator[Send | Pause, Any, T]


@dataclass(frozen=True)
class Limits:
    """timeout: seconds for a whole operation, retries included, or None; infinity becomes None.

    retries: further tries.
    """

    timeout: float | None
    retries: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeout", limit("timeout", self.timeout))
        if self.retries < 0:
            raise invalid_argument(f"retries is {self.retries}; expected 0 or more")


@dataclass(frozen=True)
class Dialogue:
    """Everything that can be asked of a server. Immutable but for the cache; may be used from any thread."""

    codec: Codec
    limits: Limits
    cache: MetadataCache = field(default_factory=MetadataCache)
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def predict(self, given: Given) -> Steps[Any]:
        """A dict of arrays for a mapping of inputs, one array for a bare value.

        When known metadata leads to an error that other metadata would explain, it is asked for again; if it
        has changed, so is the request. The version may be the same: its files may have been replaced.
        """
        until = self._until()
        known = self.cache.get(given.choice)
        metadata = known or (yield from self._metadata(given.choice, until))
        try:
            return (yield from self._predict(given, metadata, until))
        except (InvalidArgumentError, NotFoundError, FailedPreconditionError, InternalError):
            if known is None:
                raise
            fresh = yield from self._metadata(given.choice, until)
            if fresh == known:
                raise
        return (yield from self._predict(given, fresh, until))

    def _predict(self, given: Given, metadata: Metadata, until: float | None) -> Steps[Any]:
        bound = bind(given, metadata)
        prediction: Prediction = yield from self._ask(self.codec.predict(bound), until)
        if prediction.version not in (None, metadata.version):
            self.cache.drop(given.choice)
        return prediction.outputs[bound.outputs[0]] if given.bare else prediction.outputs

    def classify(
        self,
        choice: Choice,
        signature: str,
        examples: Features | Iterable[Features],
        context: Features | None,
    ) -> Steps[list[list[Classification]]]:
        """Classes with scores, a list for each example."""
        check_text("the signature's name", signature)
        read = read_examples(examples, context)
        return (yield from self._ask(self.codec.classify(choice, signature, read), self._until()))

    def regress(
        self,
        choice: Choice,
        signature: str,
        examples: Features | Iterable[Features],
        context: Features | None,
    ) -> Steps[Array]:
        """float32 [examples]."""
        check_text("the signature's name", signature)
        read = read_examples(examples, context)
        return (yield from self._ask(self.codec.regress(choice, signature, read), self._until()))

    def multi_inference(
        self,
        choice: Choice,
        tasks: Mapping[str, str],
        examples: Features | Iterable[Features],
        context: Features | None,
    ) -> Steps[dict[str, Any]]:
        """By signature, what classify or regress answer."""
        for signature in tasks:
            check_text("the signature's name", signature)
        read = read_examples(examples, context)
        return (yield from self._ask(self.codec.multi_inference(choice, tasks, read), self._until()))

    def status(self, choice: Choice) -> Steps[list[VersionStatus]]:
        """The versions that the server knows, newest first."""
        return (yield from self._ask(self.codec.status(choice), self._until()))

    def metadata(self, choice: Choice) -> Steps[Metadata]:
        """The signatures, as the server tells them now."""
        return (yield from self._metadata(choice, self._until()))

    def reload(self, config: bytes) -> Steps[None]:
        """Replaces the server's configuration."""
        return (yield from self._ask(self.codec.reload(config), self._until()))

    def _metadata(self, choice: Choice, until: float | None) -> Steps[Metadata]:
        metadata = yield from self._ask(self.codec.metadata(choice), until)
        self.cache.put(choice, metadata)
        return metadata

    def _ask(self, call: Call[T], until: float | None) -> Steps[T]:
        """Sends the call, again where that is allowed and of use; its answer."""
        for attempt in range(self.limits.retries + 1):
            try:
                reply = yield Send(call, self._left(until))
            except UnavailableError:
                pause = self._pause(attempt)
                over = until is not None and self.clock() + pause >= until
                if not call.repeatable or attempt == self.limits.retries or over:
                    raise
            else:
                return call.read(reply)
            yield Pause(pause)
        raise AssertionError("the last try returns or raises")

    def _pause(self, attempt: int) -> float:
        # Five doublings reach the longest pause; many more would leave the range of floats.
        longest: float = min(FIRST_PAUSE * 2 ** min(attempt, 5), LONGEST_PAUSE)
        return longest * (0.5 + 0.5 * self.chance())

    def _until(self) -> float | None:
        return None if self.limits.timeout is None else self.clock() + self.limits.timeout

    def _left(self, until: float | None) -> float | None:
        if until is None:
            return None
        left = until - self.clock()
        if left <= 0:
            raise DeadlineExceededError(
                "DEADLINE_EXCEEDED", f"the {self.limits.timeout:g} s of the client's timeout are over"
            )
        return left
