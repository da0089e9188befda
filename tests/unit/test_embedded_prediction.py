"""Questions to a core without an engine: what is sent, and signatures that change under a version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servable._core import CoreError
from servable.embedded.prediction import SMALL_BYTES, Asking
from servable.errors import InternalError, InvalidArgumentError, StatusError, UnavailableError


class FakeCore:
    """Answers with its inputs, if they are of the dtype that its signature has now."""

    def __init__(self) -> None:
        self.dtype, self.number = "DT_FLOAT", 1
        self.read = 0
        self.sent: list[tuple[Any, ...]] = []
        self.fails = False

    def find(self, model: str, version: int | None, label: str | None) -> int:
        return version or 1

    def signatures(self, model: str, version: int) -> list[Any]:
        self.read += 1
        return [("serving_default", "", [("x", self.dtype, [-1])], [("y", self.dtype, [-1])])]

    def predict(self, asked: Any, inputs: Any, outputs: Any, timeout: float | None) -> tuple[int, list[Any]]:
        ((alias, number, shape, values),) = inputs
        self.sent.append((alias, number, tuple(shape), values))
        if number != self.number or self.fails:
            error = CoreError("INTERNAL", "another dtype")
            error.code, error.message = "INTERNAL", "another dtype"
            raise error
        if isinstance(values, tuple):
            values = values[2].tobytes()
        return 1, [("y", number, list(shape), values)]


@pytest.fixture
def core() -> FakeCore:
    return FakeCore()


@pytest.fixture
def asking(core: FakeCore) -> Asking:
    fake: Any = core
    return Asking(fake)


def ask(asking: Asking, inputs: Any) -> Any:
    return asking.predict(inputs, "m", "", None, None, None)


def test_signatures_are_read_once_and_again_if_others_explain_an_error(
    core: FakeCore, asking: Asking
) -> None:
    for values in ([1, 2], np.ones(2, np.float32), np.ones(2)):
        assert ask(asking, values).dtype == np.float32
    assert core.read == 1
    core.dtype, core.number = "DT_INT64", 9
    # As it was asked before, and without a conversion.
    assert ask(asking, [1, 2]).tolist() == [1, 2]
    core.dtype, core.number = "DT_FLOAT", 1
    with pytest.raises(InvalidArgumentError, match="takes float, got text"):
        ask(asking, np.array(["a"]))
    assert ask(asking, np.ones(2, np.float32)).dtype == np.float32


def test_a_model_in_the_place_of_the_inputs(asking: Asking) -> None:
    model: Any = [1, 2]
    with pytest.raises(InvalidArgumentError, match="the model's name is no text, but of type list") as caught:
        asking.predict("m", model, "", None, None, None)
    assert "predict(inputs, model)" in caught.value.hint


def test_outputs_that_can_be_gone_through_once(core: FakeCore, asking: Asking) -> None:
    wanted: Any = (name for name in ["nonsense"])
    with pytest.raises(InvalidArgumentError, match="no output 'nonsense'"):
        asking.predict([1], "m", "", None, wanted, None)


def test_an_error_that_nothing_explains_is_asked_for_once(core: FakeCore, asking: Asking) -> None:
    array = np.ones(2, np.float32)
    ask(asking, array)
    core.fails = True
    asked = len(core.sent)
    with pytest.raises(InternalError, match="another dtype"):
        ask(asking, array)
    assert len(core.sent) == asked + 1


def test_a_version_that_is_not_loaded_is_waited_for_before_its_signatures_are_read(core: FakeCore) -> None:
    asleep, awoken = [True], []

    def find(model: str, version: int | None, label: str | None) -> int:
        if asleep[0]:
            error = CoreError("NOT_FOUND", "asleep")
            error.code, error.message = "NOT_FOUND", "asleep"
            raise error
        return 1

    def awaken(model: str, version: int | None, label: str | None, timeout: float | None) -> None:
        awoken.append((model, version, label))
        if label == "broken":
            raise StatusError("UNAVAILABLE", "it could not be loaded")
        asleep[0] = False

    core.find = find  # type: ignore[method-assign]
    fake: Any = core
    asking = Asking(fake, awaken)
    for _ in range(2):
        # The second time, its signatures are known.
        asleep[0] = True
        for _ in range(2):
            assert ask(asking, np.ones(2, np.float32)).tolist() == [1, 1]
    asleep[0] = True
    with pytest.raises(UnavailableError, match="it could not be loaded"):
        asking.predict([1], "m", "", "broken", None, 5.0)
    assert awoken == [("m", None, None), ("m", None, None), ("m", None, "broken")]


@pytest.mark.parametrize("kind", ["bare", "named"])
def test_small_arrays_are_copied_and_large_ones_lent(core: FakeCore, asking: Asking, kind: str) -> None:
    for count in (3, SMALL_BYTES):
        array = np.arange(count, dtype=np.float32)
        for _ in range(2):
            answer = ask(asking, array if kind == "bare" else {"x": array})
            np.testing.assert_array_equal(answer if kind == "bare" else answer["y"], array)
        lent = core.sent[-1][3]
        assert isinstance(lent, bytes) if count == 3 else lent[:2] == (array.ctypes.data, array.nbytes)
