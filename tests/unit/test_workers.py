"""Threads for loading: their number, and that changing it loses nothing."""

from __future__ import annotations

import threading

import pytest

from servable.lifecycle.workers import MOST_OVERDUE, Workers


def test_jobs_run_in_order_on_one_thread() -> None:
    workers, done = Workers("w", 1), []
    for number in range(50):
        workers.submit(lambda number=number: done.append(number))
    assert workers.wait_idle(10)
    assert done == list(range(50))


def test_at_most_the_limit_run_at_once_and_as_many_do() -> None:
    workers, lock, most = Workers("w", 3), threading.Lock(), [0, 0]
    together = threading.Barrier(3, timeout=10)

    def job() -> None:
        with lock:
            most[0] += 1
            most[1] = max(most)
        together.wait()
        with lock:
            most[0] -= 1

    for _ in range(9):
        workers.submit(job)
    assert workers.wait_idle(10)
    assert most == [0, 3]


def test_growing_starts_waiting_jobs_and_shrinking_loses_none() -> None:
    workers, both = Workers("w", 1), threading.Barrier(2, timeout=10)
    workers.submit(lambda: both.wait() and None)
    workers.submit(lambda: both.wait() and None)
    assert not workers.wait_idle(0.0)
    workers.resize(2)
    assert workers.wait_idle(10)
    workers.resize(1)
    done: list[int] = []
    for number in range(5):
        workers.submit(lambda number=number: done.append(number))
    assert workers.wait_idle(10)
    assert done == list(range(5))


def test_cleared_jobs_never_run() -> None:
    workers, gate, done = Workers("w", 1), threading.Event(), []
    entered = threading.Event()

    def first() -> None:
        entered.set()
        assert gate.wait(10)

    workers.submit(first)
    assert entered.wait(10)
    workers.submit(lambda: done.append(1))
    workers.clear()
    gate.set()
    assert workers.wait_idle(10)
    assert done == []


def test_a_job_that_hangs_gives_its_place_to_the_next() -> None:
    workers, gate, done = Workers("w", 1, patience=0.05), threading.Event(), threading.Event()
    workers.submit(lambda: gate.wait(30) and None)
    workers.submit(done.set)
    assert done.wait(10)
    gate.set()
    assert workers.wait_idle(10)


def test_a_job_that_does_not_hang_keeps_its_place() -> None:
    now = [0.0]
    workers, gate, order = Workers("w", 1, patience=60, clock=lambda: now[0]), threading.Event(), []

    def first() -> None:
        assert gate.wait(10)
        order.append(1)

    workers.submit(first)
    workers.submit(lambda: order.append(2))
    now[0] = 59.0
    workers.resize(1)
    gate.set()
    assert workers.wait_idle(10)
    assert order == [1, 2]


def test_only_so_many_may_hang() -> None:
    workers, gate = Workers("w", 1, patience=0.0), threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        assert gate.wait(30)

    for _ in range(MOST_OVERDUE + 5):
        workers.submit(hang)
    for _ in range(MOST_OVERDUE + 1):
        assert begun.acquire(timeout=20)
    assert not begun.acquire(timeout=0.1)
    gate.set()
    assert workers.wait_idle(20)


def test_a_job_that_raises_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Neither their thread nor, for one that had begun to hang, their place."""
    workers, done = Workers("w", 1, patience=0.0), []

    def fails() -> None:
        raise ZeroDivisionError("oops")

    for number in range(3):
        workers.submit(fails)
        workers.submit(lambda number=number: done.append(number))
    assert workers.wait_idle(10)
    assert sorted(done) == [0, 1, 2]
    assert (workers._threads, workers._begun) == (0, {})
    assert caplog.text.count("a job of the thread w failed") == 3
    assert "ZeroDivisionError: oops" in caplog.text


def test_a_thread_that_cannot_start_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, done = Workers("w", 1), []

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            workers.submit(lambda: done.append(1))
    workers.submit(lambda: done.append(2))
    assert workers.wait_idle(10)
    assert done == [1, 2]


def test_at_the_end_of_the_interpreter_who_waits_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Python 3.12.1, where no thread starts then."""
    before, after = Workers("w", 2, patience=0.0), Workers("w", 1)
    gate, done = threading.Event(), []

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    def waits() -> None:
        assert gate.wait(10)
        done.append("begun before")

    before.submit(waits)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        for number in range(3):
            before.submit(lambda number=number: done.append(number))
        before.resize(5)
        # A thread that is there does it, as ever.
        gate.set()
        assert before.wait_idle(10)
        assert done == ["begun before", 0, 1, 2]
        threads: list[threading.Thread] = []

        def first() -> None:
            threads.append(threading.current_thread())
            after.submit(lambda: threads.append(threading.current_thread()))

        after.submit(first)
        after.submit(lambda: 1 / 0)
        assert threads == [] and after.wait_idle(0.0) is False
        assert after.wait_idle(None)
        assert threads == [threading.current_thread()] * 2
