"""Walks a protobuf message in a file without reading it whole: keys and lengths, by way of bounded reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from servable.savedmodel.artifacts.look import Look

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 64
"""Fields of a message that are looked at, unless more are asked for."""
LONGEST_TEXT = 4096


class CutError(ValueError):
    """The message goes on beyond the end of the file."""


@dataclass(frozen=True)
class Field:
    """One field. value: of a varint. start and length: where the content of ``BYTES`` lies in the file."""

    number: int
    kind: int
    value: int = 0
    start: int = 0
    length: int = 0


def fields(look: Look, start: int = 0, end: int | None = None, most: int = MOST_FIELDS) -> Iterator[Field]:
    """Yields up to ``most`` fields of the message between two positions.

    Raises ``ValueError`` for what is no message, and ``CutError`` where one goes on beyond its end.
    """
    at, end = start, look.size if end is None else end
    for _ in range(most):
        if at >= end:
            return
        # A key and what follows it have ten bytes each at most.
        head = look.read(at, min(20, end - at))
        key, used = _varint(head, 0)
        number, kind = key >> 3, key & 7
        if not 1 <= number < 1 << 29:
            raise ValueError("no number of a field")
        if kind == VARINT:
            value, used = _varint(head, used)
            yield Field(number, kind, value)
            at += used
        elif kind == BYTES:
            length, used = _varint(head, used)
            at += used
            if at + length > end:
                yield Field(number, kind, 0, at, end - at)
                raise CutError
            yield Field(number, kind, 0, at, length)
            at += length
        elif kind in (FIXED64, FIXED32):
            at += used + (8 if kind == FIXED64 else 4)
            yield Field(number, kind)
        else:
            raise ValueError("no kind of a field")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns a number, and the position after it."""
    found = 0
    for index, byte in enumerate(data[at : at + 10]):
        found |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return found, at + index + 1
    if len(data) - at < 10:
        raise CutError
    raise ValueError("a number without an end")


def text(look: Look, field: Field) -> str:
    """Returns the beginning of a field's text."""
    return look.read(field.start, min(field.length, LONGEST_TEXT)).decode("utf-8", "replace")


@dataclass(frozen=True)
class Outline:
    """The first fields of a message. cut: it goes on beyond the end of the file."""

    fields: tuple[Field, ...]
    cut: bool

    def first(self, number: int, kind: int) -> Field | None:
        """Returns the first field of this number and kind."""
        return next((one for one in self.fields if (one.number, one.kind) == (number, kind)), None)


def outline(look: Look, start: int = 0, end: int | None = None) -> Outline | None:
    """Returns the first fields of a message; None for what is none."""
    found: list[Field] = []
    cut = False
    try:
        for one in fields(look, start, end):
            found.append(one)
    except CutError:
        cut = True
    except ValueError:
        return None
    return Outline(tuple(found), cut)
