"""What is asked in which order, how often, how long: dialogues driven by hand, without clock or server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from servable.client.answers import Metadata, Signature, TensorSpec
from servable.client.binding import Given
from servable.client.codec import BoundRequest, Call, Choice, Prediction
from servable.client.connection import Connection
from servable.client.dialogue import Dialogue, Limits, Pause, Send, Steps
from servable.client.metadata_cache import FRESH_SECONDS, MetadataCache
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


class FakeDoor:
    """Writes calls that say what they are; replies are handed through."""

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


class Room:
    """A dialogue with a clock that moves only by pauses, and a transcript."""

    def __init__(self, timeout: float | None = 10.0, retries: int = 3) -> None:
        self.now = 100.0
        self.door = FakeDoor()
        self.said: list[str | float] = []
        self.seconds: list[float | None] = []
        door: Any = self.door
        self.dialogue = Dialogue(
            door, Limits(timeout, retries), MetadataCache(lambda: self.now), lambda: self.now, lambda: 1.0
        )

    def drive(self, steps: Steps[Any], *replies: Any) -> Any:
        """Answers each ``Send`` with the next reply, throwing those that are errors."""
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
    room = Room()
    assert list(room.predict(metadata(1), answer())) == ["y", "z"]
    room.predict(answer())
    assert room.said == ["metadata", "predict", "predict"]
    assert room.door.questions[0].inputs["x"].dtype == np.float32


def test_metadata_of_what_may_move_goes_stale() -> None:
    room = Room()
    room.predict(metadata(1), answer())
    room.predict(metadata(1), answer(), choice=Choice("m", version=1))
    room.now += FRESH_SECONDS
    room.said.clear()
    room.predict(answer(), choice=Choice("m", version=1))
    room.predict(metadata(2), answer())
    assert room.said == ["predict", "metadata", "predict"]


def test_a_reply_from_another_version_drops_the_metadata() -> None:
    room = Room()
    room.predict(metadata(1), answer(version=1))
    room.predict(answer(version=2))
    room.predict(metadata(2), answer(version=2))
    assert room.said == ["metadata", "predict", "predict", "metadata", "predict"]


def test_an_error_under_old_metadata_is_looked_into() -> None:
    room = Room()
    room.predict(metadata(1), answer())
    room.predict(WRONG, metadata(2, "int64"), answer())
    assert room.said == ["metadata", "predict", "predict", "metadata", "predict"]
    assert room.door.questions[-1].inputs["x"].dtype == np.int64


def test_values_that_only_the_new_version_takes() -> None:
    room = Room()
    room.predict(metadata(1), answer())
    room.predict(metadata(2, "string"), answer(), inputs={"x": ["text"]})
    assert room.said == ["metadata", "predict", "metadata", "predict"]


def test_files_replaced_under_the_same_number() -> None:
    room = Room()
    room.predict(metadata(1), answer(), choice=Choice("m", version=1))
    room.predict(WRONG, metadata(1, "int64"), answer(), choice=Choice("m", version=1))
    assert room.door.questions[-1].inputs["x"].dtype == np.int64


def test_a_reply_that_only_other_metadata_explains() -> None:
    room = Room()
    room.predict(metadata(1), answer())
    unread = InternalError("INTERNAL", "the reply is not what a model server answers")
    room.predict(unread, metadata(1, "int64"), answer())
    with pytest.raises(InternalError):
        room.predict(unread, metadata(1, "int64"))


def test_an_error_of_the_same_metadata_stays() -> None:
    room = Room()
    room.predict(metadata(1), answer())
    with pytest.raises(InvalidArgumentError, match="wrong"):
        room.predict(WRONG, metadata(1))
    with pytest.raises(NotFoundError):
        Room().predict(NotFoundError("NOT_FOUND", "no such model"))


def test_outputs_in_the_order_asked_for_and_each_once() -> None:
    room = Room()
    room.predict(metadata(1), answer(), outputs=["z", "y", "z"])
    assert room.door.questions[0].outputs == ("z", "y")
    assert room.predict(answer(), inputs=[1], outputs=["z", "z"]).tolist() == [2.0]


def test_bare_values() -> None:
    room = Room()
    assert room.predict(metadata(1), answer(), inputs=[1], outputs="z").tolist() == [2.0]
    assert room.door.questions[0].outputs == ("z",)
    with pytest.raises(InvalidArgumentError, match="answered with one array"):
        room.predict(metadata(1), inputs=[1])


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
        Room().predict(metadata(1), **given)
    assert hint in raised.value.hint


def test_signatures_that_no_door_can_send() -> None:
    dialogue = Room().dialogue
    for steps in (
        dialogue.classify(Choice("m"), "\ud800", [], None),
        dialogue.regress(Choice("m"), "\ud800", [], None),
        dialogue.multi_inference(Choice("m"), {"\ud800": "classify"}, [], None),
    ):
        with pytest.raises(InvalidArgumentError, match="the signature's name holds"):
            next(steps)


def test_unavailable_is_tried_again() -> None:
    room = Room()
    assert room.drive(room.dialogue.status(Choice("m")), DOWN, DOWN, DOWN, "statuses") == "statuses"
    assert room.said == ["status", 0.1, "status", 0.2, "status", 0.4, "status"]
    assert room.seconds == pytest.approx([10, 9.9, 9.7, 9.3])


def test_pauses_stop_growing_and_vary() -> None:
    room = Room(timeout=None, retries=8)
    room.drive(room.dialogue.status(Choice("m")), *[DOWN] * 8, "statuses")
    assert room.said[1::2] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert set(room.seconds) == {None}
    door: Any = FakeDoor()
    shortest = Dialogue(door, Limits(None, 1), chance=lambda: 0.0).status(Choice("m"))
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
    room = Room(**limits)
    with pytest.raises(type(replies[-1])):
        room.drive(room.dialogue.status(Choice("m")), *replies)
    assert room.said == steps


def test_tries_without_end() -> None:
    room = Room(timeout=None, retries=2000)
    with pytest.raises(UnavailableError):
        room.drive(room.dialogue.status(Choice("m")), *[DOWN] * 2001)
    assert room.said[-2] == 2.0


def test_reload_is_never_sent_twice() -> None:
    room = Room()
    with pytest.raises(UnavailableError):
        room.drive(room.dialogue.reload(b""), DOWN)


def test_the_time_limit_spans_the_whole_operation() -> None:
    room = Room(timeout=1.0)
    steps = room.dialogue.predict(Given(Choice("m"), {"x": [1]}))
    assert isinstance(next(steps), Send)
    room.now += 1.0
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
