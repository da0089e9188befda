"""Text from models and servers on a terminal: what it would obey is shown instead."""

from __future__ import annotations


def printable(text: str) -> str:
    """Returns ``text`` with escapes in place of characters that are not shown; ends of lines stay."""
    if text.isprintable():
        return text
    return "".join(
        one if one == "\n" or one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
