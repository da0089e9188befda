"""Loads the models of a replica when they are asked for, and unloads those that were not for longest.

Ray counts the models and tells its routers which replica has which; the server of the replica has them. Ray
makes room before it knows what comes of a load: so it is asked only for what is there, and not at once again
for what has failed. One load or change of the server is under way at a time; what a store has is fetched
before, beside other loads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from servable.config.model_paths import is_remote
from servable.errors import NotFoundError, StatusError, UnavailableError
from servable.lifecycle.on_demand import pause_after
from servable.ray.failures import Failures
from servable.ray.finding import find, is_cached
from servable.ray.looks import Looks
from servable.ray.models import PLACE, SAFE_NAME, Model
from servable.sources.ahead import bring_ahead

if TYPE_CHECKING:
    from servable.embedded import Server

UNLOAD_SECONDS = 30.0
"""Seconds that the unloading of a model is waited for before the next is loaded."""
LOAD_SECONDS = 300.0
"""Longest time of a load: no other one begins meanwhile, nor does a change. As long for what is fetched."""
ABSENT_SECONDS = 5.0
"""Seconds for which a model that was not found is not looked for again."""

_log = logging.getLogger("servable.ray")


class Loaded:
    """A model as Ray counts it. Ray deletes it to have it unloaded, in a thread.

    unload: called then, once no request holds it, with itself and the seconds that are left for it.
    """

    def __init__(self, unload: Callable[[Loaded, float], None]) -> None:
        self._unload = unload
        self._holders = 0
        self._changed = threading.Condition()
        self._is_over = False

    def hold(self) -> None:
        """Keeps it from being unloaded, until ``release``."""
        with self._changed:
            self._holders += 1

    def release(self) -> None:
        """Ends one ``hold``."""
        with self._changed:
            self._holders -= 1
            self._changed.notify_all()

    def __del__(self) -> None:
        # Python calls it a second time, when a model of this name may be loaded again.
        if self._is_over:
            return
        self._is_over = True
        until = time.monotonic() + UNLOAD_SECONDS
        with self._changed:
            self._changed.wait_for(lambda: self._holders == 0, UNLOAD_SECONDS)
        self._unload(self, max(0.0, until - time.monotonic()))


class Multiplexer:
    """Has a model loaded before its request is answered. For one event loop.

    models: where they are, by name; or where any is, by ``PLACE`` as the only name. most: as many as are
    loaded at once. cache: the node's folder of what was fetched.
    """

    def __init__(self, server: Server, models: Mapping[str, Model], most: int, cache: str) -> None:
        from ray import serve

        async def load(name: str) -> Loaded:
            loaded = Loaded(partial(self._unload, name))
            await to_its_end(partial(self._load, name, loaded))
            return loaded

        self._server = server
        self._models = dict(models)
        self._cache = cache
        self._loaded = serve.multiplexed(load, max_num_models_per_replica=most)
        # What the server serves, and by which of Ray's objects. Changed by whoever has the lock, in a thread.
        self._here: dict[str, Loaded] = {}
        self._changing = threading.Lock()
        self._turn = asyncio.Lock()
        self._absent = Failures(lambda _: ABSENT_SECONDS)
        self._broken = Failures(pause_after)
        self._looks = Looks()
        self._fetches = Looks(longest=LOAD_SECONDS)
        self._fetching: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Is entered once a model is loaded that is there, which is not unloaded before it is left.

        Of what is not there the server has to say so: the reason has paths, which are no business of clients.
        Raises the ``UnavailableError`` of a model that cannot be loaded.
        """
        loaded = None
        if self._place(name) is not None:
            with suppress(NotFoundError):
                loaded = await self._ready(name)
        try:
            yield
        finally:
            if loaded is not None:
                loaded.release()

    async def change(self, models: Mapping[str, Model]) -> None:
        """Takes over other places; what is loaded follows them. Raises ``StatusError``."""
        await asyncio.to_thread(self._change, dict(models))
        for looks in (self._looks, self._fetches):
            looks.keep(model.path for model in self._models.values())

    async def _ready(self, name: str) -> Loaded:
        """Returns a model that is loaded, and held."""
        loaded = await self._of_ray(name)
        # At once: Ray cannot choose it to be unloaded before the event loop has another turn.
        loaded.hold()
        try:
            if self._here.get(name) is not loaded:
                # Ray has it still, from a time before a change that left it out.
                await to_its_end(partial(self._load, name, loaded))
        except BaseException:
            loaded.release()
            raise
        return loaded

    async def _of_ray(self, name: str) -> Loaded:
        """Has Ray choose one to be unloaded and load this one, if it is not loaded."""
        if name not in self._here:
            self._broken.check(name)
            self._absent.check(name)
            if await self._find(name):
                await self._fetch(name)
            async with self._turn:
                # Of those who ask for it at the same time, one has it tried.
                self._broken.check(name)
                found: Loaded = await self._loaded(name)
                return found
        found = await self._loaded(name)
        return found

    async def _find(self, name: str) -> bool:
        """Raises the ``StatusError`` of a model that is not there.

        Returns False if its store does not answer, and the cache has it: the server then does without it.
        """
        place = self._place(name)
        if place is None:
            return True
        try:
            await self._looks.look(place.path, partial(self._look, place, name))
        except UnavailableError:
            if not is_remote(place.path) or not await asyncio.to_thread(self._is_cached, place, name):
                raise
            return False
        return True

    async def _fetch(self, name: str) -> None:
        """Has what a store has of a model be on this node; whoever asks for the same waits for the same.

        Raises ``UnavailableError`` if that takes too long. What fails otherwise, the load tells of.
        """
        place = self._place(name)
        if place is None or not is_remote(place.path):
            return
        if name not in self._fetching:
            call = partial(self._bring, place, name)
            fetching = asyncio.create_task(self._fetches.look(place.path, call))
            self._fetching[name] = fetching
            fetching.add_done_callback(partial(self._fetched, name))
        fetching = self._fetching[name]
        await asyncio.wait([fetching])
        if (error := fetching.exception()) is not None:
            raise self._failed(name, error) if isinstance(error, StatusError) else error

    def _fetched(self, name: str, fetching: asyncio.Task[None]) -> None:
        del self._fetching[name]
        if not fetching.cancelled():
            # Who waited for it may have left, and then nobody takes it.
            fetching.exception()

    def _place(self, name: str) -> Model | None:
        known = self._models.get(name)
        if known is None and PLACE in self._models and SAFE_NAME.fullmatch(name):
            known = self._models[PLACE]
        return known

    # ---- in threads

    def _look(self, place: Model, name: str) -> None:
        """Raises the ``StatusError`` of a model that is not there, and keeps it."""
        self._absent.check(name)
        try:
            find(place.config(name), self._cache)
        except NotFoundError as error:
            self._absent.add(name, error)
            # Clients may invent names.
            level = logging.WARNING if name in self._models else logging.INFO
            _log.log(level, "model %s is not there: %s", name, error.message)
            raise
        except UnavailableError as error:
            self._absent.add(name, error)
            raise
        except StatusError as error:
            raise self._failed(name, error) from None

    def _bring(self, place: Model, name: str) -> None:
        try:
            bring_ahead(place.config(name), self._cache)
        except Exception as error:  # stores raise what they like
            _log.info("model %s was not fetched before its load: %s", name, error)

    def _is_cached(self, place: Model, name: str) -> bool:
        return is_cached(place.config(name), self._cache)

    def _load(self, name: str, loaded: Loaded) -> None:
        with self._changing:
            place = self._place(name)
            if place is None:
                return
            if name not in self._here:
                try:
                    self._server.load(place.config(name), timeout=LOAD_SECONDS)
                except StatusError as error:
                    raise self._failed(name, error) from None
            self._here[name] = loaded
            self._broken.forget(name)

    def _failed(self, name: str, error: StatusError) -> StatusError:
        """Keeps and returns the error of a load: whose request it was is not at fault."""
        kept = UnavailableError(
            "UNAVAILABLE", f"Model {name} could not be loaded: {error.message}", error.hint
        )
        self._broken.add(name, kept)
        return kept

    def _unload(self, name: str, loaded: Loaded, seconds: float) -> None:
        # Without the lock first: Python may delete what was never loaded in any thread.
        if self._here.get(name) is not loaded or not self._server.is_running:
            return
        with self._changing:
            if self._here.get(name) is loaded:
                del self._here[name]
                self._server.unload(name, seconds)

    def _change(self, models: dict[str, Model]) -> None:
        with self._changing:
            self._models = models
            self._absent.clear()
            self._broken.clear()
            places = {name: self._place(name) for name in self._here}
            configs = {name: place.config(name) for name, place in places.items() if place is not None}
            self._server.apply(configs or ())
            for name in places.keys() - configs.keys():
                del self._here[name]


async def to_its_end(call: Callable[[], None]) -> None:
    """Waits for a call in a thread, also if the task is cancelled: that goes on where it waits next.

    So whoever awaits it learns what became of it, which would go on without him.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call))
    is_cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            is_cancelled = True
    task = asyncio.current_task()
    if is_cancelled and task is not None:
        if hasattr(task, "uncancel"):
            # Python 3.11 counts these, and this one counts once.
            task.uncancel()
        task.cancel()
    work.result()
