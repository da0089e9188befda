"""How an embedded server looks: as one line, and as a notebook's table. Whatever is named may be hostile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

LONGEST = 200
"""Most characters of a name or text that are shown."""
MOST_MODELS = 100
_CELL = ' style="text-align:left;vertical-align:top"'


class VersionStatus(NamedTuple):
    """A version of a model: its state, and with which error it is in it, or OK and ""."""

    version: int
    state: str
    code: str = "OK"
    message: str = ""


Models = Mapping[str, Sequence[VersionStatus]]


def line(models: Models, addresses: Mapping[str, str]) -> str:
    """Returns one line: models with the states of their versions, and addresses."""
    shown = [
        f"{_cut(name)} ({', '.join(f'{one.version} {one.state}' for one in versions)})"
        for name, versions in list(models.items())[:4]
    ]
    more = [f"{len(models) - 4} more"] if len(models) > 4 else []
    at = [f"{kind} at {address}" for kind, address in addresses.items()]
    return f"<servable.Server of {', '.join([*shown, *more]) or 'no model'}; {', '.join(at) or 'no ports'}>"


def table(models: Models, addresses: Mapping[str, str]) -> str:
    """Returns HTML: the addresses, and a table of models, versions and states."""
    where = ", ".join(
        f"{escape(kind)}: <code>{escape(address)}</code>" for kind, address in addresses.items()
    )
    head = "".join(f"<th{_CELL}>{title}</th>" for title in ("Model", "Version", "State"))
    rows = "".join(_rows(models))
    return (
        f"<div><b>servable.Server</b> {where or 'without ports'}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _rows(models: Models) -> Iterator[str]:
    for name, versions in list(models.items())[:MOST_MODELS]:
        for one in versions:
            state = one.state if one.code == "OK" else f"{one.state}: {one.code}: {one.message}"
            yield _row(name, str(one.version), state)
    if len(models) > MOST_MODELS:
        yield _row(f"and {len(models) - MOST_MODELS} more models", "", "")


def _row(*texts: str) -> str:
    # Isolated: a text that turns the direction of writing turns its own alone.
    cells = (f"<td{_CELL}><bdi>{escape(_cut(text))}</bdi></td>" for text in texts)
    return f"<tr>{''.join(cells)}</tr>"


def _cut(text: str) -> str:
    """Returns a text of printable characters that is not too long."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
