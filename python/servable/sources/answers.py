"""Questions to file systems, of which some never answer: a dead mount keeps a thread, not who asked."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
ANSWER_SECONDS = 10.0


class Answers(Generic[T]):
    """Asks ``question`` about names, one after the other, on a thread of its own. Not thread-safe.

    seconds: longest time that one answer may take.
    """

    def __init__(self, question: Callable[[str], T], seconds: float = ANSWER_SECONDS) -> None:
        self._question = question
        self._seconds = seconds
        # By name: the thread that waits for the answer.
        self._silent: dict[str, threading.Thread] = {}

    @property
    def are_missing(self) -> bool:
        """Whether a question has not been answered yet."""
        return any(thread.is_alive() for thread in self._silent.values())

    def about(self, names: Iterable[str], gives_up: bool = False) -> dict[str, T | Exception]:
        """Returns the answers, or what the question raised; ``TimeoutError`` where there was none in time.

        What does not answer is not asked again until the last question about it is over. gives_up: after the
        first that does not, the rest are not asked.
        """
        self._silent = {name: thread for name, thread in self._silent.items() if thread.is_alive()}
        answers: dict[str, T | Exception] = {}
        left = []
        for name in names:
            if name in self._silent:
                answers[name] = _no_answer()
            else:
                left.append(name)
        while left:
            some = dict(self._asked(left))
            answers.update(some)
            left = [] if gives_up else left[len(some) :]
        return answers

    def _asked(self, names: Sequence[str]) -> Iterator[tuple[str, T | Exception]]:
        """Yields the answers about these names, up to the first that does not come."""
        told: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()
        given_up = threading.Event()
        thread = threading.Thread(target=self._ask, args=(names, told, given_up), name="folders", daemon=True)
        thread.start()
        for name in names:
            try:
                yield name, told.get(timeout=self._seconds)
            except queue.Empty:
                given_up.set()
                self._silent[name] = thread
                yield name, _no_answer()
                return

    def _ask(
        self, names: Sequence[str], told: queue.SimpleQueue[T | Exception], given_up: threading.Event
    ) -> None:
        for name in names:
            if given_up.is_set():
                return
            try:
                told.put(self._question(name))
            except Exception as error:  # whoever asked decides
                told.put(error)


def _no_answer() -> TimeoutError:
    return TimeoutError("its file system does not answer")
