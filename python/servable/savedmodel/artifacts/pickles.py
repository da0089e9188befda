"""What a pickle would call if it were loaded: names of classes and functions. It never is."""

from __future__ import annotations

import pickletools
import re
from contextlib import suppress

MOST_OPCODES = 20_000
MOST_BYTES = 1 << 20
MOST_NAME = 500
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")
_PUTS = ("BINPUT", "LONG_BINPUT", "PUT")
_GETS = ("BINGET", "LONG_BINGET", "GET")


def is_pickle(head: bytes) -> bool:
    """True for the beginning of a pickle of protocol 2 or later."""
    return len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def named(data: bytes) -> tuple[str, ...]:
    """Returns ``module.name`` of what the pickle names, in order, each once.

    Ends without an error where the pickle is damaged, cut, or has other bytes in it, as those of joblib have.
    """
    found: dict[str, None] = {}
    texts: list[str] = []
    kept: dict[int, str | None] = {}
    last: str | None = None
    with suppress(Exception):  # of all kinds, for a pickle that is none
        for number, (code, argument, _) in enumerate(pickletools.genops(data[:MOST_BYTES])):
            if number >= MOST_OPCODES:
                break
            if code.name in ("GLOBAL", "STACK_GLOBAL"):
                module, _, name = str(argument).partition(" ")
                if code.name == "STACK_GLOBAL" and len(texts) > 1:
                    module, name = texts[-2:]
                is_short = len(module) + len(name) <= MOST_NAME
                if is_short and _MODULE.fullmatch(module) and _MODULE.fullmatch(name):
                    found[f"{module}.{name}"] = None
                last = None
            elif code.name == "MEMOIZE":
                kept[len(kept)] = last
            elif code.name in _PUTS:
                kept[int(str(argument))] = last
            else:
                last = str(argument) if code.name in _TEXTS else None
                if code.name in _GETS:
                    last = kept.get(int(str(argument)))
                if last is not None:
                    texts = [*texts[-1:], last]
    return tuple(found)
