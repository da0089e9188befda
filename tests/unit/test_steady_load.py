"""The load of tests in which things are killed: what it excuses, and what it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from servers import until
from steady_load import Ask, Attempt, FailedError, SteadyLoad, Tally, WrongError


def clients(*errors: type[Exception] | None) -> list[Callable[[], Ask]]:
    """Returns clients: their first attempt raises that, all later ones are answered."""

    def make(error: type[Exception] | None) -> Callable[[], Ask]:
        def begin() -> Ask:
            errors = [error] if error is not None else []

            def ask() -> None:
                if errors:
                    raise errors.pop()("why")

            return ask

        return begin

    return [make(error) for error in errors]


def test_a_wrong_answer_is_not_excused() -> None:
    tally = Tally(
        attempts=[
            Attempt(9.5, 10.5, "under way"),
            Attempt(10.5, 11.0, "soon after"),
            Attempt(10.5, 11.0, "wrong", is_wrong=True),
            Attempt(12.0, 12.1, "later"),
        ]
    )
    assert [one.why for one in tally.late([10.0], 1.0)] == ["wrong", "later"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_client_that_ends_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steady_load.PAUSE_SECONDS", 0.0)
    with SteadyLoad(clients(ZeroDivisionError, FailedError, WrongError, None)) as load:
        assert load.more(10)
        assert until(lambda: load.tally.failed and load.tally.retried == 2)
    (ended,) = load.tally.failed
    assert ended.why == "a client: ZeroDivisionError('why')"
    assert sorted((one.why, one.is_wrong) for one in load.tally.attempts) == [("why", False), ("why", True)]
