"""What the flags say of models that are loaded on demand, and of the memory that models may take."""

from __future__ import annotations

from servable.config.arguments import Arguments, check_text
from servable.errors import UsageError
from servable.sizes import parse_size

LEAST = 1 << 20
"""Smallest budget, in bytes: nothing fits a smaller one."""


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
    if not arguments.boolean("lazy_load"):
        raise UsageError("--memory_budget needs --lazy_load: what it unloads is loaded again on demand")
    return budget


def pinned_models(arguments: Arguments) -> tuple[str, ...]:
    """Returns the names of models that stay in memory."""
    texts = arguments.texts("pinned_models")
    check_text(texts)
    return tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
