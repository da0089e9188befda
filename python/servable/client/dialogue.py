"""The sequence of requests: metadata first if dtypes are needed, retries if no server answers.

A dialogue is a generator. It yields steps, ``Send`` and ``Pause``; the driver performs them, with or without
``await``, and sends back the reply or throws the error. Nothing here does input or output; clock and
randomness are passed in.

Retries: a repeatable call that ends with UNAVAILABLE is sent again, up to ``retries`` times, after pauses
that double from 0.1 s to 2 s, each shortened at random to between half and all of it, so that many clients do
not return at once. The time limit covers all tries.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from servable.client.answers import Classification, Metadata, VersionStatus
from servable.client.binding import Given, bind
from servable.client.codecs.codec import Call, Choice, Codec, Prediction
from servable.client.limits import Limits
from servable.client.metadata_cache import MetadataCache
from servable.client.text import check_text
from servable.client.values.arrays import Array
from servable.client.values.examples import Features, read_examples
from servable.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)

T = TypeVar("T")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
READ_AS_JSON = "JSON Parse error"
"""In the text of TensorFlow Serving's error for a body that is not JSON, whatever its type."""


@dataclass(frozen=True)
class Send:
    """Send the call and return the reply's bytes. seconds: time limit, or None."""

    call: Call[Any]
    seconds: float | None


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Steps = Generator[Send | Pause, Any, T]


@dataclass(frozen=True)
class Dialogue:
    """All operations on a server. Immutable except for the cache; usable from any thread."""

    codec: Codec
    limits: Limits
    cache: MetadataCache = field(default_factory=MetadataCache)
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random

    def predict(self, given: Given) -> Steps[Any]:
        """Returns a dict of arrays for a mapping of inputs, one array for a bare value.

        If cached metadata leads to an error that other metadata would explain, it is requested again; if it
        changed, the call is repeated. The version may be the same: its files may have been replaced.
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
            if (fresh, fresh.accepts) == (known, known.accepts):
                raise
        return (yield from self._predict(given, fresh, until))

    def _predict(self, given: Given, metadata: Metadata, until: float | None) -> Steps[Any]:
        bound = bind(given, metadata)
        call = self.codec.predict(bound)
        prediction: Prediction
        try:
            prediction = yield from self._ask(call, until)
        except InvalidArgumentError as error:
            # The answer of a server that takes JSON alone: another one than that of the metadata.
            if "Content-Type" not in call.headers or READ_AS_JSON not in error.message:
                raise
            self.cache.drop(given.choice)
            plain = replace(bound, metadata=replace(metadata, accepts=frozenset()))
            prediction = yield from self._ask(self.codec.predict(plain), until)
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
        """Returns classes with scores, a list for each example."""
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
        """Returns a float32 for each example."""
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
        """Returns the answers of classify or regress by signature."""
        for signature in tasks:
            check_text("the signature's name", signature)
        read = read_examples(examples, context)
        return (yield from self._ask(self.codec.multi_inference(choice, tasks, read), self._until()))

    def status(self, choice: Choice) -> Steps[list[VersionStatus]]:
        """Returns the versions known to the server, newest first."""
        return (yield from self._ask(self.codec.status(choice), self._until()))

    def metadata(self, choice: Choice) -> Steps[Metadata]:
        """Returns the current signatures."""
        return (yield from self._metadata(choice, self._until()))

    def reload(self, config: bytes) -> Steps[None]:
        """Replaces the server's configuration."""
        return (yield from self._ask(self.codec.reload(config), self._until()))

    def _metadata(self, choice: Choice, until: float | None) -> Steps[Metadata]:
        metadata = yield from self._ask(self.codec.metadata(choice), until)
        self.cache.put(choice, metadata)
        return metadata

    def _ask(self, call: Call[T], until: float | None) -> Steps[T]:
        """Sends the call, again if that is allowed and useful; returns its answer."""
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
        # Five doublings reach the longest pause; many more would exceed the range of floats.
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
