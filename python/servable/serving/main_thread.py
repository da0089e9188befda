"""The main thread, which only waits: the work is on other threads, so that signals are handled at once."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class Bell:
    """Wakes the main thread: rung by every signal, and by threads that have finished.

    The system may deliver a signal to any thread. Python then records it but wakes nobody: a main thread
    waiting on a lock would sleep on. ``signal.set_wakeup_fd`` solves this.
    """

    def __init__(self) -> None:
        self._ear, self._hand = socket.socketpair()
        self._hand.setblocking(False)
        self._before = signal.set_wakeup_fd(self._hand.fileno(), warn_on_full_buffer=False)

    def ring(self) -> None:
        """Wakes the main thread; if it is awake, it checks once more before it sleeps."""
        # It is full, or nobody waits any more.
        with suppress(OSError):
            self._hand.send(b"\0")

    def wait(self, condition: Callable[[], bool]) -> None:
        """Returns when ``condition`` holds; it is checked after each ring. Main thread only."""
        while not condition():
            self._ear.recv(4096)

    def close(self) -> None:
        """Restores the previous state. Call it when no thread rings any more."""
        signal.set_wakeup_fd(self._before)
        self._ear.close()
        self._hand.close()


class Outcome:
    """The result of ``call``, run on a thread of its own while the main thread waits at the bell."""

    def __init__(self, call: Callable[[], bool], bell: Bell) -> None:
        self.value: bool = False
        self.error: BaseException | None = None
        self._done = threading.Event()
        thread = threading.Thread(target=self._run, args=(call, bell), name=call.__name__, daemon=True)
        thread.start()
        bell.wait(self._done.is_set)
        # All it has left to do is ring.
        thread.join()

    def _run(self, call: Callable[[], bool], bell: Bell) -> None:
        try:
            self.value = call()
        except BaseException as error:
            self.error = error
        self._done.set()
        bell.ring()
