"""What ``servable ray run`` says of replicas that have not taken the models."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from servable.ray.running import _problem

LATE = "not every replica has said within 60 s whether it has taken the new ones"


class UnavailableError(Exception):
    """Ray's error if no replica runs."""


class Answers:
    """What calls of ``problem`` return: one of each replica, or an exception of the call."""

    def __init__(self, *told: Any) -> None:
        self.told = told
        self.problem = types.SimpleNamespace(remote=lambda: self)

    def broadcast(self, method: str) -> Answers:
        assert method == "problem"
        return self

    def results(self, timeout_s: float, return_exceptions: bool) -> list[Any]:
        assert timeout_s > 0 and return_exceptions
        if not self.told:
            raise TimeoutError
        if self.told[0] is UnavailableError:
            raise UnavailableError
        return list(self.told)

    def result(self, timeout_s: float) -> Any:
        if isinstance(self.told[1], Exception):
            raise self.told[1]
        return self.told[1]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["", "", ""], ""),
        (["no folder", "no folder"], "no folder"),
        (["", "no folder", ""], "of 1 of 3 replicas: no folder"),
        (["", RuntimeError("replaced")], ""),
        (["", TimeoutError()], LATE),
        ([], LATE),
        ([UnavailableError, "no folder"], "no folder"),
        ([UnavailableError, TimeoutError()], LATE),
    ],
)
def test_every_replica_is_asked(told: list[Any], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("ray.serve.exceptions")
    module.DeploymentUnavailableError = UnavailableError  # type: ignore[attr-defined]
    for name in ("ray", "ray.serve"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ray.serve.exceptions", module)
    assert _problem(Answers(*told)) == expected
