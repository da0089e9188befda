"""What ``--grpc_channel_arguments`` asks of the gRPC server.

They are arguments of gRPC's C core, which TensorFlow Serving is built on: ``name=value``, separated by
commas. Those that mean something here become ``GrpcLimits``; whatever else is said gets a line for the log,
and nothing is an error, as with TensorFlow Serving.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from servable.config.values import GrpcLimits

_INT32_MAX = 2**31 - 1
_SOFT, _HARD = "grpc.max_metadata_size", "grpc.absolute_max_metadata_size"
_HARD_DEFAULT = 16 * 1024
"""What the C core takes unless it is told; its soft limit may only raise it."""


@dataclass(frozen=True)
class _Argument:
    """One argument that has an effect.

    field: of ``GrpcLimits``. accepted: a lower value is left out, as by the C core. least, most: a value
    outside counts as the nearer of them. unlimited: a negative value lifts the limit.
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
"""The names of those that have an effect."""


def read(text: str) -> tuple[GrpcLimits, list[str]]:
    """The limits that the flag's value asks for, and a line for each thing in it that is not done as said."""
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
    """Name → value as written, the last one where there are several; a line for each item without either."""
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
    """The value, None where it is left out, and what there is to say about it."""
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
    """A number where TensorFlow Serving sees one; else it hands gRPC a string, which gRPC then ignores."""
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return None
    value = int(text)
    return value if -_INT32_MAX - 1 <= value <= _INT32_MAX else None


def _limits(values: dict[str, int]) -> GrpcLimits:
    fields = {_ARGUMENTS[name].field: value for name, value in values.items()}
    if _HARD in values:
        fields["max_header_bytes"] = values[_HARD]
    elif _SOFT in values:
        # The C core refuses some calls between the soft limit and the hard one, by chance. Here none is: this
        # is the hard limit that follows from the soft one.
        fields["max_header_bytes"] = min(max(_HARD_DEFAULT, values[_SOFT] * 5 // 4), _INT32_MAX)
    return GrpcLimits(**fields)
