"""Clients that ask without a pause and ask again what failed: every attempt is counted, with its time.

A request is *answered* at its first attempt, *retried* if a later one was answered, *failed* if none was. An
answer that is not the expected one is a failure, too, which nothing excuses.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc

TRIES = 40
PAUSE_SECONDS = 0.25
"""Between two attempts: ten seconds for one request, all in all."""
AVOIDED_SECONDS = 10.0
"""How long a client asks others than an address that has failed, as balancers do."""
PATIENCE_SECONDS = 20.0
"""Longest wait for one attempt."""


class FailedError(Exception):
    """An attempt that was not answered, or wrongly; says how."""


class WrongError(FailedError):
    """An attempt that was answered wrongly."""


@dataclass
class Attempt:
    """An attempt that failed: when it began and ended (``time.monotonic``), why, and if by a wrong answer."""

    began: float
    ended: float
    why: str
    is_wrong: bool = False


@dataclass
class Tally:
    """What became of all requests. latencies: seconds of those answered at the first attempt."""

    answered: int = 0
    retried: int = 0
    failed: list[Attempt] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def reasons(self) -> dict[str, int]:
        """Returns how often attempts failed for which reason."""
        found: dict[str, int] = {}
        for one in self.attempts:
            found[one.why] = found.get(one.why, 0) + 1
        return found

    def late(self, events: Sequence[float], seconds: float) -> list[Attempt]:
        """Returns the attempts that failed and did not begin around an event: before it, or so soon after it.

        An attempt that was under way at the event counts as around it. One that was answered wrongly never
        does.
        """
        return [
            one
            for one in self.attempts
            if one.is_wrong or not any(one.began <= at + seconds and one.ended >= at for at in events)
        ]


Ask = Callable[[], None]
"""Makes one attempt; raises ``FailedError``."""


class SteadyLoad:
    """The clients, as a context: each has what ``make_ask`` returns for itself."""

    def __init__(self, make_asks: Sequence[Callable[[], Ask]]) -> None:
        self.tally = Tally()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(make_ask,), daemon=True) for make_ask in make_asks
        ]

    def __enter__(self) -> SteadyLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> Tally:
        """Ends the clients once their requests are answered; returns the tally."""
        self._over.set()
        for thread in self._threads:
            thread.join(TRIES * (PAUSE_SECONDS + PATIENCE_SECONDS))
            if thread.is_alive():
                self._end_of_client(time.monotonic(), "does not end")
        return self.tally

    def more(self, count: int, seconds: float = 60.0) -> bool:
        """Waits until so many more requests are answered; False if that takes longer."""
        wanted, until = self._done() + count, time.monotonic() + seconds
        while self._done() < wanted and time.monotonic() < until:
            time.sleep(0.02)
        return self._done() >= wanted

    def _done(self) -> int:
        return self.tally.answered + self.tally.retried

    def _run(self, make_ask: Callable[[], Ask]) -> None:
        began = time.monotonic()
        try:
            ask = make_ask()
            while not self._over.is_set():
                began = time.monotonic()
                self._one(ask)
        except Exception as error:
            # Otherwise nobody would miss it, as the others go on.
            self._end_of_client(began, repr(error))
            raise

    def _end_of_client(self, began: float, why: str) -> None:
        with self._lock:
            self.tally.failed.append(Attempt(began, time.monotonic(), f"a client: {why}"))

    def _one(self, ask: Ask) -> None:
        for number in range(TRIES):
            began = time.monotonic()
            try:
                ask()
            except FailedError as why:
                attempt = Attempt(began, time.monotonic(), str(why), isinstance(why, WrongError))
                with self._lock:
                    self.tally.attempts.append(attempt)
                time.sleep(PAUSE_SECONDS)
                continue
            with self._lock:
                if number:
                    self.tally.retried += 1
                else:
                    self.tally.answered += 1
                    self.tally.latencies.append(time.monotonic() - began)
            return
        with self._lock:
            self.tally.failed.append(attempt)


class Choice:
    """Chooses among addresses; one that has failed is left out for a while, if there is another."""

    def __init__(self, addresses: Callable[[], Sequence[str]]) -> None:
        self._addresses = addresses
        self._failed: dict[str, float] = {}
        self.chosen = ""

    def choose(self) -> str:
        """Returns an address. Raises ``FailedError`` if there is none."""
        now = time.monotonic()
        known = list(self._addresses())
        good = [one for one in known if self._failed.get(one, 0.0) <= now]
        if not known:
            raise FailedError("no address")
        self.chosen = random.choice(good or known)
        return self.chosen

    def fails(self) -> None:
        """Notes that the one that was chosen last has failed."""
        self._failed[self.chosen] = time.monotonic() + AVOIDED_SECONDS


@dataclass
class Rest:
    """Makes clients of REST. addresses: returns ``host:port`` of those that may be asked, now."""

    addresses: Callable[[], Sequence[str]]
    path: str
    body: bytes
    expected: Sequence[bytes]
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> Ask:
        """Returns a client with a connection of its own."""
        choice = Choice(self.addresses)
        open_ones: list[http.client.HTTPConnection] = []

        def ask() -> None:
            if not open_ones:
                open_ones.append(http.client.HTTPConnection(choice.choose(), timeout=PATIENCE_SECONDS))
            try:
                open_ones[0].request("POST", self.path, self.body, self.headers)
                reply = open_ones[0].getresponse()
                content = reply.read()
                problem = "" if reply.status == 200 else f"HTTP {reply.status}: {content[:80]!r}"
            except (OSError, http.client.HTTPException) as error:
                problem = f"HTTP: {type(error).__name__}"
            if problem:
                open_ones.pop().close()
                choice.fails()
                raise FailedError(problem)
            if content not in self.expected:
                raise WrongError(f"HTTP: another answer than expected: {content[:80]!r}")

        return ask


@dataclass
class Grpc:
    """The same for gRPC; ``message`` and ``expected`` are serialized."""

    addresses: Callable[[], Sequence[str]]
    method: str
    message: bytes
    is_expected: Callable[[bytes], bool]
    metadata: tuple[tuple[str, str], ...] = ()

    def __call__(self) -> Ask:
        """Returns a client with a channel of its own."""
        choice = Choice(self.addresses)
        channels: list[grpc.Channel] = []

        def ask() -> None:
            if not channels:
                options = [("grpc.use_local_subchannel_pool", 1)]
                channels.append(grpc.insecure_channel(choice.choose(), options))
            try:
                call = channels[0].unary_unary(self.method)
                content = call(self.message, timeout=PATIENCE_SECONDS, metadata=self.metadata)
            except grpc.RpcError as error:
                channels.pop().close()
                choice.fails()
                raise FailedError(f"gRPC: {error.code().name}") from None
            if not self.is_expected(content):
                raise WrongError(f"gRPC: another answer than expected: {content[:80]!r}")

        return ask
