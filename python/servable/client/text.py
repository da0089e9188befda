"""Checks text before it is sent: refuses anything that UTF-8 and headers cannot carry."""

from __future__ import annotations

import re
from collections.abc import Mapping

from servable.errors import InvalidArgumentError, invalid_argument

_HEADER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")


def check_text(what: str, text: str) -> None:
    """Raises ``InvalidArgumentError`` for what is no text, or holds half a character."""
    if not isinstance(text, str):
        raise invalid_argument(f"{what} is no text, but of type {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise half_character(what, error) from None


def half_character(what: str, error: UnicodeEncodeError) -> InvalidArgumentError:
    """Makes the error for a lone surrogate in text."""
    half = error.object[error.start]
    return invalid_argument(f"{what} holds {half!r}, half a character, which UTF-8 cannot carry")


def check_headers(headers: Mapping[str, object]) -> None:
    """Refuses headers that HTTP or gRPC cannot send; bytes, which gRPC has for names in ``-bin``, may be any.

    Raises ``InvalidArgumentError``, which never shows a value: it may be a secret.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise invalid_argument(
                f"a header is called {name!r}; expected ASCII letters, digits, '-', '_' and '.'"
            )
        if isinstance(value, bytes):
            continue
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise invalid_argument(
                f"the value of the header {name!r} is no printable ASCII text",
                "encode it, as base64 or with percent signs",
            )


def shown(number: int) -> str:
    """Returns an integer's digits; or its length, as Python writes no more than 4300 of them."""
    bits = int(number).bit_length()
    return str(number) if bits <= 256 else f"an integer of {bits} bits"
