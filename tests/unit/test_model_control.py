"""Loading and unloading by name, for clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from servable.admin.model_control import ModelControl
from servable.config.values import ModelConfig
from servable.errors import StatusError
from servable.lifecycle.availability import Availability

Models = tuple[ModelConfig, ...]


class Configured:
    """Stands in for the manager: a list of models; those in ``broken`` cannot be loaded."""

    def __init__(self, *models: ModelConfig) -> None:
        self.models: Models = models
        self.broken: set[str] = set()
        self.reloaded: list[str] = []
        self.refusing = False
        self.serving: set[str] = set()
        self.becomes: list[Availability] = []
        self.gone: list[bool] = []
        """What those who waited said of their client."""

    def configured(self) -> Models:
        return self.models

    def change(self, edit: Callable[[Models], Sequence[ModelConfig]]) -> None:
        if self.refusing:
            raise StatusError("INVALID_ARGUMENT", "refused")
        self.models = tuple(edit(self.models))

    def reload(self, name: str, timeout: float, gives_up: Callable[[], bool]) -> bool:
        self.gone.append(gives_up())
        self.reloaded.append(name)
        return "slow" not in self.broken

    def availability(self) -> dict[str, Availability]:
        def of(name: str) -> Availability:
            if self.becomes:
                return self.becomes[0]
            return Availability.FAILED if name in self.broken else Availability.AVAILABLE

        return {model.name: of(model.name) for model in self.models}

    def errors(self) -> dict[str, tuple[int, StatusError]]:
        return {name: (3, StatusError("INTERNAL", "no graph")) for name in self.broken}

    def wait(
        self,
        enough: Callable[[dict[str, Availability]], bool],
        timeout: float,
        gives_up: Callable[[], bool],
    ) -> bool:
        """Goes on to the next of ``becomes`` while it is to wait; with one left, the time is over."""
        self.gone.append(gives_up())
        while not enough(self.availability()):
            if len(self.becomes) < 2:
                return False
            del self.becomes[0]
        return True

    def wait_for_withdrawal(
        self, name: str, timeout: float, wholly: bool = False, *, gives_up: Callable[[], bool]
    ) -> bool:
        self.gone.append(gives_up())
        return name not in self.serving or any(one.name == name for one in self.models)


M, N = ModelConfig("m", "/m", labels={"stable": 1}), ModelConfig("n", "/n")


def control(*models: ModelConfig) -> tuple[ModelControl, Any]:
    manager: Any = Configured(*models)
    return ModelControl(manager), manager


def code(made: ModelControl, action: str, name: str, has_left: bool = False) -> str:
    try:
        made.answer(action, name, lambda: has_left)
    except StatusError as error:
        return error.code
    return "OK"


def test_what_was_unloaded_comes_back_as_it_was() -> None:
    made, manager = control(M, N)
    made.answer("unload", "m")
    assert manager.models == (N,)
    made.answer("unload", "m")
    made.answer("load", "m")
    assert manager.models == (N, M)
    assert manager.reloaded == []


def test_what_is_served_is_loaded_again() -> None:
    made, manager = control(M)
    made.answer("load", "m")
    assert (manager.models, manager.reloaded) == ((M,), ["m"])
    manager.broken.add("slow")
    assert code(made, "load", "m") == "DEADLINE_EXCEEDED"
    assert code(made, "load", "m", has_left=True) == "CANCELLED"


def test_what_was_configured_again_meanwhile_counts() -> None:
    made, manager = control(M)
    made.answer("unload", "m")
    other = ModelConfig("m", "/other")
    manager.models = (other,)
    made.answer("load", "m")
    assert (manager.models, manager.reloaded) == ((other,), ["m"])
    made.answer("unload", "m")
    made.answer("load", "m")
    assert manager.models == (other,)


def test_failures_are_told() -> None:
    made, manager = control(M)
    assert [code(made, action, "x") for action in ("load", "unload", "change")] == [
        "NOT_FOUND",
        "NOT_FOUND",
        "INVALID_ARGUMENT",
    ]
    manager.broken.add("m")
    with pytest.raises(StatusError, match=r"failed to load 'm', .* version 3: no graph"):
        made.answer("load", "m")


def test_a_load_that_takes_long_is_waited_for() -> None:
    made, manager = control(M)
    made.answer("unload", "m")
    manager.becomes = [Availability.WAITING, Availability.HANGING, Availability.AVAILABLE]
    made.answer("load", "m")
    assert manager.becomes == [Availability.AVAILABLE]
    manager.becomes = [Availability.HANGING]
    assert code(made, "load", "m") == "DEADLINE_EXCEEDED"
    with pytest.raises(StatusError, match="CANCELLED: the client has left: it is still being loaded"):
        made.answer("load", "m", lambda: True)


def test_a_load_that_was_refused_can_be_tried_again() -> None:
    made, manager = control(M)
    made.answer("unload", "m")
    manager.refusing = True
    assert code(made, "load", "m") == "INVALID_ARGUMENT"
    manager.refusing = False
    made.answer("load", "m")
    assert manager.models == (M,)


def test_what_the_operator_removed_does_not_come_back() -> None:
    made, manager = control(M, N)
    made.answer("unload", "m")
    with pytest.raises(StatusError), made.replaced():
        raise StatusError("INVALID_ARGUMENT", "not applied")
    made.answer("load", "m")
    made.answer("unload", "m")
    with made.replaced():
        manager.models = (N,)
    assert [code(made, action, "m") for action in ("load", "unload")] == ["NOT_FOUND", "NOT_FOUND"]


@pytest.mark.parametrize("decision", ["loads another", "removes"])
def test_what_the_administration_decided_is_not_undone_by_what_was_before(decision: str) -> None:
    made, manager = control(M, N)
    made.answer("unload", "m")
    other = ModelConfig("m", "/other")
    with made.decided("m") as was_unloaded:
        assert was_unloaded
        if decision == "loads another":
            manager.models = (N, other)
    with made.decided("n") as was_unloaded:
        assert not was_unloaded
    if decision == "loads another":
        with made.decided("m"):
            manager.models = (N,)
    assert code(made, "load", "m") == "NOT_FOUND"
    assert manager.models == (N,)


def test_a_decision_that_was_refused_changes_nothing() -> None:
    made, manager = control(M)
    made.answer("unload", "m")
    with pytest.raises(StatusError), made.decided("m"):
        raise StatusError("INVALID_ARGUMENT", "refused")
    made.answer("load", "m")
    assert manager.models == (M,)


def test_every_wait_learns_that_the_client_has_left() -> None:
    made, manager = control(M)
    for action in ("load", "unload", "load"):
        made.answer(action, "m", lambda: True)
    # To be gone, for the files, to be there; to be gone; to be gone, to be there.
    assert manager.gone == [True] * 6


def test_what_still_serves_is_told() -> None:
    made, manager = control(M)
    manager.serving.add("m")
    assert [code(made, action, "m") for action in ("unload", "load")] == ["DEADLINE_EXCEEDED"] * 2
    assert [code(made, action, "m", True) for action in ("unload", "load")] == ["CANCELLED"] * 2
    manager.serving.clear()
    assert code(made, "load", "m") == "OK"
