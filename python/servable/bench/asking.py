"""One request at a time, before the load: for metadata, and to see whether requests are answered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from servable import _core
from servable.bench.plan import CoreTarget, Request
from servable.bench.target import Target
from servable.errors import CODES, ServableError


@dataclass(frozen=True)
class Failure:
    """A failure of one kind, as the core tells it.

    kind: ``status``, ``code``, ``connect``, ``timeout``, ``lost``, ``malformed`` or ``unsent``. number: the
    status or code, or 0. count: how often; text: what was said first.
    """

    kind: str
    number: int
    count: int
    text: str

    @property
    def shown(self) -> str:
        """The kind in words."""
        if self.kind == "code":
            known = 0 <= self.number < len(CODES)
            return CODES[self.number] if known else f"gRPC code {self.number}"
        words = {
            "status": f"HTTP {self.number}",
            "connect": "no connection",
            "lost": "connection lost",
            "malformed": "no valid answer",
            "unsent": "not sent",
        }
        return words.get(self.kind, self.kind)


class NotAnsweredError(ServableError):
    """A request was not answered, or with an error."""

    def __init__(self, failure: Failure, where: str) -> None:
        said = f": {failure.text}" if failure.text else ""
        super().__init__(f"{where}: {failure.shown}{said}")
        self.failure = failure


@dataclass(frozen=True)
class Server:
    """A server with the way to reach it. headers go with every request; timeout in seconds."""

    target: Target
    core: CoreTarget
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = 30.0

    def ask(self, path: str, body: bytes | None = None, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
        """Returns the body or message of the answer. Raises ``NotAnsweredError``."""
        return self.send(self.headed(Request(path, headers, body)))

    def headed(self, request: Request) -> Request:
        """Returns the request with the headers that go with every one, instead of its own of their names."""
        named = {name.lower() for name, _ in self.headers}
        own = (one for one in request.headers if one[0].lower() not in named)
        return replace(request, headers=(*own, *self.headers))

    def send(self, request: Request) -> bytes:
        """Does the same for a request that is complete."""
        answer, failed = _core.bench_ask(self.core, request, self.timeout)
        if failed is not None:
            kind, number, text = failed
            raise NotAnsweredError(Failure(kind, number, 1, text), f"{self.target.shown}{request.path}")
        return answer
