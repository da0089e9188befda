"""What ``servable ray run`` says of replicas that have not taken the models."""

from __future__ import annotations

import signal
import sys
import types
from typing import Any

import pytest

from servable.errors import UsageError
from servable.ray import running
from servable.ray.configuration import Configuration, read
from servable.ray.grpc_service import GRPC_FUNCTIONS
from servable.ray.running import PROBLEM_SECONDS, _are_run, _differences, _problem, _proxies

LATE = f"not every replica has said within {PROBLEM_SECONDS:g} s whether it has taken the new ones"


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


@pytest.fixture
def exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's exceptions, without Ray."""
    module = types.ModuleType("ray.serve.exceptions")
    module.DeploymentUnavailableError = UnavailableError  # type: ignore[attr-defined]
    for name in ("ray", "ray.serve"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ray.serve.exceptions", module)


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
def test_every_replica_is_asked(told: list[Any], expected: str, exceptions: None) -> None:
    assert _problem(Answers(*told)) == expected


class Serve:
    """Ray Serve with applications of these names."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.is_away = False

    def status(self) -> Any:
        status = types.SimpleNamespace(value="RUNNING")
        one = types.SimpleNamespace(status=status)
        return types.SimpleNamespace(applications=dict.fromkeys(self.names, one))

    def delete(self, name: str) -> None:
        if self.is_away:
            raise OSError("the cluster is gone")
        self.names.remove(name)


def nothing() -> None:
    """Tells nothing."""


FILE = read("applications: [{models: /a, name: a}, {models: /b, name: b, route: /b}]")


@pytest.mark.parametrize("failure", [None, RuntimeError("no"), KeyboardInterrupt(), UsageError("refused")])
@pytest.mark.parametrize(
    ("before", "stays", "left", "said"),
    [
        ([], False, [], ["a: ended, as not all of the file runs", "b: ended, as not all of the file runs"]),
        (["a", "x"], False, ["a", "x"], ["a: stays, RUNNING", "b: ended, as not all of the file runs"]),
        ([], True, ["a", "b"], ["a: stays, RUNNING", "b: stays, RUNNING"]),
    ],
)
def test_what_a_failed_run_has_begun_ends_or_is_named(
    failure: BaseException | None,
    before: list[str],
    stays: bool,
    left: list[str],
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve, told = Serve(*before), list[str]()

    def is_run(serve: Serve, application: Any, say: Any) -> bool:
        if application.name not in serve.names:
            serve.names.append(application.name)
        if application.name == "b" and failure is not None:
            raise failure
        return bool(application.name == "a")

    monkeypatch.setattr(running, "_is_run", is_run)
    if failure is None:
        assert not _are_run(serve, FILE, told.append, stays, nothing)
    else:
        with pytest.raises(type(failure)):
            _are_run(serve, FILE, told.append, stays, nothing)
    assert (sorted(serve.names), told) == (left, said)


def test_what_cannot_be_ended_hides_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    serve, told = Serve(), list[str]()

    def is_run(serve: Serve, application: Any, say: Any) -> bool:
        serve.names.append(application.name)
        serve.is_away = True
        raise RuntimeError("the reason")

    monkeypatch.setattr(running, "_is_run", is_run)
    with pytest.raises(RuntimeError, match="the reason"):
        _are_run(serve, FILE, told.append, False, nothing)
    assert told == ["a: may go on, as it cannot be ended: the cluster is gone"]


def test_who_is_interrupted_at_the_last_moment_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    serve, told = Serve("x"), list[str]()

    def is_run(serve: Serve, application: Any, say: Any) -> bool:
        serve.names.append(application.name)
        return True

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_is_run", is_run)
    with pytest.raises(KeyboardInterrupt):
        _are_run(serve, FILE, told.append, False, interrupted)
    assert serve.names == ["x"]


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, running.Terminated), (signal.SIGINT, KeyboardInterrupt)]
)
@pytest.mark.parametrize("times", [1, 2])
def test_an_interruption_is_told_once_ray_has_connected(
    number: signal.Signals, expected: type[BaseException], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray has a handler of its own for SIGTERM; a second interruption does not wait."""
    steps = list[int]()

    def handler(*_: object) -> None:
        raise SystemExit(1)

    def init(**_: object) -> None:
        ray._private.utils.set_sigterm_handler(handler)
        for step in range(times):
            signal.raise_signal(number)
            steps.append(step)

    def set_handler(one: Any) -> None:
        signal.signal(signal.SIGTERM, one)

    utils = types.SimpleNamespace(set_sigterm_handler=set_handler)
    ray = types.SimpleNamespace(init=init, _private=types.SimpleNamespace(utils=utils))
    monkeypatch.setattr(running, "ray_and_serve", lambda: (ray, None))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as raised:
        running.run(FILE, print)
    assert (raised.type, steps) == (expected, [0])
    assert signal.getsignal(signal.SIGTERM) is before
    assert utils.set_sigterm_handler is set_handler


KEPT = "Ray Serve runs already, and keeps its ports: end it first to have those of the file"
NO_GRPC = "Ray Serve runs already, without gRPC for these services"


@pytest.mark.parametrize(
    ("wanted", "port", "functions", "found", "said"),
    [
        (9000, 9000, GRPC_FUNCTIONS, 9000, []),
        (9000, 9000, ("other", *GRPC_FUNCTIONS), 9000, []),
        (9000, 29000, GRPC_FUNCTIONS, 29000, [KEPT]),
        (9000, 9000, (), None, [NO_GRPC]),
        (9000, 9000, ("other",), None, [NO_GRPC]),
        (None, 29000, GRPC_FUNCTIONS, 29000, []),
        (None, 9000, (), None, []),
    ],
)
def test_grpc_is_where_ray_has_it(
    wanted: int | None,
    port: int,
    functions: tuple[str, ...],
    found: int | None,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grpc = types.SimpleNamespace(port=port, grpc_servicer_functions=list(functions))
    controller = types.SimpleNamespace(get_grpc_config=types.SimpleNamespace(remote=lambda: grpc))
    http = types.SimpleNamespace(host="127.0.0.1", port=8000)
    client = types.SimpleNamespace(http_config=http, _controller=controller)
    module = types.ModuleType("ray.serve.context")
    module._get_global_client = lambda: client  # type: ignore[attr-defined]
    for name in ("ray", "ray.serve"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "ray.serve.context", module)
    configuration = Configuration(FILE.applications, grpc_port=wanted)
    proxies = _proxies(types.SimpleNamespace(get=lambda answer: answer), configuration)
    assert proxies == ("127.0.0.1", 8000, found)
    told = list(_differences(configuration, proxies))
    assert len(told) == len(said) and all(map(str.startswith, told, said))
    (ready, *more) = running._addresses(configuration, proxies, FILE.applications[1])
    assert ready == "b: ready at http://127.0.0.1:8000/b/v1/models/"
    expected = [f"b: gRPC on port {found}, metadata application: b"] if wanted and found else []
    assert more == expected
    elsewhere = proxies._replace(http_port=8001)
    assert KEPT in list(_differences(configuration, elsewhere))


def test_what_an_application_lacks_is_said(exceptions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    application: Any = types.SimpleNamespace(name="shop", models=["a", "b"])
    lacks = "model b: no version was found in /b"
    for told, expected in (("", []), (lacks, [f"shop: {lacks}"])):
        said: list[str] = []
        monkeypatch.setattr(running, "_started", lambda *_, told=told: Answers(told))
        assert running._is_run(None, application, said.append) is not bool(told)
        assert said == ["shop: starting a, b", *expected]
