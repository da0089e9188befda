"""Order, number and duration of requests: dialogues driven by hand, without clock or server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from servable.client.answers import Metadata, Signature, TensorSpec
from servable.client.binding import Given
from servable.client.codecs.codec import BoundRequest, Call, Choice, Prediction
from servable.client.dialogue import Dialogue, Pause, Send, Steps
from servable.client.limits import Limits
from servable.client.metadata_cache import FRESH_SECONDS, MOST_KEPT, MetadataCache
from servable.client.transport.connection import Connection
from servable.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ServableError,
    UnavailableError,
)

DOWN = UnavailableError("UNAVAILABLE", "down")
WRONG = InvalidArgumentError("INVALID_ARGUMENT", "wrong")


def metadata(version: int, dtype: str = "float") -> Metadata:
    spec = {"x": TensorSpec(dtype, (-1,))}
    outputs = {"y": TensorSpec("float", (-1,)), "z": TensorSpec("float", (-1,))}
    return Metadata("m", version, {"serving_default": Signature(spec, outputs)})


class FakeCodec:
    """Writes calls that name themselves; replies are passed through."""

    def __init__(self) -> None:
        self.questions: list[BoundRequest] = []

    def predict(self, question: BoundRequest) -> Call[Any]:
        self.questions.append(question)
        return Call("predict", b"", lambda reply: reply)

    def metadata(self, choice: Choice) -> Call[Any]:
        return Call("metadata", None, lambda reply: reply)

    def status(self, choice: Choice) -> Call[Any]:
        return Call("status", None, lambda reply: reply)

    def reload(self, config: bytes) -> Call[Any]:
        return Call("reload", config, lambda reply: reply, repeatable=False)

    classify = regress = multi_inference = None


class Setup:
    """A dialogue with a clock moved only by pauses, and a transcript."""

    def __init__(self, timeout: float | None = 10.0, retries: int = 3) -> None:
        self.now = 100.0
        self.codec = FakeCodec()
        self.said: list[str | float] = []
        self.seconds: list[float | None] = []
        codec: Any = self.codec
        self.dialogue = Dialogue(
            codec, Limits(timeout, retries), MetadataCache(lambda: self.now), lambda: self.now, lambda: 1.0
        )

    def drive(self, steps: Steps[Any], *replies: Any) -> Any:
        """Answers each ``Send`` with the next reply; errors are thrown."""
        left = list(replies)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self.said.append(step.seconds)
                    self.now += step.seconds
                    step = steps.send(None)
                    continue
                assert isinstance(step, Send)
                self.said.append(step.call.path)
                self.seconds.append(step.seconds)
                reply = left.pop(0)
                step = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
        except StopIteration as done:
            assert left == []
            return done.value

    def predict(self, *replies: Any, **given: Any) -> Any:
        choice = given.pop("choice", Choice("m"))
        return self.drive(self.dialogue.predict(Given(choice, **{"inputs": {"x": [1]}, **given})), *replies)


def answer(version: int | None = None) -> Prediction:
    return Prediction({"y": np.array([1.0]), "z": np.array([2.0])}, version)


def test_metadata_is_asked_for_once() -> None:
    setup = Setup()
    assert list(setup.predict(metadata(1), answer())) == ["y", "z"]
    setup.predict(answer())
    assert setup.said == ["metadata", "predict", "predict"]
    assert setup.codec.questions[0].inputs["x"].dtype == np.float32


def test_metadata_of_what_may_move_goes_stale() -> None:
    setup = Setup()
    setup.predict(metadata(1), answer())
    setup.predict(metadata(1), answer(), choice=Choice("m", version=1))
    setup.now += FRESH_SECONDS
    setup.said.clear()
    setup.predict(answer(), choice=Choice("m", version=1))
    setup.predict(metadata(2), answer())
    assert setup.said == ["predict", "metadata", "predict"]


def test_a_reply_from_another_version_drops_the_metadata() -> None:
    setup = Setup()
    setup.predict(metadata(1), answer(version=1))
    setup.predict(answer(version=2))
    setup.predict(metadata(2), answer(version=2))
    assert setup.said == ["metadata", "predict", "predict", "metadata", "predict"]


def test_an_error_under_old_metadata_is_looked_into() -> None:
    setup = Setup()
    setup.predict(metadata(1), answer())
    setup.predict(WRONG, metadata(2, "int64"), answer())
    assert setup.said == ["metadata", "predict", "predict", "metadata", "predict"]
    assert setup.codec.questions[-1].inputs["x"].dtype == np.int64


def test_values_that_only_the_new_version_takes() -> None:
    setup = Setup()
    setup.predict(metadata(1), answer())
    setup.predict(metadata(2, "string"), answer(), inputs={"x": ["text"]})
    assert setup.said == ["metadata", "predict", "metadata", "predict"]


def test_files_replaced_under_the_same_number() -> None:
    setup = Setup()
    setup.predict(metadata(1), answer(), choice=Choice("m", version=1))
    setup.predict(WRONG, metadata(1, "int64"), answer(), choice=Choice("m", version=1))
    assert setup.codec.questions[-1].inputs["x"].dtype == np.int64


def test_a_reply_that_only_other_metadata_explains() -> None:
    setup = Setup()
    setup.predict(metadata(1), answer())
    unread = InternalError("INTERNAL", "the reply is not what a model server answers")
    setup.predict(unread, metadata(1, "int64"), answer())
    with pytest.raises(InternalError):
        setup.predict(unread, metadata(1, "int64"))


def test_an_error_of_the_same_metadata_stays() -> None:
    setup = Setup()
    setup.predict(metadata(1), answer())
    with pytest.raises(InvalidArgumentError, match="wrong"):
        setup.predict(WRONG, metadata(1))
    with pytest.raises(NotFoundError):
        Setup().predict(NotFoundError("NOT_FOUND", "no such model"))


def test_outputs_in_the_order_asked_for_and_each_once() -> None:
    setup = Setup()
    setup.predict(metadata(1), answer(), outputs=["z", "y", "z"])
    assert setup.codec.questions[0].outputs == ("z", "y")
    assert setup.predict(answer(), inputs=[1], outputs=["z", "z"]).tolist() == [2.0]


def test_bare_values() -> None:
    setup = Setup()
    assert setup.predict(metadata(1), answer(), inputs=[1], outputs="z").tolist() == [2.0]
    assert setup.codec.questions[0].outputs == ("z",)
    with pytest.raises(InvalidArgumentError, match="answered with one array"):
        setup.predict(metadata(1), inputs=[1])


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"signature": "serving_defalt"}, "did you mean serving_default"),
        ({"inputs": {"q": 1}}, "there is: x"),
        ({"outputs": ["q"]}, "there is: y, z"),
    ],
)
def test_names_that_do_not_exist(given: dict[str, Any], hint: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        Setup().predict(metadata(1), **given)
    assert hint in raised.value.hint


def test_signatures_that_no_protocol_can_send() -> None:
    dialogue = Setup().dialogue
    for steps in (
        dialogue.classify(Choice("m"), "\ud800", [], None),
        dialogue.regress(Choice("m"), "\ud800", [], None),
        dialogue.multi_inference(Choice("m"), {"\ud800": "classify"}, [], None),
    ):
        with pytest.raises(InvalidArgumentError, match="the signature's name holds"):
            next(steps)


def test_unavailable_is_tried_again() -> None:
    setup = Setup()
    assert setup.drive(setup.dialogue.status(Choice("m")), DOWN, DOWN, DOWN, "statuses") == "statuses"
    assert setup.said == ["status", 0.1, "status", 0.2, "status", 0.4, "status"]
    assert setup.seconds == pytest.approx([10, 9.9, 9.7, 9.3])


def test_pauses_stop_growing_and_vary() -> None:
    setup = Setup(timeout=None, retries=8)
    setup.drive(setup.dialogue.status(Choice("m")), *[DOWN] * 8, "statuses")
    assert setup.said[1::2] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert set(setup.seconds) == {None}
    codec: Any = FakeCodec()
    shortest = Dialogue(codec, Limits(None, 1), chance=lambda: 0.0).status(Choice("m"))
    next(shortest)
    assert shortest.throw(DOWN) == Pause(0.05)


@pytest.mark.parametrize(
    ("limits", "replies", "steps"),
    [
        ({"retries": 0}, [DOWN], ["status"]),
        ({"retries": 1}, [DOWN, DOWN], ["status", 0.1, "status"]),
        ({"timeout": 0.05}, [DOWN], ["status"]),
        ({}, [WRONG], ["status"]),
    ],
    ids=["none allowed", "used up", "no time left", "another error"],
)
def test_no_further_try(limits: dict[str, Any], replies: list[Exception], steps: list[Any]) -> None:
    setup = Setup(**limits)
    with pytest.raises(type(replies[-1])):
        setup.drive(setup.dialogue.status(Choice("m")), *replies)
    assert setup.said == steps


def test_tries_without_end() -> None:
    setup = Setup(timeout=None, retries=2000)
    with pytest.raises(UnavailableError):
        setup.drive(setup.dialogue.status(Choice("m")), *[DOWN] * 2001)
    assert setup.said[-2] == 2.0


def test_reload_is_never_sent_twice() -> None:
    setup = Setup()
    with pytest.raises(UnavailableError):
        setup.drive(setup.dialogue.reload(b""), DOWN)


def test_the_time_limit_spans_the_whole_operation() -> None:
    setup = Setup(timeout=1.0)
    steps = setup.dialogue.predict(Given(Choice("m"), {"x": [1]}))
    assert isinstance(next(steps), Send)
    setup.now += 1.0
    with pytest.raises(DeadlineExceededError, match="1 s"):
        steps.send(metadata(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Limits(0, 1),
        lambda: Limits(-1.0, 1),
        lambda: Limits(float("nan"), 1),
        lambda: Limits(float("-inf"), 1),
        lambda: Limits(1e18, 1),
        lambda: Limits(1, -1),
        lambda: Connection(float("nan")),
        lambda: Connection(1e18),
    ],
)
def test_limits_that_are_none(make: Callable[[], Limits]) -> None:
    with pytest.raises(ServableError, match="expected"):
        make()


def test_an_infinite_limit_is_none() -> None:
    assert Limits(float("inf"), 1).timeout is None
    assert Connection(float("inf")).connect_timeout is None


def test_metadata_of_so_many_models_is_kept() -> None:
    cache = MetadataCache(lambda: 0.0)
    for number in range(MOST_KEPT + 10):
        cache.put(Choice("first"), metadata(1))
        cache.put(Choice(f"m{number}"), metadata(number))
    assert len(cache._kept) == MOST_KEPT
    assert cache.get(Choice("first")) is not None and cache.get(Choice("m0")) is None


@pytest.mark.parametrize("model", [None, [1, 2]])
def test_a_model_that_is_no_text(model: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="the model's name is no text"):
        Choice(model)
