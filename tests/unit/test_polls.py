"""Looks at many things, on few threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from servers import until

from servable.sources.polls import Polls


class Looked:
    """Counts its looks, and tells them; returns the pauses it is given, and None then."""

    def __init__(self, *pauses: float) -> None:
        self._pauses = list(pauses)
        self._changed = threading.Condition()
        self._looks = 0
        self.entered = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self) -> float | None:
        with self._changed:
            self._looks += 1
            self._changed.notify_all()
        self.entered.release()
        assert self.may_end.wait(10)
        return self._pauses.pop(0) if self._pauses else None

    def wait(self, looks: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._looks >= looks, 10), self._looks

    @property
    def looks(self) -> int:
        return self._looks


@pytest.fixture
def polls() -> Iterator[Polls]:
    made = Polls(2, "poll")
    yield made
    made.stop()


def test_each_is_looked_at_again_after_its_pause_or_once_it_is_woken(polls: Polls) -> None:
    again, once = Looked(0.0, 0.0), Looked()
    polls.add(once)
    polls.add(again)
    once.wait(1)
    again.wait(3)
    polls.wake(once)
    once.wait(2)
    assert again.looks == 3


def test_many_are_looked_at_on_few_threads(polls: Polls) -> None:
    looks = [Looked() for _ in range(200)]
    for one in looks:
        polls.add(one)
    for one in looks:
        one.wait(1)
    assert sum(one.name == "poll" for one in threading.enumerate()) <= 2


def test_one_that_takes_long_holds_up_no_other_and_is_not_done_twice_at_once(polls: Polls) -> None:
    long, other = Looked(), Looked()
    long.may_end.clear()
    polls.add(long)
    assert long.entered.acquire(timeout=10)
    polls.wake(long)
    polls.add(other)
    other.wait(1)
    polls.wake(other)
    other.wait(2)
    assert long.looks == 1
    long.may_end.set()
    long.wait(2)


def test_what_is_removed_is_looked_at_no_more(polls: Polls) -> None:
    gone, other = Looked(0.0), Looked()
    gone.may_end.clear()
    polls.add(gone)
    assert gone.entered.acquire(timeout=10)
    polls.remove(gone)
    gone.may_end.set()
    polls.wake(gone)
    polls.add(other)
    other.wait(1)
    polls.wake(other)
    other.wait(2)
    assert gone.looks == 1


def test_a_defect_in_one_costs_the_others_no_thread(polls: Polls, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> float | None:
        raise RuntimeError("on purpose")

    for _ in range(3):
        polls.add(fails)
    other = Looked()
    polls.add(other)
    other.wait(1)
    # Another thread may have looked at it.
    assert until(lambda: "on purpose" in caplog.text)
