"""Answers requests by their bytes, as those of clients, without a socket and while the event loop goes on.

The core begins a request in the thread of the loop, without the GIL; what is not answered at once goes on in
its own threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from servable._core import CoreError
from servable.errors import UnavailableError, status_error

if TYPE_CHECKING:
    from servable import _core

_Head = TypeVar("_Head")
_Answer = TypeVar("_Answer")
_Ask = Callable[[_Head, bytes, Callable[[_Answer | None], object]], "_Answer | _core.Pending"]


async def answered(ask: _Ask[_Head, _Answer], head: _Head, body: bytes) -> _Answer:
    """Returns the answer of one of the core's functions. Raises ``StatusError`` once the server has stopped.

    The request is given up if the task is cancelled.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[_Answer | None] = loop.create_future()
    try:
        answer = ask(head, body, partial(_bring, loop, waiting))
    except CoreError as error:
        raise status_error(error.code, error.message) from None
    if isinstance(answer, tuple):
        return answer
    try:
        brought = await waiting
    except BaseException:
        answer.cancel()  # type: ignore[union-attr]  # no tuple, so it is pending
        raise
    if brought is None:
        raise UnavailableError("UNAVAILABLE", "The request was given up: the server is stopping")
    return brought


def _bring(
    loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[_Answer | None], answer: _Answer | None
) -> None:
    """Brings an answer to the loop's thread; nobody waits in a loop that is closed."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(_set, waiting, answer)


def _set(waiting: asyncio.Future[_Answer | None], answer: _Answer | None) -> None:
    if not waiting.done():
        waiting.set_result(answer)
