"""The console of a server: its files go to the core, its questions to what knows the answers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from servable.admin.changes import Changes
from servable.admin.http import Answer, Routes
from servable.admin.interfaces import Core
from servable.admin.operations import Management
from servable.config.values import ServerConfig
from servable.errors import StatusError
from servable.lifecycle.inventory import Inventory
from servable.lifecycle.manager import Manager


@dataclass(frozen=True)
class Parts:
    """The parts of a server that its console tells of."""

    core: Core
    manager: Manager
    inventory: Inventory
    management: Management
    changes: Changes
    addresses: Callable[[], Mapping[str, str]]
    admin_address: Callable[[], str | None]


def bring_console(config: ServerConfig, parts: Parts) -> Answer:
    """Brings the console along where it is wanted. Returns what answers at the administration's address."""
    operations = Routes(parts.management, parts.changes).answer
    if config.core.console == "nowhere":
        return operations
    from servable.console.about import About
    from servable.console.api import Api
    from servable.console.built import files
    from servable.console.listing import Listing

    about = About(config, parts.addresses, parts.admin_address)
    listing = Listing(parts.core, parts.manager, parts.inventory, parts.management)
    api = Api(about, listing, parts.changes)
    parts.core.bring_console(files(), _weakly(api.answer))
    return api.beside(operations)


def _weakly(answer: Answer) -> Answer:
    """Returns the method without holding its object: the core must not hold what holds the core."""
    known = weakref.WeakMethod(answer)

    def answered(method: str, path: str, query: str, body: bytes) -> tuple[str, bytes]:
        bound = known()
        if bound is None:
            raise StatusError("UNAVAILABLE", "The server is stopping")
        return bound(method, path, query, body)

    return answered
