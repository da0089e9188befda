"""Interprets ``--grpc_channel_arguments``.

These are arguments of gRPC's C core, which TensorFlow Serving is built on: ``name=value``, separated by
commas. Those with a meaning here become ``GrpcLimits``; everything else gets a line in the log, and nothing
is an error, as with TensorFlow Serving.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from servable.config.values import GrpcLimits

_INT32_MAX = 2**31 - 1
_SOFT, _HARD = "grpc.max_metadata_size", "grpc.absolute_max_metadata_size"
_HARD_DEFAULT = 16 * 1024
"""The C core's default; its soft limit can only raise it."""


@dataclass(frozen=True)
class _Argument:
    """An argument that has an effect.

    field: of ``GrpcLimits``. accepted: lower values are ignored, as by the C core. least, most: values
    outside are replaced by the nearer of them. unlimited: a negative value lifts the limit.
    """

    field: str
    accepted: int = 0
    least: int = 0
    most: int = _INT32_MAX
    unlimited: bool = False


_ARGUMENTS = {
    "grpc.max_concurrent_streams": _Argument("max_calls"),
    "grpc.max_receive_message_length": _Argument("max_receive_bytes", unlimited=True),
    "grpc.max_send_message_length": _Argument("max_send_bytes", unlimited=True),
    _SOFT: _Argument("max_header_bytes"),
    _HARD: _Argument("max_header_bytes"),
    "grpc.http2.hpack_table_size.decoder": _Argument("header_table_bytes"),
    "grpc.http2.max_frame_size": _Argument("max_frame_bytes", least=2**14, most=2**24 - 1),
    "grpc.http2.lookahead_bytes": _Argument("call_window", least=5),
    "grpc.keepalive_time_ms": _Argument("asked_every_ms", accepted=-_INT32_MAX - 1, least=1),
    "grpc.keepalive_timeout_ms": _Argument("answered_within_ms", accepted=-_INT32_MAX - 1),
    "grpc.server_handshake_timeout_ms": _Argument("keys_within_ms", accepted=-_INT32_MAX - 1, least=1),
    "grpc.max_connection_idle_ms": _Argument("max_idle_ms", accepted=1, least=1),
    "grpc.max_connection_age_ms": _Argument("max_age_ms", accepted=1, least=1),
    "grpc.max_connection_age_grace_ms": _Argument("max_age_grace_ms"),
}
EFFECTIVE = tuple(_ARGUMENTS)
"""The names of the arguments that have an effect."""


def read(text: str) -> tuple[GrpcLimits, list[str]]:
    """Returns the limits in the flag's value, and a line for each part not applied as written."""
    given, lines = _split(text)
    unknown = [name for name in given if name not in _ARGUMENTS]
    if unknown:
        lines.append(f"no effect here: {', '.join(unknown)} (the gRPC port is not served by gRPC's C core)")
    values: dict[str, int] = {}
    for name in (name for name in given if name in _ARGUMENTS):
        value, line = _understood(name, given[name])
        if value is not None:
            values[name] = value
        if line:
            lines.append(line)
    return _limits(values), [f"--grpc_channel_arguments: {line}" for line in lines]


def _split(text: str) -> tuple[dict[str, str], list[str]]:
    """Splits the flag's value into name → value, the last one winning, and a line for each malformed item."""
    given: dict[str, str] = {}
    lines: list[str] = []
    for item in text.split(",") if text else ():
        name, equals, value = item.partition("=")
        if equals and name.strip():
            given[name.strip()] = value.strip()
        else:
            lines.append(f"expected name=value, got {item!r}: left out")
    return given, lines


def _understood(name: str, text: str) -> tuple[int | None, str]:
    """Returns the value, None if it is ignored, and a line about it or ""."""
    argument = _ARGUMENTS[name]
    value = _int32(text)
    if value is None:
        return None, f"{name} expects a whole number of 32 bits, got {text!r}: left out"
    if value < 0 and argument.unlimited:
        return argument.most, ""
    if value < argument.accepted:
        return None, f"{name} expects at least {argument.accepted}, got {value}: left out"
    nearest = min(max(value, argument.least), argument.most)
    if nearest != value:
        expected = f"{argument.least} to {argument.most}"
        return nearest, f"{name} expects {expected}, got {value}: {nearest} is used"
    return value, ""


def _int32(text: str) -> int | None:
    """Returns a number if TensorFlow Serving sees one; it passes others as strings, which gRPC ignores."""
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return None
    value = int(text)
    return value if -_INT32_MAX - 1 <= value <= _INT32_MAX else None


def _limits(values: dict[str, int]) -> GrpcLimits:
    fields = {_ARGUMENTS[name].field: value for name, value in values.items()}
    if _HARD in values:
        fields["max_header_bytes"] = values[_HARD]
    elif _SOFT in values:
        # The C core randomly refuses calls between the soft and the hard limit. Here none is refused: this is
        # the hard limit that follows from the soft one.
        fields["max_header_bytes"] = min(max(_HARD_DEFAULT, values[_SOFT] * 5 // 4), _INT32_MAX)
    return GrpcLimits(**fields)
