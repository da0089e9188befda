"""Looks at stores and folders for models, in threads: a store that is silent holds up no other one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from servable.config.model_paths import is_remote
from servable.errors import NotFoundError, UnavailableError

LOOKS = 4
"""Most looks at one store at once; folders of this node count as one."""
LOOK_SECONDS = 10.0
"""Longest wait for an answer of a store, if nothing else is said."""
SILENT_SECONDS = 5.0
"""Seconds for which a store that did not answer is not asked again."""


class _Store:
    """One store. Its threads may be in a look long after whoever wanted it has given up."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(LOOKS, thread_name_prefix="servable-find")
        self.answered_at = float("-inf")
        self.silent_until = float("-inf")


class Looks:
    """Has each store looked at by threads of its own. For one event loop.

    longest: longest wait for a look, in seconds; None: ``LOOK_SECONDS``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, longest: float | None = None) -> None:
        self._clock = clock
        self._given = longest
        self._stores: dict[str, _Store] = {}

    async def look(self, path: str, call: Callable[[], None]) -> None:
        """Waits for a call that asks the store of a path, as the configuration has it; raises what it raises.

        Raises ``UnavailableError`` after the longest wait, and at once for a while after that.
        """
        name = store_of(path)
        store = self._stores.setdefault(name, _Store())
        if self._clock() < store.silent_until:
            raise self._silence(name)

        def begin() -> None:
            try:
                call()
            except NotFoundError:
                store.answered_at = self._clock()
                raise
            store.answered_at = self._clock()

        work = asyncio.get_running_loop().run_in_executor(store.threads, begin)
        try:
            await asyncio.wait([work], timeout=self._longest())
            if work.done():
                return work.result()
        finally:
            # One that has not begun never does.
            work.cancel()
        # One that answers others has more to do than it can. Folders may be of many disks.
        if name and self._clock() - store.answered_at >= self._longest():
            store.silent_until = self._clock() + SILENT_SECONDS
        raise self._silence(name)

    def _longest(self) -> float:
        return LOOK_SECONDS if self._given is None else self._given

    def _silence(self, name: str) -> UnavailableError:
        who = name or "the folder of models"
        return UnavailableError("UNAVAILABLE", f"{who} does not answer: it was given {self._longest():g} s")

    def keep(self, paths: Iterable[str]) -> None:
        """Lets go of the stores of all other paths."""
        kept = {store_of(path) for path in paths}
        for name in self._stores.keys() - kept:
            self._stores.pop(name).threads.shutdown(wait=False)


def store_of(path: str) -> str:
    """Returns scheme and host or bucket of a URI, without a password; "" for a folder of this node."""
    if not is_remote(path):
        return ""
    scheme, _, rest = path.partition("://")
    try:
        place = urlsplit(path).netloc
    except ValueError:
        place = rest.partition("/")[0]
    return f"{scheme}://{place.rpartition('@')[2]}"
