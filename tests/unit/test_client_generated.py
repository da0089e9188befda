"""``Client`` and ``AsyncClient``: one is generated from the other, and both have the same interface."""

from __future__ import annotations

import inspect
import runpy
from typing import Any

import pytest
from conftest import ROOT

from servable import AsyncClient, Client

METHODS = ("predict", "classify", "regress", "multi_inference", "status", "metadata", "reload")


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    """The names defined by the script that makes ``sync_client.py``."""
    pytest.importorskip("ruff")
    return runpy.run_path(str(ROOT / "scripts" / "make_sync_client.py"))


def test_the_client_is_made_from_the_one_with_await(maker: dict[str, Any]) -> None:
    assert maker["sync_client"](maker["ASYNC"].read_text()) == maker["SYNC"].read_text(), "make client"


@pytest.mark.parametrize(
    "left",
    [
        "AsyncLock()",
        "asyncio.Lock()",
        '"""An async call."""',
        '"""See\n\nAsyncClient.\n"""',
        "'await it'",
        "f'{METHODS} await it'",
        "# Pauses by asyncio.sleep.",
        "pass  # to await",
    ],
)
def test_what_has_no_counterpart_is_refused(maker: dict[str, Any], left: str) -> None:
    with pytest.raises(ValueError, match="is left"):
        maker["sync_client"](f"{maker['ASYNC'].read_text()}\n\n{left}\n")


def test_only_code_is_replaced(maker: dict[str, Any]) -> None:
    added = """

async def ask(one: AsyncClient, é: str) -> AsyncClient:
    async with one as other, one:
        await (await other.ask("é", é))  # é
    await asyncio.sleep(1), await other.close()
    return [each async for each in other]
"""
    expected = """

def ask(one: Client, é: str) -> Client:
    with one as other, one:
        (other.ask("é", é))  # é
    time.sleep(1), other.close()
    return [each for each in other]
"""
    made = maker["sync_client"](maker["ASYNC"].read_text() + added)
    assert made.removeprefix(maker["SYNC"].read_text()) == expected


def test_a_text_that_has_changed_is_refused(maker: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not say"):
        maker["sync_client"](
            maker["ASYNC"].read_text().replace("import asyncio\n", "import asyncio as loop\n")
        )


@pytest.mark.parametrize("method", METHODS)
def test_both_show_the_same(method: str) -> None:
    """Arguments, result and docstring are the same; only one of the two is awaited."""
    plain, awaited = getattr(Client, method), getattr(AsyncClient, method)
    assert inspect.signature(plain) == inspect.signature(awaited)
    assert plain.__doc__ and plain.__doc__ == awaited.__doc__
    assert (inspect.iscoroutinefunction(plain), inspect.iscoroutinefunction(awaited)) == (False, True)


def test_no_method_is_missing_above() -> None:
    own = {"close", "with_limits"}
    for client in (Client, AsyncClient):
        assert {name for name in vars(client) if not name.startswith("_")} == {*METHODS, *own}
