"""Shared by the unit tests: calls with both clients, and messages without a built core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT

from servable import AsyncClient, Client, messages

Ask = Callable[..., Any]


def _ask(address: str, method: str, *arguments: Any, **options: Any) -> Any:
    with Client(address, **options) as client:
        return getattr(client, method)(*arguments)


def _ask_async(address: str, method: str, *arguments: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(address, **options) as client:
            return await getattr(client, method)(*arguments)

    return asyncio.run(run())


@pytest.fixture(params=[_ask, _ask_async], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """``ask(address, method, *arguments, **options)``: one call of a method with a client of its own."""
    asked: Ask = request.param
    return asked


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages embedded in the core, read from the source tree: no built core is needed."""
    content = (ROOT / "src" / "pb" / "descriptors.bin").read_bytes()
    monkeypatch.setattr(messages, "descriptors", lambda: content)
    messages.pool.cache_clear()
    messages.message_class.cache_clear()
