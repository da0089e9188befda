"""The compiled core. Every method releases the GIL and may be called from any thread.

Import it first on a thread that lives as long as the process (the main one).
"""

from collections.abc import Callable
from typing import Final, final

__all__ = [
    "STATES",
    "Administration",
    "CoreError",
    "LoadReport",
    "Server",
    "descriptors",
    "init_logging",
    "preload",
    "version",
]

STATES: Final[tuple[str, ...]]
"""The states of a version, in the order of its life."""

class CoreError(Exception):
    """A failure with a canonical code; ``args`` is ``(code, message)``."""

    code: str
    message: str

@final
class LoadReport:
    """What is known of a version once it is loaded.

    signatures: (name, inputs, outputs), each input or output (alias, lower-case dtype, shape text such as
    ``[-1,224,224,3]`` or ``unknown``). placement: ``caller`` or ``pool``, where runs happen.
    """

    @property
    def seconds(self) -> float: ...
    @property
    def signatures(self) -> list[tuple[str, list[tuple[str, str, str]], list[tuple[str, str, str]]]]: ...
    @property
    def placement(self) -> str: ...

@final
class Administration:
    """An administration that listens, until it is closed."""

    @property
    def address(self) -> str:
        """``host:port``."""
    def close(self) -> bool:
        """Stops listening, within a second; requests being answered go on. Whether there are none."""

@final
class Server:
    """The data plane: registry, engine, ports.

    ``options``: see ``config.CoreOptions``. ``on_reload(config, seconds)`` applies a serialized
    ModelServerConfig for HandleReloadConfigRequest, on a thread that may block; ``seconds``: how long the
    client waits, if it says. An exception's ``code`` and ``message`` become the call's status.
    """

    def __new__(
        cls, options: object, on_reload: Callable[[bytes, float | None], None] | None = None
    ) -> Server: ...
    def start(self) -> dict[str, str]:
        """Opens the ports; ``rest``, ``grpc`` → ``host:port`` and ``grpc_socket`` → path of those opened."""
    def announce(self, name: str, version: int) -> None:
        """The version is known: START."""
    def load(self, name: str, version: int, path: str, options: object) -> LoadReport:
        """LOADING → AVAILABLE. ``options``: see ``config.LoadOptions``.

        Blocks through load, warm-up and publishing.
        On failure raises ``CoreError``, and the version goes to END with it, or stays LOADING if
        ``options.retrying``.
        """
    def retire(self, name: str, version: int) -> None:
        """AVAILABLE → UNLOADING; blocks until no request holds the version."""
    def unload(self, name: str, version: int) -> None:
        """UNLOADING → END; blocks until no request holds the version and its memory is free."""
    def fail(self, name: str, version: int, code: str, message: str) -> None:
        """END with an error, without a load."""
    def forget(self, name: str) -> None:
        """Drops the END entries of a model."""
    def set_labels(self, name: str, labels: dict[str, int]) -> None:
        """Replaces the labels of a model."""
    def states(self) -> list[tuple[str, int, str, str, str]]:
        """(name, version, START | LOADING | AVAILABLE | UNLOADING | END, code, message)."""
    def record(self, name: str, requests: int, every: int, seconds: float) -> list[bytes]:
        """Requests to a model that were answered well, as serialized PredictionLogs, equal ones once.

        Takes one of ``every``. Blocks until there are ``requests``, or ``seconds`` are over, or the server
        stops, or the same model is recorded anew.
        """
    def phase(self, name: str, version: int) -> str:
        """What the load of a version is at, in words; "" when none is under way."""
    def serve_admin(
        self, address: str, options: object, answer: Callable[[str, str, str, bytes], tuple[str, bytes]]
    ) -> Administration:
        """Opens the administration at ``address`` (``IP:PORT``), which also tells health.

        ``options``: see ``config.AdminOptions``. ``answer(method, path, query, body)`` answers with a content
        type and bytes whatever request may administer, on a thread that may block. An exception's ``code``,
        ``message`` and ``hint`` become an error. Raises ``OSError`` where it cannot listen.
        """
    def drain(self) -> None:
        """From now on clients are told to send their next requests elsewhere; all are answered as before."""
    def stop(self, grace_seconds: float) -> bool:
        """Stops accepting, finishes what is in flight or on its way.

        True if all of it ended within ``grace_seconds``.
        """

def preload(path: str, op_libraries: list[str]) -> str:
    """Opens TensorFlow's library and the op libraries; idempotent. Returns TensorFlow's version."""

def init_logging(level: str) -> None:
    """Sends the core's log to stderr from ``level`` (error … trace) on; the first call counts."""

def crc32c(data: bytes) -> int:
    """CRC-32C: 0xe3069283 for b"123456789"."""

def version() -> str:
    """The version of the core."""

def descriptors() -> bytes:
    """The serialized FileDescriptorSet of every message, imports before importers."""
