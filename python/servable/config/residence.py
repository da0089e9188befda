"""What the flags say of models that are loaded on demand, and of the memory that models may take."""

from __future__ import annotations

from collections.abc import Iterable

from servable.config.arguments import Arguments, check_text
from servable.errors import UsageError
from servable.sizes import parse_size, size_text

LEAST = 1 << 20
"""Smallest budget, in bytes: nothing fits a smaller one."""
MOST = 1 << 60
MOST_NAMED = 10
"""Most models that are named where one is not known."""


def memory_budget(arguments: Arguments) -> int:
    """Returns the bytes that all loaded models may take; 0 for no limit. Raises ``UsageError``."""
    text = arguments.text("memory_budget")
    if not text:
        return 0
    try:
        budget = parse_size(text)
    except ValueError as error:
        raise UsageError(f"--memory_budget: {error}") from None
    if budget < LEAST:
        raise UsageError(f"--memory_budget expects at least 1MiB, got {text!r}")
    if budget > MOST:
        raise UsageError(f"--memory_budget expects at most 1024PiB, got {text!r}; leave it out for no limit")
    if not arguments.boolean("lazy_load"):
        raise UsageError("--memory_budget needs --lazy_load: what it unloads is loaded again on demand")
    return budget


def pinned_models(arguments: Arguments) -> tuple[str, ...]:
    """Returns the names of models that stay in memory. Raises ``UsageError``."""
    texts = arguments.texts("pinned_models")
    check_text(texts)
    names = tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
    if names and not arguments.boolean("lazy_load"):
        raise UsageError("--pinned_models needs --lazy_load: without it every model is loaded and stays")
    return names


def too_large(budget: int, machine: int) -> str:
    """Returns what is to be said of a budget above the memory of the machine or container; "" for nothing."""
    if budget <= machine:
        return ""
    return (
        f"--memory_budget is {size_text(budget)}, and this process may have {size_text(machine)} in all: "
        "models would not make room before that is used up; leave some of it for requests and engines, too"
    )


def unknown_pins(pinned: Iterable[str], models: Iterable[str], more_may_come: bool) -> str:
    """Returns what is to be said of pins that no model has; "" for nothing.

    more_may_come: models are added while the server runs.
    """
    known = set(models)
    unknown = sorted(set(pinned) - known)
    if not unknown:
        return ""
    names = ", ".join(sorted(known)[:MOST_NAMED]) + (", …" if len(known) > MOST_NAMED else "")
    later = ": they count once there are such models" if more_may_come else ""
    return (
        f"--pinned_models names {', '.join(unknown)}, which this server does not have{later}; "
        f"its models: {names or 'none'}"
    )
