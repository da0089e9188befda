"""What the console tells of the server as a whole: its version, addresses and engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from servable.config.values import ServerConfig
from servable.engines.libraries import PACKAGES, Libraries, versions

_TENSORFLOW = ("tensorflow-cpu", "tensorflow", "tensorflow-intel", "tf-nightly-cpu", "tf-nightly")
"""Names of the packages that bring TensorFlow's library."""


@dataclass
class About:
    """A server as its console tells of it.

    addresses: those of the ports that are open, as the core names them. admin_address: of the administration,
    None if it is off.
    """

    config: ServerConfig
    addresses: Callable[[], Mapping[str, str]]
    admin_address: Callable[[], str | None]
    started: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)
    """The same moment as ``started``, by a clock that does not jump."""

    @property
    def scheme(self) -> str:
        """That of the REST port and of the administration."""
        return "https" if self.config.core.tls_files else "http"

    def port(self, name: str) -> str | None:
        """Returns where clients find the port ``rest`` or ``grpc``; None if it is not open.

        That of REST is a URL if it has TLS.
        """
        address = self.addresses().get(name)
        if address is None:
            return None
        begins = "https://" if name == "rest" and self.scheme == "https" else ""
        return begins + _reachable(address)

    def administration(self) -> str | None:
        """Returns the URL of the administration; None if it is off."""
        address = self.admin_address()
        return None if address is None else f"{self.scheme}://{_reachable(address)}"

    def needs_token(self, manage: bool) -> bool:
        """Returns whether requests need a token; manage: those to the administration."""
        own = self.config.admin is not None and bool(self.config.admin.token)
        return self.config.core.auth_file is not None or (manage and own)

    @cached_property
    def engines(self) -> dict[str, str]:
        """The version of each engine that was found, by its name; read from packages, opening no library."""
        found = self.config.core.libraries
        titles = {package.title: package.engine for package in PACKAGES}
        others = versions(Libraries(found={**found}))
        tensorflow = _tensorflow(found["tensorflow"]) if "tensorflow" in found else ""
        own = {"tensorflow": tensorflow} if tensorflow else {}
        return own | {titles[title]: version for title, version in others.items()}


def _reachable(address: str) -> str:
    """Returns ``address``; of every interface, that of this machine itself."""
    host, _, port = address.rpartition(":")
    return f"localhost:{port}" if host in ("[::]", "0.0.0.0") else address


def _tensorflow(library: str) -> str:
    """Returns the version of the package with ``library``; its path if it is in none."""
    from importlib.metadata import distributions

    folder, inside, _ = library.rpartition("/tensorflow/")
    for name in _TENSORFLOW if inside else ():
        for one in distributions(name=name, path=[folder]):
            return one.version
    return library
